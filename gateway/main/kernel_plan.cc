#include "gateway/main/kernel_plan.h"

#include <algorithm>
#include <map>
#include <memory>

#include "gateway/express.h"
#include "gateway/gateway.h"
#include "kernel/abi_express.h"
#include "policy/ai_providers.h"
#include "policy/express.h"

namespace sluice::control {
namespace {

static_assert(gateway::ExpressLane::kSign == SLUICE_EXPRESS_SIGN);
static_assert(gateway::ExpressLane::kLeaves == SLUICE_EXPRESS_LEAVES);
static_assert(2 * gateway::ExpressLane::kMost == SLUICE_EXPRESS_BURST_BYTES);

static_assert(static_cast<int>(gateway::WayIn::bind) == static_cast<int>(kernel::WayIn::bind));
static_assert(static_cast<int>(gateway::WayIn::local) == static_cast<int>(kernel::WayIn::local));
static_assert(static_cast<int>(gateway::WayIn::forward) ==
              static_cast<int>(kernel::WayIn::forward));
static_assert(static_cast<int>(gateway::WayIn::output) == static_cast<int>(kernel::WayIn::output));

static_assert(static_cast<int>(policy::SteerBy::tc) == static_cast<int>(kernel::SteerBy::tc));
static_assert(static_cast<int>(policy::OnChange::reset) ==
              static_cast<int>(kernel::OnChange::reset));

constexpr std::uint8_t kV4Bits = 96;  // of ::ffff:0:0/96

std::vector<kernel::Prefix> kernel_form(const std::vector<policy::Prefix>& prefixes) {
  std::vector<kernel::Prefix> out;
  out.reserve(prefixes.size());
  for (const auto& prefix : prefixes)
    out.push_back(control::to_kernel(prefix));
  return out;
}

std::vector<kernel::PortRange> kernel_form(const std::vector<policy::PortRange>& ranges) {
  std::vector<kernel::PortRange> out;
  out.reserve(ranges.size());
  for (const auto& range : ranges)
    out.push_back({range.first, range.last});
  return out;
}

kernel::Prefix host(const policy::IpAddress& address) {
  return {.address = address.bytes(), .length = 128, .v4 = address.is_v4()};
}

// Rules that name the same set share one list of prefixes.
class SharedSets {
 public:
  std::vector<kernel::PrefixSet> of(const policy::AddressMatch& match) {
    std::vector<kernel::PrefixSet> out;
    for (const policy::SetReference& reference : match.sets)
      out.push_back(of(*reference.members));
    return out;
  }

