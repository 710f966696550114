#include "policy/json_schema.h"

#include <charconv>
#include <limits>
#include <string_view>

#include "policy/schema.h"
#include "policy/units.h"
#include "policy/value_shape.h"

namespace sluice::policy {

namespace {

std::string quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (octet < 0x20) {
      out += "\\u00";
      out += kHex[octet >> 4];
      out += kHex[octet & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

bool is_number(std::string_view text) {
  return parse_integer(text).has_value() && !text.starts_with("0x");
}

// Commas and indentation of nested objects.
class SchemaWriter {
 public:
  void open(std::string_view name, char bracket) {
    key(name);
    out_ += bracket;
    ++depth_;
    first_ = true;
  }
  void close(char bracket) {
    --depth_;
    if (!first_) line();
    out_ += bracket;
    first_ = false;
  }
  // `value` is JSON.
  void put(std::string_view name, std::string_view value) {
    key(name);
    out_ += value;
  }
  std::string take() { return std::move(out_) + "\n"; }

 private:
  void line() {
    out_ += '\n';
    out_.append(2 * depth_, ' ');
  }
  void key(std::string_view name) {
    if (!first_) out_ += ',';
    if (depth_ > 0) line();
    first_ = false;
    if (!name.empty()) out_ += quoted(name) + ": ";
  }

  std::string out_;
  std::size_t depth_ = 0;
  bool first_ = true;
};

void describe(const Field& field, SchemaWriter& out) {
  std::string text(field.doc);
  const std::string range = range_of(field);
  if (!range.empty()) text += " " + range + ".";
  if (!field.fallback.empty()) text += " Default: " + std::string(field.fallback) + ".";
  if (!field.example.empty()) text += " Example: " + std::string(field.example);
  out.put("description", quoted(text));
}

bool is_decimal(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

// A fallback is written as in YAML. Quoted there, it is JSON already.
void put_fallback(const Field& field, SchemaWriter& out) {
  const std::string_view fallback = field.fallback;
  if (fallback.empty() || field.shape != Shape::one || field.type == Type::object) return;
  const bool plain = is_number(fallback) || fallback == "true" || fallback == "false" ||
                     fallback.starts_with('"') ||
                     (field.type == Type::number && is_decimal(fallback));
  out.put("default", plain ? std::string(fallback) : quoted(fallback));
}

std::string enumeration(std::span<const std::string_view> words) {
  std::string list;
  for (const std::string_view word : words) {
    if (!list.empty()) list += ", ";
    list += quoted(word);
    if (is_number(word)) list += ", " + std::string(word);
  }
  return "[" + list + "]";
}

// YAML readers give strings, numbers and booleans; each as its own alternative.
void put_scalar(const Field& field, SchemaWriter& out) {
  if (field.type == Type::word) {
    out.put("enum", enumeration(field.words));
    return;
  }
  const ValueShape shape = shape_of(field.type);
  out.open("anyOf", '[');
  if (!field.words.empty()) {
    out.open("", '{');
    out.put("enum", enumeration(field.words));
    out.close('}');
  }
  if (shape.text) {
    out.open("", '{');
    out.put("type", "\"string\"");
    if (!shape.pattern.empty()) {
      out.put("pattern", quoted(shape.pattern));
    } else {
      out.put("minLength", "1");
    }
    out.close('}');
  }
  if (shape.integer || shape.decimal) {
    out.open("", '{');
    out.put("type", shape.decimal ? "\"number\"" : "\"integer\"");
    if (field.type == Type::integer || field.type == Type::number) {
      out.put("minimum", std::to_string(field.min));
      if (field.max != std::numeric_limits<std::int64_t>::max()) {
        out.put("maximum", std::to_string(field.max));
      }
    } else if (field.type == Type::port || field.type == Type::port_range) {
      out.put("minimum", "1");
      out.put("maximum", "65535");
    }
    out.close('}');
  }
  if (shape.boolean) {
    out.open("", '{');
    out.put("type", "\"boolean\"");
    out.close('}');
  }
  out.close(']');
}

void put_field(std::string_view name, const Field& field, SchemaWriter& out);

const Field* child_of(const Field& field, std::string_view name) {
  for (const Field& child : field.children) {
    if (child.name == name) return &child;
  }
  return nullptr;
}

void put_members(const Field& field, SchemaWriter& out) {
  std::string required;
  for (const Field& child : field.children) {
    if (child.required) required += (required.empty() ? "" : ", ") + quoted(child.name);
  }
  // `web:` with nothing behind it is an empty map.
  out.put("type", required.empty() ? "[\"object\", \"null\"]" : "\"object\"");
  out.put("additionalProperties", "false");
  if (!required.empty()) out.put("required", "[" + required + "]");
  out.open("properties", '{');
  for (const Field& child : field.children)
    put_field(child.name, child, out);
  out.close('}');
}

// One value of a field, whatever the field's shape.
void put_value(const Field& field, SchemaWriter& out) {
  if (field.type != Type::object) return put_scalar(field, out);
  const Field* shorthand = field.shorthand.empty() ? nullptr : child_of(field, field.shorthand);
  if (!shorthand) return put_members(field, out);
  out.open("anyOf", '[');
  out.open("", '{');
  put_scalar(*shorthand, out);
  out.close('}');
  out.open("", '{');
  put_members(field, out);
  out.close('}');
  out.close(']');
}

void put_list(const Field& field, SchemaWriter& out) {
  const bool word = field.type != Type::word && !field.words.empty();
  const bool instead = word || field.choice;
  if (instead) {
    out.open("anyOf", '[');
    out.open("", '{');
    if (word) {
      out.put("enum", enumeration(field.words));
    } else {
      put_members(field, out);
    }
    out.close('}');
    out.open("", '{');
  }
  if (needs_some(field)) {
    out.put("type", "\"array\"");
    out.put("minItems", "1");
  } else {
    out.put("type", "[\"array\", \"null\"]");
  }
  out.open("items", '{');
  Field element = field;
  if (field.type != Type::word) element.words = {};
  put_value(element, out);
  out.close('}');
  if (instead) {
    out.close('}');
    out.close(']');
  }
}

void put_field(std::string_view name, const Field& field, SchemaWriter& out) {
  out.open(name, '{');
  describe(field, out);
  put_fallback(field, out);
  switch (field.shape) {
    case Shape::one:
      put_value(field, out);
      break;
    case Shape::list:
      put_list(field, out);
      break;
    case Shape::map:
      out.put("type", "[\"object\", \"null\"]");
      if (!field.free_names) {
        out.open("propertyNames", '{');
        out.put("pattern", quoted(shape_of(Type::name).pattern));
        out.close('}');
      }
      out.open("additionalProperties", '{');
      put_value(field, out);
      out.close('}');
      break;
  }
  out.close('}');
}

}  // namespace

std::string json_schema() {
  SchemaWriter out;
  out.open("", '{');
  out.put("$schema", "\"https://json-schema.org/draft/2020-12/schema\"");
  out.put("title", "\"Sluice policy\"");
  put_members(schema(), out);
  out.close('}');
  return out.take();
}

}  // namespace sluice::policy
