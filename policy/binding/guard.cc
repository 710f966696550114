// From the tree to `guard`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void guard_match(const Node& node, GuardMatch& out) {
  optional(node, "from", out.from);
  optional(node, "to", out.to);
  optional(node, "from_ports", out.from_ports);
  optional(node, "to_ports", out.to_ports);
}

}  // namespace

void guard(const Node& node, const Reporter& reporter, GuardConfig& out) {
  optional(node, "interfaces", out.interfaces);
  optional_word(node, "attach", kGuardAttachWords, out.attach);
  if (const Node* position = node.find("position")) out.first = position->text != "last";
  each(node, "rules", [&](const Node& element) {
    GuardRule& rule = out.rules.emplace_back();
    rule.where = reporter.locate(element.where());
    optional(element, "name", rule.name);
    guard_match(element, rule.match);
    if (const Node* except = element.find("except")) guard_match(*except, rule.except);
    if (const Node* protocol = element.find("protocol")) {
      rule.protocol = parse_ip_protocol(protocol->text);
    }
    optional_word(element, "action", kGuardActionWords, rule.action);
  });
}

}  // namespace sluice::policy::binding
