// From the tree to `upstreams`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void endpoint(const Node& node, const Reporter& reporter, Endpoint& out) {
  out.where = reporter.locate(node.where());
  if (node.kind == Node::Kind::scalar) return read(node, out.address);
  optional(node, "address", out.address);
  optional(node, "weight", out.weight);
}

void health_check(const Node& node, HealthCheck& out) {
  optional(node, "http", out.http_path);
  optional(node, "interval", out.interval);
  optional(node, "timeout", out.timeout);
  optional(node, "unhealthy_threshold", out.unhealthy_threshold);
  optional(node, "healthy_threshold", out.healthy_threshold);
}

void outlier_detection(const Node& node, OutlierDetection& out) {
  optional(node, "consecutive_5xx", out.consecutive_5xx);
  optional(node, "consecutive_connect_failures", out.consecutive_connect_failures);
  optional(node, "base_ejection_time", out.base_ejection_time);
  optional(node, "max_ejection_percent", out.max_ejection_percent);
}

void retry(const Node& node, Retry& out) {
  optional(node, "attempts", out.attempts);
  if (const Node* budget = node.find("budget"))
    take(parse_percent(budget->text), out.budget_percent);
  const Node* retry_on = node.find("retry_on");
  if (!retry_on) return;
  out.retry_on = 0;
  for (const Node& condition : retry_on->children) {
    const auto word = std::ranges::find(kRetryOnWords, condition.text);
    if (word != kRetryOnWords.end()) out.retry_on |= 1u << (word - kRetryOnWords.begin());
  }
}

}  // namespace

void upstream(const Node& node, const Reporter& reporter, Upstream& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  if (const Node* endpoints = node.find("endpoints")) {
    out.original_destination = endpoints->text == kOriginalDestination;
    for (const Node& element : endpoints->children)
      endpoint(element, reporter, out.endpoints.emplace_back());
  }
  optional_word(node, "protocol", kUpstreamProtocolWords, out.protocol);
  optional_word(node, "source_address", kSourceAddressWords, out.source_address);
  optional_word(node, "lb_policy", kLbPolicyWords, out.lb_policy);
  if (const Node* child = node.find("health_check"))
    health_check(*child, out.health_check.emplace());
  if (const Node* child = node.find("outlier_detection")) {
    outlier_detection(*child, out.outlier_detection);
  }
  if (const Node* child = node.find("circuit_breakers")) {
    optional(*child, "connections", out.max_connections);
  }
  if (const Node* child = node.find("timeouts")) {
    optional(*child, "connect", out.timeouts.connect);
    optional(*child, "first_byte", out.timeouts.first_byte);
    optional(*child, "idle", out.timeouts.idle);
  }
  if (const Node* child = node.find("retry")) retry(*child, out.retry);
}

}  // namespace sluice::policy::binding
