#include <algorithm>
#include <array>
#include <vector>

#include <boost/json/array.hpp>

#include "gateway/ai/gemini/gemini.h"

namespace sluice::gateway::ai::gemini {
namespace {

constexpr int kMaxDepth = 32;      // of schemas within schemas
constexpr std::size_t kNode = 64;  // bytes that a value takes besides its text

constexpr std::array<std::string_view, 18> kPlain{
    "type",      "format",   "title",    "description",   "nullable",      "enum",
    "maxItems",  "minItems", "required", "minProperties", "maxProperties", "minLength",
    "maxLength", "pattern",  "example",  "default",       "minimum",       "maximum"};

bool is_plain(std::string_view key) {
  return std::ranges::find(kPlain, key) != kPlain.end();
}

// What it takes when it is written once more.
std::size_t size_of(const json::value& value) {  // NOLINT(misc-no-recursion)
  std::size_t size = kNode;
  if (const auto* text = value.if_string()) {
    size += text->size();
  } else if (const auto* array = value.if_array()) {
    for (const json::value& one : *array)
      size += size_of(one);
  } else if (const auto* object = value.if_object()) {
    for (const auto& [key, one] : *object)
      size += key.size() + size_of(one);
  }
  return size;
}

class Writer {
 public:
  Writer(const json::value& root, Untranslatable& lost, std::size_t& room)
      : root_(root), lost_(lost), room_(room), open_{&root} {}

  json::value write(const json::value& value, const std::string& path, int depth) {
    const json::object* schema = value.if_object();
    if (schema == nullptr) return json::object{};  // `true`: anything
    if (depth > kMaxDepth) {
      lost_.hint(path + ".$ref");
      return {{"type", "object"}};
    }
    if (!take(kNode + path.size(), path)) return {{"type", "object"}};
    if (const json::value* reference = schema->if_contains("$ref");
        reference && reference->is_string())
      return referred(reference->get_string(), path, depth);
    json::object out;
    for (const auto& member : *schema)
      keyword(member.key(), member.value(), path, depth, out);
    return out;
  }

 private:
  // A schema that names itself ends there: this API has no words for it.
  json::value referred(std::string_view reference, const std::string& path, int depth) {
    const json::value& named = resolve(reference, path);
    if (std::ranges::find(open_, &named) != open_.end()) {
      lost_.hint(path + ".$ref");
      return {{"type", "object"}};
    }
    open_.push_back(&named);
    json::value out = write(named, path, depth + 1);
    open_.pop_back();
    return out;
  }

  // Of what stands behind a reference, which is written wherever it is named: references to
  // references multiply. False: there is no room for it.
  bool take(std::size_t size, const std::string& path) {
    if (open_.size() == 1) return true;
    if (size <= room_) {
      room_ -= size;
      return true;
    }
    room_ = 0;
    lost_.fail(path, "is too large where its references are written out");
    return false;
  }

  void keyword(std::string_view key, const json::value& value, const std::string& path, int depth,
               json::object& out) {
    const std::string inner = path + '.' + std::string(key);
    const bool copied = key == "type" || key == "const" || is_plain(key);
    if (!take(inner.size() + (copied ? size_of(value) : 0), inner)) return;
    if (key == "type") return type(value, out);
    if (key == "const") {
      out["enum"] = json::array{value};
    } else if (key == "properties") {
      properties(value, inner, depth, out);
    } else if (key == "items") {
      out["items"] = write(value, inner, depth + 1);
    } else if (key == "anyOf" || key == "oneOf") {
      alternatives(value, inner, depth, out);
    } else if (key == "allOf" && value.is_array() && value.get_array().size() == 1) {
      const json::value only = write(value.get_array().front(), inner, depth + 1);
      for (const auto& member : only.get_object())
        out[member.key()] = member.value();
    } else if (is_plain(key)) {
      out[key] = value;
    } else if (key != "$defs" && key != "definitions" && key != "$schema" && key != "$id") {
      lost_.hint(inner);
    }
  }

  void type(const json::value& value, json::object& out) {
    const json::array* types = value.if_array();
    if (types == nullptr) {
      out["type"] = value;
      return;
    }
    json::array others;
    for (const json::value& one : *types) {
      if (one == "null")
        out["nullable"] = true;
      else
        others.push_back(one);
    }
    if (others.size() == 1) {
      out["type"] = others.front();
      return;
    }
    json::array any;
    for (const json::value& one : others)
      any.push_back(json::object{{"type", one}});
    if (!any.empty()) out["anyOf"] = std::move(any);
  }

  void properties(const json::value& value, const std::string& path, int depth, json::object& out) {
    const json::object* named = value.if_object();
    if (named == nullptr) return;
    json::object written;
    for (const auto& member : *named)
      written[member.key()] =
          write(member.value(), path + '.' + std::string(member.key()), depth + 1);
    out["properties"] = std::move(written);
  }

  void alternatives(const json::value& value, const std::string& path, int depth,
                    json::object& out) {
    const json::array* list = value.if_array();
    if (list == nullptr) return;
    json::array any;
    for (std::size_t i = 0; i < list->size(); ++i) {
      json::value one = write((*list)[i], indexed(path, i), depth + 1);
      const json::value* type = one.get_object().if_contains("type");
      if (type != nullptr && *type == "null")
        out["nullable"] = true;
      else
        any.push_back(std::move(one));
    }
    if (any.size() != 1) {
      out["anyOf"] = std::move(any);
      return;
    }
    for (auto& member : any.front().get_object())
      out[member.key()] = member.value();
  }

  // "#/$defs/Name": a pointer into the schema itself.
  const json::value& resolve(std::string_view reference, const std::string& path) {
    static const json::value kAnything = json::object{};
    boost::system::error_code error;
    const json::value* found =
        reference.starts_with('#') ? root_.find_pointer(reference.substr(1), error) : nullptr;
    if (found != nullptr) return *found;
    lost_.hint(path + ".$ref");
    return kAnything;
  }

  const json::value& root_;
  Untranslatable& lost_;
  std::size_t& room_;
  std::vector<const json::value*> open_;  // the whole, and what is being written for references
};

}  // namespace

json::value write_schema(const json::value& schema, const std::string& path, Untranslatable& lost,
                         std::size_t& room) {
  return Writer(schema, lost, room).write(schema, path, 0);
}

}  // namespace sluice::gateway::ai::gemini
