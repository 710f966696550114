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

struct Format {
  std::string_view type;
  std::string_view word;
};
constexpr std::array<Format, 6> kFormats{{{"string", "enum"},
                                          {"string", "date-time"},
                                          {"number", "float"},
                                          {"number", "double"},
                                          {"integer", "int32"},
                                          {"integer", "int64"}}};

// What can be said of values of one type alone.
struct Word {
  std::string_view word;
  std::string_view type;
};
constexpr std::array<Word, 14> kWords{{{"items", "array"},
                                       {"minItems", "array"},
                                       {"maxItems", "array"},
                                       {"properties", "object"},
                                       {"required", "object"},
                                       {"minProperties", "object"},
                                       {"maxProperties", "object"},
                                       {"pattern", "string"},
                                       {"minLength", "string"},
                                       {"maxLength", "string"},
                                       {"minimum", "number"},
                                       {"minimum", "integer"},
                                       {"maximum", "number"},
                                       {"maximum", "integer"}}};

// Types are in capitals where callers know this API.
bool is_type(const json::object& schema, std::string_view word) {
  const json::value* type = schema.if_contains("type");
  return type != nullptr && type->is_string() &&
         std::ranges::equal(type->get_string(), word,
                            [](char one, char other) { return (one | 0x20) == other; });
}

// "": of no one type.
std::string_view type_of(const json::value& value) {
  if (value.is_string()) return "string";
  if (value.is_bool()) return "boolean";
  if (value.is_double()) return "number";
  return value.is_number() ? "integer" : "";
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
    settle(path, out);
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

  // What this API refuses of keywords that it has, once all of a schema are there.
  void settle(const std::string& path, json::object& out) {  // NOLINT(misc-no-recursion)
    if (out.contains("enum")) enumeration(json::value(out.at("enum")), path, out);
    if (!out.contains("type") && !out.contains("anyOf")) {
      if (out.contains("properties"))
        out["type"] = "object";
      else if (out.contains("items"))
        out["type"] = "array";
    }
    if (out.contains("type") || spread(path, out)) misfits(path, out);
    if (const json::value* word = out.if_contains("format"); word && !has_format(*word, out)) {
      lost_.hint(path + ".format");
      out.erase("format");
    }
    if (is_type(out, "array")) items(out);
    if (out.contains("required")) required(path, out);
  }

  // What stands beside a list of types goes to those that it is of. False: there is none.
  bool spread(const std::string& path, json::object& out) {  // NOLINT(misc-no-recursion)
    json::value* any = out.if_contains("anyOf");
    json::array* types = any != nullptr ? any->if_array() : nullptr;
    const auto bare = [](const json::value& one) {
      return one.get_object().size() == 1 && one.get_object().contains("type");
    };
    if (types == nullptr || !std::ranges::all_of(*types, bare)) return false;
    const json::value* format = out.if_contains("format");
    json::array written = *types;
    for (json::value& one : written) {
      json::object& schema = one.get_object();
      for (const Word& known : kWords)
        if (is_type(schema, known.type) && out.contains(known.word))
          schema[known.word] = out.at(known.word);
      if (format != nullptr && has_format(*format, schema)) schema["format"] = *format;
      settle(path, schema);
    }
    const auto has = [&](std::string_view word) {
      return std::ranges::any_of(
          written, [&](const json::value& one) { return one.get_object().contains(word); });
    };
    for (const Word& known : kWords)
      if (has(known.word)) out.erase(known.word);
    if (has("format")) out.erase("format");
    out["anyOf"] = std::move(written);
    return true;
  }

  // Lists and objects alone have parts.
  void misfits(const std::string& path, json::object& out) {
    for (const Word known : {Word{"items", "array"}, Word{"properties", "object"}}) {
      const json::value* parts = out.if_contains(known.word);
      if (parts == nullptr || is_type(out, known.type)) continue;
      if (!parts->is_object() || !parts->get_object().empty())
        lost_.hint(path + '.' + std::string(known.word));
      out.erase(known.word);
    }
  }

  // Of strings alone, none of which is empty.
  void enumeration(const json::value& value, const std::string& path, json::object& out) {
    const json::array* all = value.if_array();
    json::array words;
    std::string_view type;
    bool same = all != nullptr;
    for (std::size_t i = 0; all != nullptr && i < all->size(); ++i) {
      const json::value& one = (*all)[i];
      if (one.is_null()) {
        out["nullable"] = true;
        continue;
      }
      same = same && (type.empty() || type == type_of(one));
      type = type_of(one);
      if (one != "") words.push_back(one);
    }
    const bool whole = all != nullptr && (words.size() == all->size() || out.contains("nullable"));
    out.erase("enum");
    if (same && !type.empty() && !out.contains("type")) {
      out.erase("anyOf");
      out["type"] = type;
    }
    const bool kept = same && type == "string" && is_type(out, "string") && !words.empty();
    if (!kept || !whole) lost_.hint(path + ".enum");
    if (kept) out["enum"] = std::move(words);
  }

  static bool has_format(const json::value& word, const json::object& schema) {
    return std::ranges::any_of(kFormats, [&](const Format& format) {
      return word == json::value(format.word) && is_type(schema, format.type);
    });
  }

  // It must be said of what, and a text can say anything.
  static void items(json::object& out) {
    json::value& items = out["items"];
    if (!items.is_object() || items.get_object().empty()) items = {{"type", "string"}};
  }

  void required(const std::string& path, json::object& out) {
    const json::value* known = out.if_contains("properties");
    const json::object* properties = known != nullptr ? known->if_object() : nullptr;
    const json::array* all = out.at("required").if_array();
    json::array names;
    for (std::size_t i = 0; all != nullptr && i < all->size(); ++i) {
      const json::value& name = (*all)[i];
      if (name.is_string() && properties != nullptr && properties->contains(name.get_string()))
        names.push_back(name);
    }
    if (all == nullptr || names.size() < all->size()) lost_.hint(path + ".required");
    if (names.empty())
      out.erase("required");
    else
      out["required"] = std::move(names);
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
      if (one.get_object().empty()) return;  // one is anything, and so are all
      const json::value* type = one.get_object().if_contains("type");
      if (type != nullptr && *type == "null")
        out["nullable"] = true;
      else
        any.push_back(std::move(one));
    }
    if (any.empty()) return;
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
