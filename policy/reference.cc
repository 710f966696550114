#include "policy/reference.h"

#include <string_view>

#include "policy/field_template.h"
#include "policy/schema.h"
#include "policy/value_shape.h"

namespace sluice::policy {

namespace {

// Within a table's cell.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string code(std::string_view text) {
  return text.empty() ? "" : "`" + cell(text) + "`";
}

std::string words_of(const Field& field) {
  std::string list;
  for (const std::string_view word : field.words)
    list += (list.empty() ? "" : ", ") + code(word);
  return list;
}

std::string type_of(const Field& field) {
  std::string type(shape_of(field.type).title);
  if (field.type == Type::word) {
    type = words_of(field);
  } else if (!field.words.empty() && field.shape == Shape::one) {
    type += " or " + words_of(field);
  }
  if (!field.refers.empty()) {
    type += ", of `" + std::string(field.refers) + "`";
  }
  const std::string range = range_of(field);
  if (!range.empty()) type += ", " + range;
  if (field.shape == Shape::list) type = "list of: " + type;
  if (field.shape == Shape::map) type = "by name: " + type;
  if (field.shape == Shape::list && field.type != Type::word && !field.words.empty()) {
    type += "; or " + words_of(field);
  }
  return type;
}

void put_row(const Field& field, std::string& out) {
  out += "| `" + std::string(field.name) + "` | " + type_of(field) + " | " +
         (field.required ? "required" : code(field.fallback)) + " | " + cell(field.doc) + " | " +
         code(field.example) + " |\n";
}

std::string step(const Field& field, std::string_view path) {
  std::string next =
      path.empty() ? std::string(field.name) : std::string(path) + "." + std::string(field.name);
  if (field.shape == Shape::list) next += "[]";
  if (field.shape == Shape::map) next += ".NAME";
  return next;
}

void put_object(const Field& field, const std::string& path, std::string& out) {
  out += path.empty() ? "## Top level\n\n" : "## " + path + "\n\n";
  if (!path.empty()) {
    out += std::string(field.doc);
    if (!field.shorthand.empty()) {
      out += " A bare value stands for `" + std::string(field.shorthand) + "`.";
    }
    out += "\n\n";
  }
  out += "| key | value | default | meaning | example |\n|---|---|---|---|---|\n";
  for (const Field& child : field.children)
    put_row(child, out);
  out += "\n";
  for (const Field& child : field.children) {
    if (child.type == Type::object) put_object(child, step(child, path), out);
  }
}

void put_variables(std::string& out) {
  out +=
      "## Variables\n\n"
      "In the values of `request_headers` and `response_headers`; `%%` stands for `%`. Bytes that "
      "could end a line become `?`.\n\n"
      "| variable | stands for |\n|---|---|\n";
  for (const VariableInfo& variable : variables())
    out += "| `%" + std::string(variable.name) + "%` | " + cell(variable.doc) + " |\n";
  out += "\n";
}

}  // namespace

std::string reference() {
  std::string out =
      "# The policy file\n\n"
      "Made from the table that the parser checks against (`sluice schema` prints it for editors); a "
      "test keeps it true.\n\n"
      "- A duration is a whole number with `us`, `ms`, `s`, `m`, `h` or `d`; a size one with "
      "`B`, `KiB`, `MiB` or `GiB`; a rate one with `/s`, `/m`, `/h` or `/d`.\n"
      "- Regular expressions are RE2's (no look-around, no back-references) and stand for the "
      "whole text.\n"
      "- `NAME` is a name of yours; `[]` an element of a list.\n\n";
  put_object(schema(), "", out);
  put_variables(out);
  while (out.ends_with("\n\n"))
    out.pop_back();
  return out;
}

}  // namespace sluice::policy
