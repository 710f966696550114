#include "policy/express.h"

#include <algorithm>
#include <string>
#include <variant>

#include "policy/validate.h"

namespace sluice::policy {
namespace {

bool leads_both(const Config& config, const std::string& name) {
  const auto upstream = std::ranges::find(config.upstreams, name, &Upstream::name);
  return upstream != config.upstreams.end() && upstream->express == Express::both;
}

bool leads_both(const Config& config, const DefaultAction& action) {
  const auto* name = std::get_if<std::string>(&action);
  return name != nullptr && leads_both(config, *name);
}

bool leads_both(const Config& config, const Route& route) {
  return std::ranges::any_of(route.upstreams, [&](const WeightedUpstream& target) {
    return leads_both(config, target.name);
  });
}

}  // namespace

bool upstream_in_lane(const Listener& listener, const Upstream& upstream) {
  return !upstream.tls && (listener.express != Express::none || upstream.express != Express::none);
}

bool upstreams_in_lane(const Config& config) {
  const auto asks = [](const auto& one) { return one.express != Express::none; };
  return std::ranges::any_of(config.listeners, asks) || std::ranges::any_of(config.upstreams, asks);
}

bool clients_in_lane(const Config& config, const Listener& listener) {
  if (listener.tls || listener.protocol == ListenerProtocol::tls) return false;
  if (listener.express == Express::both) return true;
  const DefaultRoute& otherwise = config.default_route;
  return leads_both(config, otherwise.local) || leads_both(config, otherwise.forward) ||
         leads_both(config, otherwise.output) ||
         std::ranges::any_of(config.routes, [&](const Route& route) {
           return route.listener == listener.name && leads_both(config, route);
         });
}

// TLS of the kernel's own would be undone by it, and the bytes of any leave the lane at once.
void check_express(const Config& config, Reporter& reporter) {
  const auto check = [&](const auto& one, const std::string& name, bool under_tls) {
    if (one.express == Express::none || !under_tls) return;
    reporter.error(one.where, name + ": TLS never goes by the express lane",
                   "remove `express`: it is for connections without TLS");
  };
  for (const Listener& listener : config.listeners)
    check(listener, "listener `" + listener.name + "`",
          listener.tls.has_value() || listener.protocol == ListenerProtocol::tls);
  for (const Upstream& upstream : config.upstreams)
    check(upstream, "upstream `" + upstream.name + "`", upstream.tls.has_value());
}

}  // namespace sluice::policy
