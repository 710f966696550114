// From the tree to `overload`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"

namespace sluice::policy::binding {

void overload(const Node& node, Overload& out) {
  optional(node, "max_connections", out.max_connections);
  if (const Node* child = node.find("max_memory")) read_size(*child, out.max_memory);
  if (const Node* child = node.find("shed_at")) take(parse_percent(child->text), out.shed_percent);
  optional(node, "retry_after", out.retry_after);
}

}  // namespace sluice::policy::binding
