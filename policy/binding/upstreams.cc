// From the tree to `upstreams`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy {

std::string Endpoint::text() const {
  if (is_service()) {
    const std::string name = kubernetes.service + "." + kubernetes.name_space + ".svc";
    return kubernetes.port.empty() ? name : name + ":" + kubernetes.port;
  }
  if (!srv.empty()) return srv;
  if (!dns.empty()) return dns + ":" + std::to_string(port);
  return address.to_string();
}

}  // namespace sluice::policy

namespace sluice::policy::binding {

namespace {

void endpoint(const Node& node, const Reporter& reporter, Endpoint& out) {
  out.where = reporter.locate(node.where());
  if (node.kind == Node::Kind::scalar) return read(node, out.address);
  optional(node, "address", out.address);
  if (const Node* dns = node.find("dns")) {
    const std::size_t colon = dns->text.rfind(':');
    out.dns = lower(dns->text.substr(0, colon));
    if (colon != std::string::npos) {
      out.port = PortRange::parse(dns->text.substr(colon + 1)).value_or(PortRange{}).first;
    }
  }
  if (const Node* srv = node.find("srv")) out.srv = lower(srv->text);
  if (const Node* service = node.find("kubernetes")) kubernetes_service(*service, out.kubernetes);
  out.nowhere = !node.find("address") && !node.find("dns") && !node.find("srv") &&
                !node.find("kubernetes");
  optional_word(node, "family", kAddressFamilyWords, out.family);
  optional(node, "weight", out.weight);
  optional(node, "priority", out.priority);
}

void hash_on(const Node& node, HashOn& out) {
  optional(node, "header", out.header);
  out.header = lower(out.header);
  optional(node, "cookie", out.cookie);
}

void sticky(const Node& node, Sticky& out) {
  optional(node, "cookie", out.cookie);
  optional(node, "key", out.key);
  optional(node, "max_age", out.max_age);
}

void dns(const Node& node, Dns& out) {
  optional(node, "resolvers", out.resolvers);
  optional(node, "min_ttl", out.min_ttl);
  optional(node, "timeout", out.timeout);
}

void circuit_breakers(const Node& node, CircuitBreakers& out) {
  optional(node, "connections", out.connections);
  optional(node, "endpoint_connections", out.endpoint_connections);
  optional(node, "pending", out.pending);
  optional(node, "requests", out.requests);
  optional(node, "retries", out.retries);
}

void health_check(const Node& node, HealthCheck& out) {
  optional(node, "http", out.http_path);
  optional(node, "grpc", out.grpc);
  optional(node, "interval", out.interval);
  optional(node, "timeout", out.timeout);
  optional(node, "unhealthy_threshold", out.unhealthy_threshold);
  optional(node, "healthy_threshold", out.healthy_threshold);
}

void success_rate(const Node& node, SuccessRate& out) {
  optional(node, "interval", out.interval);
  optional(node, "minimum_hosts", out.minimum_hosts);
  optional(node, "request_volume", out.request_volume);
  optional(node, "stdev_factor", out.stdev_factor);
}

void outlier_detection(const Node& node, OutlierDetection& out) {
  optional(node, "consecutive_5xx", out.consecutive_5xx);
  optional(node, "consecutive_gateway_errors", out.consecutive_gateway_errors);
  optional(node, "consecutive_connect_failures", out.consecutive_connect_failures);
  optional(node, "base_ejection_time", out.base_ejection_time);
  optional(node, "max_ejection_percent", out.max_ejection_percent);
  if (const Node* child = node.find("success_rate")) {
    success_rate(*child, out.success_rate.emplace());
  }
}

void retry(const Node& node, Retry& out) {
  optional(node, "attempts", out.attempts);
  optional(node, "per_try_timeout", out.per_try_timeout);
  optional(node, "back_off", out.back_off);
  optional(node, "max_back_off", out.max_back_off);
  optional(node, "max_retry_after", out.max_retry_after);
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
  optional_word(node, "express", kExpressWords, out.express);
  optional_word(node, "lb_policy", kLbPolicyWords, out.lb_policy);
  optional_word(node, "send_proxy_protocol", kSendProxyProtocolWords, out.send_proxy_protocol);
  if (const Node* child = node.find("tls")) upstream_tls(*child, reporter, out.tls.emplace());
  if (const Node* child = node.find("health_check"))
    health_check(*child, out.health_check.emplace());
  if (const Node* child = node.find("outlier_detection")) {
    outlier_detection(*child, out.outlier_detection);
  }
  if (const Node* child = node.find("hash_on")) hash_on(*child, out.hash_on.emplace());
  if (const Node* child = node.find("sticky")) sticky(*child, out.sticky.emplace());
  optional(node, "slow_start", out.slow_start);
  if (const Node* child = node.find("panic_threshold"))
    take(parse_percent(child->text), out.panic_percent);
  optional(node, "queue_timeout", out.queue_timeout);
  if (const Node* child = node.find("dns")) dns(*child, out.dns);
  if (const Node* child = node.find("circuit_breakers"))
    circuit_breakers(*child, out.circuit_breakers);
  if (const Node* child = node.find("timeouts")) {
    optional(*child, "connect", out.timeouts.connect);
    optional(*child, "first_byte", out.timeouts.first_byte);
    optional(*child, "body_idle", out.timeouts.body_idle);
    optional(*child, "idle", out.timeouts.idle);
  }
  if (const Node* child = node.find("retry")) retry(*child, out.retry);
}

}  // namespace sluice::policy::binding
