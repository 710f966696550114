// From the tree to `metrics and logs`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

void metrics(const Node& node, MetricsConfig& out) {
  optional(node, "bind", out.bind);
  optional(node, "allow", out.allow);
}

void logs(const Node& node, AccessLogConfig& out) {
  const Node* access = node.find("access");
  if (!access) return;
  optional_word(*access, "format", kLogFormatWords, out.format);
  optional(*access, "path", out.path);
  if (out.path == "stderr") out.path.clear();
}

}  // namespace sluice::policy::binding
