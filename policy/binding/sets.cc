// From the tree to `sets`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

std::string beside(const std::string& policy_file, const std::string& path) {
  const std::size_t slash = policy_file.rfind('/');
  if (path.starts_with('/') || slash == std::string::npos) return path;
  return policy_file.substr(0, slash + 1) + path;
}

void address(const Node& element, const Reporter& reporter, AddressMatch& out) {
  if (element.kind == Node::Kind::scalar) return read(element, out.prefixes.emplace_back());
  if (const Node* cidr = element.find("cidr")) read(*cidr, out.prefixes.emplace_back());
  if (const Node* name = element.find("set"))
    out.sets.push_back({.name = name->text, .where = reporter.locate(name->at)});
}

}  // namespace

void addresses(const Node& node, std::string_view key, const Reporter& reporter,
               AddressMatch& out) {
  const Node* field = node.find(key);
  if (!field) return;
  if (field->kind == Node::Kind::map) return address(*field, reporter, out);
  for (const Node& element : field->children)
    address(element, reporter, out);
}

void set(const Node& node, const Reporter& reporter, SetConfig& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  optional(node, "elements", out.elements);
  optional_word(node, "format", kSetFormatWords, out.format);
  const Node* file = node.find("file");
  if (!file || file->kind != Node::Kind::scalar || file->text.empty()) return;
  out.file_where = reporter.locate(file->at);
  out.file = beside(out.file_where.file, file->text);
}

}  // namespace sluice::policy::binding
