// Steps where TLS is ended for some names alone, and where vendors are reached around the gateway.
#include <algorithm>

#include "policy/ai_providers.h"
#include "policy/explain/steps.h"

namespace sluice::policy::explaining {

std::optional<Step> tls(const Listener& listener, std::string_view host) {
  if (!listener.tls || !listener.tls->authority) return std::nullopt;
  const CertificateAuthority& authority = *listener.tls->authority;
  const std::string* entry = authority.entry_for(host);
  Step step{"tls", "", authority.where, {}, false};
  if (entry == nullptr) {
    step.verdict =
        "passes undecrypted: the certificate authority is not for " +
        (host.empty() ? std::string("a client without a name") : "`" + std::string(host) + "`") +
        "; what is told of requests is of those in clear text";
    return step;
  }
  step.verdict = "ended by the listener's certificate authority, for `" + *entry + "`";
  step.reasons.push_back(
      {"what goes on to its original destination does so by TLS", authority.where});
  return step;
}

namespace {

constexpr std::uint8_t kTcpNumber = 6;
constexpr std::uint8_t kUdpNumber = 17;

bool is_refused(const Config& config, const PacketDescription& packet) {
  if (config.ai->bypass->action != AiBypassAction::reject) return false;
  if (packet.to_port == 80 || packet.to_port == 443) return true;
  const std::vector<std::string> names = vendor_upstreams(*config.ai);
  return std::ranges::any_of(config.upstreams, [&](const Upstream& upstream) {
    return std::ranges::find(names, upstream.name) != names.end() &&
           std::ranges::any_of(upstream.endpoints, [&](const Endpoint& endpoint) {
             return packet.to_port == (endpoint.is_name() ? endpoint.port : endpoint.address.port);
           });
  });
}

}  // namespace

std::optional<Step> bypass(const Snapshot& snapshot, const PacketDescription& packet,
                           const LiveState& live) {
  const Config& config = snapshot.config();
  const bool leaves = packet.way == Way::output || packet.direction == PacketDirection::ingress;
  if (!config.ai || !config.ai->bypass || !leaves) return std::nullopt;
  if (packet.protocol != kTcpNumber && packet.protocol != kUdpNumber) return std::nullopt;
  const bool spared = std::ranges::any_of(config.protect.from, [&](const ProtectFrom& kept) {
    return kept.cidr.contains(packet.to) || kept.cidr.contains(packet.from);
  });
  if (spared) return std::nullopt;
  if (live.vendors && std::ranges::find(*live.vendors, packet.to) == live.vendors->end())
    return std::nullopt;
  const bool refused = is_refused(config, packet);
  Step step{"bypass", "", config.ai->bypass->where, {}, refused && live.vendors};
  const std::string what = refused ? "refused, and counted in sluice_ai_unmetered_bytes_total"
                                   : "counted in sluice_ai_unmetered_bytes_total";
  step.verdict = live.vendors
                     ? what + ": a vendor's address, around the gateway"
                     : what + ", if it is a vendor's address then (ask the running sluice)";
  return step;
}

}  // namespace sluice::policy::explaining
