#include <algorithm>
#include <array>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/anthropic/anthropic.h"

namespace sluice::gateway::ai::anthropic {
namespace {

constexpr std::array<std::string_view, 10> kStringFormats{
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"};
constexpr std::array<std::string_view, 4> kCopied{"title", "description", "required", "$ref"};
constexpr std::array<std::string_view, 2> kDialect{"$schema", "$id"};

template <std::size_t kSize>
bool is_one_of(const std::array<std::string_view, kSize>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

// Also among others: "object" of ["object", "null"].
bool has_type(const json::object& schema, std::string_view word) {
  const json::value* type = schema.if_contains("type");
  if (type == nullptr) return false;
  if (const json::array* several = type->if_array())
    return std::ranges::find(*several, json::value(word)) != several->end();
  return *type == json::value(word);
}

bool is_literal(std::string_view key, const json::value& value) {
  const auto simple = [](const json::value& one) { return !one.is_structured(); };
  if (key == "const") return simple(value);
  return key == "enum" && value.is_array() && !value.get_array().empty() &&
         std::ranges::all_of(value.get_array(), simple);
}

class SchemaWriter {
 public:
  explicit SchemaWriter(Untranslatable& lost) : lost_(lost) {}

  // NOLINTNEXTLINE(misc-no-recursion): a JSON text is not deeper than its parser lets it be
  json::value write(const json::value& value, const std::string& path) {
    const json::object* schema = value.if_object();
    if (schema == nullptr) return value;
    json::object out;
    std::string unsaid;
    for (const auto& [key, said] : *schema) {
      if (keyword(key, said, *schema, path, out)) continue;
      unsaid += (unsaid.empty() ? "{" : ", ") + std::string(key) + ": " + json::serialize(said);
      lost_.hint(path + '.' + std::string(key));
    }
    if (schema->contains("$ref")) return alone(out);
    if (is_object(*schema)) close(*schema, path, out);
    if (!unsaid.empty()) describe(unsaid + '}', out);
    return out;
  }

 private:
  static bool is_object(const json::object& schema) {
    return has_type(schema, "object") || schema.contains("properties");
  }

  // False: this API has no word for it.
  bool keyword(std::string_view key, const json::value& value,  // NOLINT(misc-no-recursion)
               const json::object& schema, const std::string& path, json::object& out) {
    const std::string inner = path + '.' + std::string(key);
    if (is_one_of(kCopied, key)) {
      out[key] = value;
    } else if (key == "type") {
      if (!has_literals(schema)) out[key] = value;
    } else if (key == "properties" || key == "$defs" || key == "definitions") {
      out[key] = named(value, inner);
    } else if (key == "anyOf" || key == "oneOf" || key == "allOf") {
      out[key == "oneOf" ? "anyOf" : key] = list(value, inner);
    } else if (key == "items" && !value.is_array()) {
      out[key] = write(value, inner);
    } else if (is_literal(key, value) || is_taken(key, value, schema)) {
      out[key] = value;
    } else {
      return is_one_of(kDialect, key) || key == "additionalProperties";  // closed in any case
    }
    return true;
  }

  static bool has_literals(const json::object& schema) {
    return std::ranges::any_of(
        schema, [](const auto& member) { return is_literal(member.key(), member.value()); });
  }

  static bool is_taken(std::string_view key, const json::value& value, const json::object& schema) {
    if (key == "format")
      return has_type(schema, "string") && value.is_string() &&
             is_one_of(kStringFormats, value.get_string());
    return key == "minItems" && (value == 0 || value == 1);
  }

  json::value named(const json::value& value,
                    const std::string& path) {  // NOLINT(misc-no-recursion)
    const json::object* schemas = value.if_object();
    if (schemas == nullptr) return value;
    json::object out;
    for (const auto& [name, schema] : *schemas)
      out[name] = write(schema, path + '.' + std::string(name));
    return out;
  }

  json::value list(const json::value& value,
                   const std::string& path) {  // NOLINT(misc-no-recursion)
    const json::array* schemas = value.if_array();
    if (schemas == nullptr) return value;
    json::array out;
    for (std::size_t i = 0; i < schemas->size(); ++i)
      out.push_back(write((*schemas)[i], indexed(path, i)));
    return out;
  }

  // A reference has nothing beside it, but for what others refer to.
  static json::value alone(const json::object& schema) {
    json::object out;
    for (const std::string_view key : {"$defs", "definitions", "$ref"})
      if (const json::value* said = schema.if_contains(key)) out[key] = *said;
    return out;
  }

  void close(const json::object& schema, const std::string& path, json::object& out) {
    const json::value* more = schema.if_contains("additionalProperties");
    if (more != nullptr && *more != false) lost_.hint(path + ".additionalProperties");
    out["additionalProperties"] = false;
  }

  static void describe(const std::string& unsaid, json::object& out) {
    const json::value* said = out.if_contains("description");
    const bool described = said != nullptr && said->is_string() && !said->get_string().empty();
    out["description"] = described ? std::string(said->get_string()) + "\n\n" + unsaid : unsaid;
  }

  Untranslatable& lost_;
};

}  // namespace

json::value write_schema(const json::value& schema, const std::string& path, Untranslatable& lost) {
  return SchemaWriter(lost).write(schema, path);
}

}  // namespace sluice::gateway::ai::anthropic