 private:
  kernel::PrefixSet of(const policy::AddressSet& set) {
    kernel::PrefixSet& shared = made_[&set];
    if (!shared) {
      shared = std::make_shared<const std::vector<kernel::Prefix>>(kernel_form(set.prefixes()));
    }
    return shared;
  }
  std::map<const policy::AddressSet*, kernel::PrefixSet> made_;
};

kernel::GuardMatch kernel_form(const policy::GuardMatch& match, SharedSets& sets) {
  return {.from = kernel_form(match.from.prefixes),
          .to = kernel_form(match.to.prefixes),
          .from_ports = kernel_form(match.from_ports),
          .to_ports = kernel_form(match.to_ports),
          .from_sets = sets.of(match.from),
          .to_sets = sets.of(match.to)};
}

std::uint32_t listener_index(const policy::Config& config, const std::string& name) {
  const auto it = std::ranges::find(config.listeners, name, &policy::Listener::name);
  return static_cast<std::uint32_t>(it - config.listeners.begin());
}

kernel::Intercept kernel_form(const policy::Config& config, const policy::Intercept& intercept,
                            kernel::WayIn way) {
  return {.way = way,
          .from = kernel_form(intercept.from),
          .to = kernel_form(intercept.to),
          .except_from = kernel_form(intercept.except.from),
          .except_to = kernel_form(intercept.except.to),
          .ports = kernel_form(intercept.ports),
          .cgroups = intercept.cgroups,
          .listener = listener_index(config, intercept.listener),
          .on_exit = intercept.on_exit == policy::OnExit::bypass ? kernel::OnExit::bypass
                                                                 : kernel::OnExit::closed,
          .lease = std::chrono::duration_cast<std::chrono::milliseconds>(intercept.lease),
          .steering = static_cast<kernel::SteerBy>(intercept.steering),
          .on_change = static_cast<kernel::OnChange>(intercept.on_change),
          .block_quic = intercept.quic == policy::Quic::block,
          .take_over = intercept.take_over,
          .where = intercept.where.to_string()};
}

std::vector<kernel::Intercept> intercepts_of(const policy::Config& config) {
  std::vector<kernel::Intercept> out;
  for (const auto& rule : config.intercept.local)
    out.push_back(kernel_form(config, rule, kernel::WayIn::local));
  for (const auto& rule : config.intercept.forward)
    out.push_back(kernel_form(config, rule, kernel::WayIn::forward));
  for (const auto& rule : config.intercept.output)
    out.push_back(kernel_form(config, rule, kernel::WayIn::output));
  return out;
}

std::vector<kernel::Listener> listeners_of(const policy::Config& config) {
  std::vector<kernel::Listener> out;
  for (const auto& listener : config.listeners) {
    kernel::Listener made{.name = listener.name,
                          .bind_address = std::nullopt,
                          .bind_port = 0,
                          .express = policy::clients_in_lane(config, listener)};
    if (listener.bind) {
      made.bind_address = host(listener.bind->address);
      made.bind_port = listener.bind->port;
    }
    out.push_back(std::move(made));
  }
  return out;
}

// The operator's own, Redis, then the policy's upstreams: an origin that answers with garbage must
// not be locked out.
std::vector<kernel::Protect> protect_of(const policy::Config& config) {
  std::vector<kernel::Protect> out;
  for (const auto& from : config.protect.from)
    out.push_back({.peer = control::to_kernel(from.cidr),
                   .to_ports = kernel_form(from.to_ports),
                   .interfaces = from.interfaces,
                   .upstream = false,
                   .server_only = false});
  std::vector<kernel::Prefix> seen;
  if (config.redis && config.redis->name.empty()) {
    seen.push_back(host(config.redis->address.address));
    out.push_back({.peer = seen.back(),
                   .to_ports = {},
                   .interfaces = {},
                   .upstream = true,
                   .server_only = false});
  }
  for (const auto& upstream : config.upstreams) {
    for (const auto& endpoint : upstream.endpoints) {
      if (endpoint.is_name()) continue;  // its addresses come and go
      const kernel::Prefix peer = host(endpoint.address.address);
      if (std::ranges::find(seen, peer) != seen.end()) continue;
      seen.push_back(peer);
      out.push_back(
          {.peer = peer, .to_ports = {}, .interfaces = {}, .upstream = true, .server_only = false});
    }
  }
  return out;
}

std::optional<kernel::PacketRate> kernel_form(const std::optional<policy::PacketRate>& rate) {
  if (!rate) return std::nullopt;
  return kernel::PacketRate{.packets = rate->count, .per = rate->period, .burst = rate->burst};
}

// The two lists of words are in the same order.
static_assert(static_cast<int>(policy::GuardAction::limit) ==
              static_cast<int>(kernel::GuardAction::limit));
static_assert(static_cast<int>(policy::GuardDirection::both) ==
              static_cast<int>(kernel::GuardDirection::both));
static_assert(static_cast<int>(policy::GuardAttach::xdp_generic) ==
              static_cast<int>(kernel::GuardHook::xdp_generic));

kernel::GuardRule kernel_form(const policy::GuardRule& rule, SharedSets& sets, bool audit_all) {
  return {.name = rule.name,
          .match = kernel_form(rule.match, sets),
          .except = kernel_form(rule.except, sets),
          .protocol = rule.protocol,
          .action = static_cast<kernel::GuardAction>(rule.action),
          .rate = kernel_form(rule.rate),
          .direction = static_cast<kernel::GuardDirection>(rule.direction),
          .interfaces = rule.interfaces,
          .audit = audit_all || rule.mode == policy::GuardMode::audit};
}

kernel::GuardPlan guard_of(const policy::Config& config) {
  kernel::GuardPlan guard;
  guard.max_bans = config.bans.max;
  for (const auto& proxy : config.trusted_proxies)
    guard.never_banned.push_back(control::to_kernel(proxy));
  guard.enabled = config.guard.has_value() ||
                  std::ranges::any_of(config.bans.rules, [](const policy::BanRule& rule) {
                    return rule.action == policy::BanAction::drop;
                  });
  if (!config.guard) return guard;
  guard.interfaces = config.guard->interfaces;
  guard.first = config.guard->first;
  guard.hook = static_cast<kernel::GuardHook>(config.guard->attach);
  guard.source_syn = kernel_form(config.guard->source_syn);
  guard.service_syn = kernel_form(config.guard->service_syn);
  guard.audit_syn = config.guard->mode == policy::GuardMode::audit;
  for (const auto monitor : config.guard->monitor) {
    (monitor == policy::GuardMonitor::service ? guard.monitor_services : guard.monitor_sources) =
        true;
  }
  SharedSets sets;
  for (const auto& rule : config.guard->rules)
    guard.rules.push_back(kernel_form(rule, sets, guard.audit_syn));
  return guard;
}

kernel::Marks marks_of(const policy::Config& config) {
  const auto& marks = config.intercept.marks;
  return {.mark = marks.mark, .mask = marks.mask, .table = marks.table, .priority = marks.priority};
}

// Where providers are asked at other ports than the web's, those count as well.
std::optional<kernel::VendorPlan> vendors_of(const policy::Config& config) {
  if (!config.ai || !config.ai->bypass) return std::nullopt;
  kernel::VendorPlan out{.reject = config.ai->bypass->action == policy::AiBypassAction::reject,
                         .ports = {{80, 80}, {443, 443}},
                         .hosts = {}};
  for (const std::string& name : policy::vendor_upstreams(*config.ai)) {
    const auto upstream = std::ranges::find(config.upstreams, name, &policy::Upstream::name);
    if (upstream == config.upstreams.end()) continue;
    for (const policy::Endpoint& endpoint : upstream->endpoints) {
      const std::uint16_t port = endpoint.is_name() ? endpoint.port : endpoint.address.port;
      out.ports.push_back({port, port});
      if (!endpoint.is_name()) out.hosts.push_back(host(endpoint.address.address));
    }
  }
  return out;
}

}  // namespace

kernel::Prefix to_kernel(const policy::Prefix& prefix) {
  const bool v4 = prefix.is_v4();
  return {.address = prefix.address.bytes(),
          .length = static_cast<std::uint8_t>(prefix.length + (v4 ? kV4Bits : 0)),
          .v4 = v4};
}

policy::Prefix from_kernel(const kernel::Prefix& prefix) {
  return {.address = policy::IpAddress(prefix.address),
          .length = static_cast<std::uint8_t>(prefix.length - (prefix.v4 ? kV4Bits : 0))};
}

std::uint32_t own_mark(const policy::Config& config) {
  return marks_of(config).gateway();
}

kernel::Plan make_kernel_plan(const policy::Config& config, std::uint64_t generation,
                              std::uint32_t workers) {
  return {.generation = generation,
          .workers = workers,
          .listeners = listeners_of(config),
          .intercepts = intercepts_of(config),
          .client_source = std::ranges::any_of(config.upstreams,
                                               [](const policy::Upstream& upstream) {
                                                 return upstream.source_address ==
                                                        policy::SourceAddress::client;
                                               }),
          .marks = marks_of(config),
          .protect = protect_of(config),
          .host_ports = config.protect.host_ports,
          .guard = guard_of(config),
          .tc_interfaces = config.intercept.tc.interfaces,
          .vendors = vendors_of(config),
          .express_upstreams = policy::upstreams_in_lane(config)};
}

}  // namespace sluice::control
