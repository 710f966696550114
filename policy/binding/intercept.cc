// From the tree to `intercept`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void caught(const Node& node, const Reporter& reporter, Intercept& out) {
  prefixes_and_pods(node, "from", reporter, out.from, out.from_pods);
  optional(node, "to", out.to);
  if (const Node* except = node.find("except")) {
    prefixes_and_pods(*except, "from", reporter, out.except.from, out.except.from_pods);
    optional(*except, "to", out.except.to);
  }
  optional(node, "ports", out.ports);
  optional(node, "cgroups", out.cgroups);
  optional(node, "listener", out.listener);
  optional_word(node, "on_exit", kOnExitWords, out.on_exit);
  optional(node, "lease", out.lease);
  optional_word(node, "steering", kSteerForwardByWords, out.steering);
  optional_word(node, "on_change", kOnChangeWords, out.on_change);
  optional_word(node, "quic", kQuicWords, out.quic);
  optional(node, "take_over", out.take_over);
  out.where = reporter.locate(node.where());
}

void passing(const Node& node, const Reporter& reporter, Intercept& out) {
  out.to = {{IpAddress::v4(0), 0}, {IpAddress(), 0}};
  caught(node, reporter, out);
}

}  // namespace

void intercept(const Node& node, const Reporter& reporter, InterceptConfig& out) {
  if (const Node* marks = node.find("marks")) {
    out.marks.where = reporter.locate(marks->where());
    optional(*marks, "mark", out.marks.mark);
    optional(*marks, "mask", out.marks.mask);
    optional(*marks, "table", out.marks.table);
    optional(*marks, "priority", out.marks.priority);
  }
  if (const Node* tc = node.find("tc")) {
    out.tc.where = reporter.locate(tc->where());
    optional(*tc, "interfaces", out.tc.interfaces);
  }
  each(node, "local", [&](const Node& e) { caught(e, reporter, out.local.emplace_back()); });
  each(node, "forward", [&](const Node& e) { passing(e, reporter, out.forward.emplace_back()); });
  each(node, "output", [&](const Node& e) {
    Intercept& entry = out.output.emplace_back();
    entry.on_exit = OnExit::bypass;
    passing(e, reporter, entry);
  });
}

}  // namespace sluice::policy::binding
