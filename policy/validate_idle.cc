// Settings that are well-formed and do nothing as they stand: most of them are slips.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "policy/ascii.h"
#include "policy/compression.h"
#include "policy/validate.h"

namespace sluice::policy {
namespace {

// Methods are told apart by case (RFC 9110 section 9.1), and these are all that have a name.
void check_methods(const Route& route, Reporter& reporter) {
  constexpr std::array<std::string_view, 9> kKnown{"GET",     "HEAD",  "POST",  "PUT",    "DELETE",
                                                   "OPTIONS", "PATCH", "TRACE", "CONNECT"};
  for (const std::string& method : route.methods) {
    std::string upper = method;
    std::ranges::transform(upper, upper.begin(), ascii_upper);
    if (upper == method || std::ranges::find(kKnown, upper) == kKnown.end()) continue;
    reporter.warning(route.where,
                     "route `" + route.name + "`: no client sends the method `" + method + "`",
                     "methods are told apart by case: " + upper);
  }
}

void check_compression(const Route& route, Reporter& reporter) {
  if (!route.actions.compression) return;
  for (const std::string& type : route.actions.compression->types) {
    if (!is_never_compressed(type)) continue;
    reporter.warning(route.where,
                     "compression of route `" + route.name + "`: `" + type +
                         "` is never compressed: its messages would wait for each other",
                     "remove it from `types`");
  }
}

void check_try_timeout(const Config& config, const Route& route, Reporter& reporter) {
  if (route.timeout.count() == 0) return;
  for (const WeightedUpstream& target : route.upstreams) {
    const auto upstream = std::ranges::find(config.upstreams, target.name, &Upstream::name);
    if (upstream == config.upstreams.end() || upstream->retry.per_try_timeout < route.timeout ||
        upstream->retry.per_try_timeout.count() == 0)
      continue;
    reporter.warning(route.where,
                     "route `" + route.name +
                         "`: its timeout ends before retry.per_try_timeout of "
                         "upstream `" +
                         upstream->name + "` does, so that a slow try is never followed by another",
                     "a shorter per_try_timeout, or a longer timeout");
  }
}

void check_proxy_headers(const Config& config, Reporter& reporter) {
  if (!config.trusted_proxies.empty()) return;
  for (const Listener& listener : config.listeners) {
    if (listener.accept_proxy_protocol == ProxyProtocol::none) continue;
    reporter.warning(
        listener.where,
        "listener `" + listener.name +
            "`: accept_proxy_protocol believes trusted_proxies alone, and there are none",
        "name the load balancer: trusted_proxies: [10.0.0.0/8]");
  }
}

}  // namespace

void check_idle(const Config& config, Reporter& reporter) {
  check_proxy_headers(config, reporter);
  for (const Route& route : config.routes) {
    check_methods(route, reporter);
    check_compression(route, reporter);
    check_try_timeout(config, route, reporter);
  }
}

}  // namespace sluice::policy
