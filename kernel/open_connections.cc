#include "kernel/open_connections.h"

#include <algorithm>
#include <netinet/in.h>
#include <optional>
#include <utility>

#include "kernel/guard_classes.h"
#include "kernel/prefix_text.h"
#include "kernel/spared_sockets.h"

namespace sluice::kernel {
namespace {

bool is_own(const NodeView& node, const Prefix& address) {
  return std::binary_search(node.addresses.begin(), node.addresses.end(), address);
}

bool comes_by(WayIn way, const NodeView& node, const TcpSocket& socket) {
  if (way == WayIn::local) return true;
  if (is_own(node, socket.local)) return false;
  return is_own(node, socket.peer) == (way == WayIn::output);
}

bool covered(const std::vector<PrefixSet>& sets, const Prefix& host) {
  const auto before = [](const Prefix& a, const Prefix& b) {
    return a.v4 != b.v4 ? a.v4 : a.address < b.address;
  };
  return std::any_of(sets.begin(), sets.end(), [&](const PrefixSet& set) {
    const auto after = std::upper_bound(set->begin(), set->end(), host, before);
    return after != set->begin() && covers(*(after - 1), host);
  });
}

bool names(const GuardMatch& match, const AddressField& field, const Prefix& host) {
  return !has_field(match, field) || covered(match.*field.prefixes, host) ||
         covered(match.*field.sets, host);
}

// The sender's side of its packets is `local`.
bool names(const GuardMatch& match, const TcpSocket& sender) {
  return names(match, kFromField, sender.local) && names(match, kToField, sender.peer) &&
         covered(match.from_ports, sender.local_port) && covered(match.to_ports, sender.peer_port);
}

bool names(const GuardRule& rule, const TcpSocket& sender) {
  return names(rule.match, sender) && (!has_exception(rule) || !names(rule.except, sender));
}

bool names_either_way(const GuardRule& rule, const TcpSocket& socket) {
  const bool in = rule.direction != GuardDirection::egress && names(rule, other_end(socket));
  return in || (rule.direction != GuardDirection::ingress && names(rule, socket));
}

// Where nobody knows by which interface its packets come, any is taken to be it.
bool holds_for(const std::vector<std::string>& patterns, PeerInterfaces& peers,
               const TcpSocket& socket) {
  const auto& ways = peers.of(socket.peer);
  if (ways.empty()) return true;
  return std::ranges::any_of(
      select_interfaces(peers.network(), patterns),
      [&](const Interface& at) { return std::ranges::find(ways, at.name) != ways.end(); });
}

bool is_protected(const Plan& plan, PeerInterfaces& peers, const TcpSocket& socket) {
  if (spared(socket, plan, peers.network().addresses)) return true;
  const auto vital = network_peers(peers.network());
  return std::ranges::find(vital, socket.peer) != vital.end();
}

bool says(const Plan& plan, OnChange what) {
  return std::ranges::any_of(plan.intercepts,
                             [what](const Intercept& entry) { return entry.on_change == what; });
}

}  // namespace

TcpSocket other_end(const TcpSocket& socket) {
  TcpSocket other = socket;
  std::swap(other.local, other.peer);
  std::swap(other.local_port, other.peer_port);
  return other;
}

const Intercept* entry_of(const Plan& plan, const NodeView& node, const TcpSocket& socket) {
  for (const auto& entry : plan.intercepts) {
    const bool from = (entry.from.empty() || covered(entry.from, socket.peer)) &&
                      !covered(entry.except_from, socket.peer);
    const bool to = covered(entry.to, socket.local) && !covered(entry.except_to, socket.local);
    if (from && to && covered(entry.ports, socket.local_port) && comes_by(entry.way, node, socket))
      return &entry;
  }
  return nullptr;
}

bool dropped_by_guard(const Plan& plan, PeerInterfaces& peers, const TcpSocket& socket) {
  if (!plan.guard.enabled) return false;
  const bool dropped = std::ranges::any_of(plan.guard.rules, [&](const GuardRule& rule) {
    return rule.action == GuardAction::drop && !rule.audit &&
           rule.protocol.value_or(IPPROTO_TCP) == IPPROTO_TCP && names_either_way(rule, socket) &&
           holds_for(rule.interfaces.value_or(plan.guard.interfaces), peers, socket);
  });
  return dropped && !is_protected(plan, peers, socket);
}

std::optional<OnChange> change_for(const Plan& before, const Plan& next, const NodeView& node,
                                   PeerInterfaces& peers, const TcpSocket& socket) {
  const Intercept* old_entry = entry_of(before, node, socket);
  if (!old_entry) return std::nullopt;
  const Intercept* entry = entry_of(next, node, socket);
  const auto name = [](const Plan& plan, const Intercept& of) {
    return plan.listeners[of.listener].name;
  };
  const bool goes_on =
      entry && entry->way == old_entry->way && name(before, *old_entry) == name(next, *entry);
  if (!goes_on) return old_entry->on_change;
  if (dropped_by_guard(next, peers, socket) && !dropped_by_guard(before, peers, socket))
    return entry->on_change;
  return std::nullopt;
}

Result<ConnectionImpact> impact_of(const Plan& before, const Plan& next) {
  const auto node = read_node_view();
  if (!node) return std::unexpected(node.error());
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  PeerInterfaces peers(std::move(*network));
  ConnectionImpact impact;
  auto seen = each_tcp_socket(TcpSockets::connected, [&](const TcpSocket& socket) {
    impact.open.push_back(socket);
    const auto change = change_for(before, next, *node, peers, socket);
    if (!change) return;
    impact.changed++;
    impact.drained += *change == OnChange::drain ? 1 : 0;
    impact.reset += *change == OnChange::reset ? 1 : 0;
  });
  if (!seen) return std::unexpected(seen.error());
  return impact;
}

Result<std::vector<std::uint64_t>> connections_to_drain(const Plan& before, const Plan& next,
                                                        const NodeView& node) {
  std::vector<std::uint64_t> cookies;
  if (!says(before, OnChange::drain) && !says(next, OnChange::drain)) return cookies;
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  PeerInterfaces peers(std::move(*network));
  auto seen = each_tcp_socket(TcpSockets::connected, [&](const TcpSocket& socket) {
    if (change_for(before, next, node, peers, socket) == OnChange::drain)
      cookies.push_back(socket.cookie);
  });
  if (!seen) return std::unexpected(seen.error());
  return cookies;
}

Result<std::size_t> reset_refused_connections(const Plan& before, const Plan& next,
                                              const NodeView& node) {
  if (!says(before, OnChange::reset) && !says(next, OnChange::reset)) return 0;
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  PeerInterfaces peers(std::move(*network));
  return destroy_tcp_sockets(TcpSockets::connected, [&](const TcpSocket& socket) {
    return change_for(before, next, node, peers, socket) == OnChange::reset;
  });
}

}  // namespace sluice::kernel
