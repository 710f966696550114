// From the tree to `access`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"

namespace sluice::policy::binding {

namespace {

void claim(const Node& node, ClaimMatch& out) {
  if (node.kind == Node::Kind::scalar) {
    out.name = node.text;
    return;
  }
  optional(node, "name", out.name);
  for (const auto& [key, kind] :
       {std::pair{"exact", ClaimMatch::Kind::exact}, std::pair{"has", ClaimMatch::Kind::has},
        std::pair{"regex", ClaimMatch::Kind::regex}}) {
    const Node* value = node.find(key);
    if (value == nullptr) continue;
    out.kind = kind;
    read(*value, out.value);
  }
}

void sources(const Node& node, std::string_view key, const Reporter& reporter,
             std::vector<AccessSource>& out) {
  each(node, key, [&](const Node& element) {
    AccessSource& source = out.emplace_back();
    source.where = reporter.locate(element.where());
    const Node* cidr = element.kind == Node::Kind::scalar ? &element : element.find("cidr");
    if (const Node* set = element.find("set")) {
      source.set.emplace().name = set->text;
      source.set->where = reporter.locate(set->at);
    }
    if (const Node* named = element.find("pods")) source.set = pods(*named, reporter);
    optional(element, "identity", source.identity);
    if (const Node* child = element.find("claim")) claim(*child, source.claim.emplace());
    if (cidr) take(Prefix::parse(cidr->text), source.cidr.emplace());
  });
}

}  // namespace

void access(const Node& node, const Reporter& reporter, AccessRules& out) {
  sources(node, "allow", reporter, out.allow);
  sources(node, "deny", reporter, out.deny);
}

}  // namespace sluice::policy::binding
