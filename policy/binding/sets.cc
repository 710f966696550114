// From the tree to `sets`.
#include <algorithm>
#include <utility>

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
  if (const Node* selected = element.find("pods")) out.sets.push_back(pods(*selected, reporter));
}

PodSelector selector(const Node& node) {
  PodSelector out;
  optional(node, "namespace", out.name_space);
  each(node, "labels", [&](const Node& label) { out.labels.emplace_back(label.key, label.text); });
  std::ranges::sort(out.labels);
  return out;
}

// A list, or an element without brackets.
template <typename Use>
void each_element(const Node& node, std::string_view key, Use use) {
  const Node* field = node.find(key);
  if (!field) return;
  if (field->kind != Node::Kind::list) return use(*field);
  for (const Node& element : field->children)
    use(element);
}

}  // namespace

SetReference pods(const Node& node, const Reporter& reporter) {
  PodSelector selected = selector(node);
  std::string name = selected.text();
  return {.name = std::move(name),
          .where = reporter.locate(node.where()),
          .pods = std::move(selected)};
}

void prefixes_and_pods(const Node& node, std::string_view key, const Reporter& reporter,
                       std::vector<Prefix>& prefixes, std::vector<SetReference>& selected) {
  each_element(node, key, [&](const Node& element) {
    const Node* cidr = element.kind == Node::Kind::scalar ? &element : element.find("cidr");
    if (cidr) read(*cidr, prefixes.emplace_back());
    if (const Node* named = element.find("pods")) selected.push_back(pods(*named, reporter));
  });
}

void addresses(const Node& node, std::string_view key, const Reporter& reporter,
               AddressMatch& out) {
  each_element(node, key, [&](const Node& element) { address(element, reporter, out); });
}

void set(const Node& node, const Reporter& reporter, SetConfig& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  optional(node, "elements", out.elements);
  optional_word(node, "format", kSetFormatWords, out.format);
  if (const Node* selected = node.find("pods")) out.pods = selector(*selected);
  const Node* file = node.find("file");
  if (!file || file->kind != Node::Kind::scalar || file->text.empty()) return;
  out.file_where = reporter.locate(file->at);
  out.file = beside(out.file_where.file, file->text);
}

}  // namespace sluice::policy::binding
