// From the tree to `protect`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

void protect(const Node& node, const Reporter& reporter, Protect& out) {
  optional(node, "host_ports", out.host_ports);
  each(node, "from", [&](const Node& element) {
    ProtectFrom& from = out.from.emplace_back();
    if (element.kind == Node::Kind::scalar) {
      take(Prefix::parse(element.text), from.cidr);
    } else {
      optional(element, "cidr", from.cidr);
    }
    optional(element, "to_ports", from.to_ports);
    optional(element, "interfaces", from.interfaces);
    from.where = reporter.locate(element.where());
  });
}

}  // namespace sluice::policy::binding
