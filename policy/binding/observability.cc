// From the tree to `admin`, `metrics`, `tracing` and `logs`.
#include "policy/auth_url.h"
#include "policy/binding/paths.h"
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

void admin(const Node& node, const Reporter& reporter, AdminConfig& out) {
  out.where = reporter.locate(node.where());
  optional(node, "bind", out.bind);
  optional(node, "allow", out.allow);
  if (const Node* token = node.find("token")) out.token = secret_beside_policy(*token, reporter);
  optional(node, "hosts", out.hosts);
}

void metrics(const Node& node, MetricsConfig& out) {
  optional(node, "bind", out.bind);
  optional(node, "allow", out.allow);
}

// What is no URL keeps its text alone, which check_observability() reports.
void tracing(const Node& node, const Reporter& reporter, TracingConfig& out) {
  out.where = reporter.locate(node.where());
  if (const Node* endpoint = node.find("endpoint")) {
    out.url = parse_auth_url(endpoint->text).value_or(AuthUrl{});
    out.url.text = endpoint->text;
    if (out.url.target.ends_with('/')) out.url.target.pop_back();
    out.url.target += "/v1/traces";
  }
  if (const Node* sample = node.find("sample")) take(parse_share(sample->text), out.sample);
  optional(node, "service", out.service);
}

void logs(const Node& node, AccessLogConfig& out) {
  const Node* access = node.find("access");
  if (!access) return;
  optional_word(*access, "format", kLogFormatWords, out.format);
  optional(*access, "path", out.path);
  if (out.path == "stderr") out.path.clear();
}

}  // namespace sluice::policy::binding
