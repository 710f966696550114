#include "gateway/main/policy_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <sstream>

#include "gateway/main/kernel_plan.h"
#include "gateway/main/kernel_view.h"
#include "gateway/main/policy_reloader.h"
#include "kernel/lock_out.h"
#include "kernel/open_connections.h"
#include "kernel/peer_interfaces.h"
#include "kernel/sockets.h"
#include "policy/changes.h"
#include "policy/dead_rules.h"
#include "policy/drop_rules.h"
#include "policy/explain.h"
#include "policy/units.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array<const char*, 3> kKindWords{"added", "removed", "changed"};
constexpr std::uint16_t kSsh = 22;
constexpr double kShellPackets = 10;  // a second
// Each is explained against two policies.
constexpr std::size_t kMostConnections = 5000;

policy::SocketAddress from_kernel_socket(const kernel::Prefix& host, std::uint16_t port) {
  return {from_kernel(host).address, port};
}

policy::PacketDescription packet(const OperatorConnection& connection, bool egress) {
  policy::PacketDescription packet;
  packet.from = egress ? connection.server.address : connection.client.address;
  packet.from_port = egress ? connection.server.port : connection.client.port;
  packet.to = egress ? connection.client.address : connection.server.address;
  packet.to_port = egress ? connection.client.port : connection.server.port;
  packet.direction = egress ? policy::PacketDirection::egress : policy::PacketDirection::ingress;
  return packet;
}

// Bans are the same before and after; they are not this policy's doing.
policy::LiveState without_bans(const KernelView& view) {
  policy::LiveState live = view.state();
  live.bans = {};
  return live;
}

bool leaves_no_shell(const policy::PacketRate& rate) {
  const auto seconds = std::chrono::duration<double>(rate.period).count();
  return static_cast<double>(rate.count) < kShellPackets * seconds;
}

// Of a packet that the guard's rules judge: by which `limit` hardly any get through.
std::optional<policy::Step> starved(const policy::Config& config,
                                    const policy::PacketDescription& packet,
                                    const policy::LiveState& live) {
  if (!config.guard || config.guard->mode != policy::GuardMode::enforce) return std::nullopt;
  for (const auto index : policy::evaluate(*config.guard, policy::view_of(packet, live)).matching) {
    const policy::GuardRule& rule = config.guard->rules[index];
    if (rule.action != policy::GuardAction::limit || rule.mode != policy::GuardMode::enforce ||
        !rule.rate || !leaves_no_shell(*rule.rate))
      continue;
    return policy::Step{"guard",
                        "limited by rule `" + rule.name + "` to " +
                            std::to_string(rule.rate->count) + " packets in " +
                            policy::format_duration(rule.rate->period) +
                            ", and a shell needs ten a second",
                        rule.where,
                        {},
                        true};
  }
  return std::nullopt;
}

std::optional<policy::Step> dropped(const policy::Explanation& why) {
  if (why.verdict != policy::Verdict::drop) return std::nullopt;
  return why.steps.back();
}

// What a policy's guard does to connections that are open on this node, by whichever interface
// their packets come.
class ConnectionJudge {
 public:
  explicit ConnectionJudge(const PlanContext& context) {
    if (context.keeper == nullptr) return;
    if (auto network = kernel::read_node_network()) peers_.emplace(std::move(*network));
  }

  // The step that would drop it, either way; nullopt: none.
  std::optional<policy::Step> dropping(const policy::Snapshot& snapshot,
                                       const OperatorConnection& connection,
                                       const policy::LiveState& live) {
    return judge(connection, [&](const auto& packet) {
      return dropped(policy::explain(snapshot, packet, live));
    });
  }

  // Also one that leaves it too few packets to work with.
  std::optional<policy::Step> cutting(const policy::Snapshot& snapshot,
                                      const OperatorConnection& connection,
                                      const policy::LiveState& live) {
    return judge(connection, [&](const auto& packet) -> std::optional<policy::Step> {
      const auto why = policy::explain(snapshot, packet, live);
      if (auto step = dropped(why)) return step;
      const bool judged =
          std::ranges::find(why.steps, "guard", &policy::Step::phase) != why.steps.end();
      return judged ? starved(snapshot.config(), packet, live) : std::nullopt;
    });
  }

 private:
  template <typename Judge>
  std::optional<policy::Step> judge(const OperatorConnection& connection, const Judge& verdict) {
    for (const auto& interface : interfaces_of(connection.client.address)) {
      for (const bool egress : {false, true}) {
        auto described = packet(connection, egress);
        described.interface = interface;
        if (auto step = verdict(described)) return step;
      }
    }
    return std::nullopt;
  }

  // {""}: nobody knows.
  std::vector<std::string> interfaces_of(const policy::IpAddress& peer) {
    std::vector<std::string> names;
    if (peers_) names = peers_->of({.address = peer.bytes(), .length = 128, .v4 = peer.is_v4()});
    if (names.empty()) names.emplace_back();
    return names;
  }

  std::optional<kernel::PeerInterfaces> peers_;
};

json::object to_json(const policy::Change& change) {
  json::object out{{"kind", kKindWords[static_cast<std::size_t>(change.kind)]},
                   {"section", change.section},
                   {"name", change.name},
                   {"layer", change.layer}};
  if (change.before.line != 0) out["before"] = change.before.to_string();
  if (change.after.line != 0) out["after"] = change.after.to_string();
  return out;
}

bool is_in(const std::vector<policy::ProtectFrom>& entries, const policy::Prefix& source) {
  return std::ranges::any_of(entries, [&](const policy::ProtectFrom& entry) {
    return entry.to_ports.empty() && entry.interfaces.empty() && entry.cidr.contains(source);
  });
}

json::object bans_touched(const kernel::Keeper& keeper, const policy::Config& next) {
  json::array spared;
  const auto bans = keeper.bans();
  for (const auto& ban : bans) {
    const policy::Prefix source = from_kernel(ban.source);
    if (is_in(next.protect.from, source)) spared.emplace_back(source.to_string());
  }
  json::object out{{"running", bans.size()}, {"spared", std::move(spared)}};
  if (bans.size() > next.bans.max) out["over_max"] = bans.size() - next.bans.max;
  return out;
}

// A limit of another key, rate or burst begins with every key fresh.
json::array limits_touched(const std::vector<policy::Change>& changes) {
  json::array names;
  for (const auto& change : changes) {
    if (change.section == "limits" && change.kind != policy::Change::Kind::added)
      names.emplace_back(change.name);
  }
  return names;
}

struct Connections {
  kernel::ConnectionImpact impact;
  std::size_t dropped = 0;
};

std::optional<Connections> connections_touched(const CompiledPolicy& running,
                                               const CompiledPolicy& next,
                                               const PlanContext& context) {
  if (context.keeper == nullptr) return std::nullopt;
  auto impact = kernel::impact_of(make_kernel_plan(running.config(), 1, context.workers),
                                  make_kernel_plan(next.config(), 1, context.workers));
  if (!impact) return std::nullopt;
  Connections out{.impact = std::move(*impact)};
  const KernelView view = look_at_kernel(*context.keeper, running.config());
  const auto live = without_bans(view);
  ConnectionJudge judge(context);
  for (const auto& socket : out.impact.open) {
    if (out.impact.open.size() > kMostConnections) break;
    const OperatorConnection connection{from_kernel_socket(socket.peer, socket.peer_port),
                                        from_kernel_socket(socket.local, socket.local_port)};
    if (judge.dropping(*next.snapshot, connection, live) &&
        !judge.dropping(*running.snapshot, connection, live))
      out.dropped++;
  }
  return out;
}

std::vector<OperatorConnection> operators_of(const PlanContext& context) {
  std::vector<OperatorConnection> out = context.operators;
  if (context.keeper == nullptr) return out;
  static_cast<void>(
      kernel::each_tcp_socket(kernel::TcpSockets::connected, [&](const kernel::TcpSocket& socket) {
        if (socket.local_port != kSsh || out.size() >= kMostConnections) return;
        out.push_back({from_kernel_socket(socket.peer, socket.peer_port),
                       from_kernel_socket(socket.local, socket.local_port)});
      }));
  return out;
}

// What apply would say of a port on which this host listens itself; empty: nothing.
std::string port_taken(const CompiledPolicy& next, const PlanContext& context) {
  if (context.keeper == nullptr) return "";
  const auto node = kernel::read_node_view();
  if (!node) return "";
  std::set<std::uint16_t> ours;
  for (const auto& socket : context.keeper->sockets())
    ours.insert(kernel::port_of(socket.fd));
  const auto checked =
      kernel::check_lock_out(make_kernel_plan(next.config(), 1, context.workers), *node, ours);
  return checked ? "" : checked.error().message;
}

std::optional<policy::Prefix> prefix_to_ban(const json::object& request) {
  const json::value* force = request.if_contains("force");
  const json::value* address = request.if_contains("address");
  if ((force != nullptr && *force == true) || address == nullptr || !address->is_string())
    return std::nullopt;
  return policy::Prefix::parse(std::string_view(address->as_string()));
}

std::string told_of_ban(const OperatorConnection& connection) {
  return "an open connection of an operator comes from " + connection.client.to_string() + " to " +
         connection.server.to_string() + "; --force bans it all the same";
}

}  // namespace

std::vector<std::string> lock_out(const CompiledPolicy& running, const CompiledPolicy& next,
                                  const PlanContext& context) {
  KernelView view;
  if (context.keeper != nullptr) view = look_at_kernel(*context.keeper, running.config());
  const auto live = without_bans(view);
  std::set<std::string> reasons;  // many connections, one rule
  ConnectionJudge judge(context);
  for (const auto& connection : operators_of(context)) {
    const auto step = judge.cutting(*next.snapshot, connection, live);
    if (!step || judge.cutting(*running.snapshot, connection, live)) continue;
    reasons.insert(step->where.to_string() + ": would cut the connection of " +
                   connection.client.to_string() + " to " + connection.server.to_string() + ": " +
                   step->verdict + "; protect the operator by protect.from, or except it");
  }
  return {reasons.begin(), reasons.end()};
}

json::object make_plan(const CompiledPolicy& running, const CompiledPolicy& next,
                       const PlanContext& context) {
  const auto changes = policy::changes(running.config(), next.config());
  json::array list;
  for (const auto& change : changes)
    list.push_back(to_json(change));
  json::array locked;
  for (auto& text : lock_out(running, next, context))
    locked.emplace_back(std::move(text));
  if (std::string taken = port_taken(next, context); !taken.empty())
    locked.emplace_back(std::move(taken));
  policy::Diagnostics warnings = next.warnings;
  for (auto& dead : policy::find_dead_rules(next.config()))
    warnings.push_back(std::move(dead));
  json::object out{{"ok", true},
                   {"changes", std::move(list)},
                   {"warnings", control::to_json(warnings)},
                   {"lock_out", std::move(locked)},
                   {"limits", limits_touched(changes)}};
  if (const auto touched = connections_touched(running, next, context)) {
    const auto& impact = touched->impact;
    out["connections"] = json::object{{"open", impact.open.size()},
                                      {"changed", impact.changed},
                                      {"drained", impact.drained},
                                      {"reset", impact.reset},
                                      {"dropped", touched->dropped}};
  }
  if (context.keeper != nullptr) out["bans"] = bans_touched(*context.keeper, next.config());
  if (running.config().workers != next.config().workers) out["restart"] = "workers";
  return out;
}

bool names_operator(const std::vector<policy::Prefix>& prefixes, const PlanContext& context) {
  const auto operators = operators_of(context);
  return std::ranges::any_of(operators, [&](const OperatorConnection& connection) {
    return std::ranges::any_of(prefixes, [&](const policy::Prefix& prefix) {
      return prefix.contains(connection.client.address) ||
             prefix.contains(connection.server.address);
    });
  });
}

std::string operator_cut_by_ban(const json::object& request, const CompiledPolicy& running,
                                const PlanContext& context) {
  const auto source = prefix_to_ban(request);
  if (!source) return "";
  KernelView view;
  if (context.keeper != nullptr) view = look_at_kernel(*context.keeper, running.config());
  const auto live = without_bans(view);
  const policy::LiveState::Ban ban{*source, ""};
  auto banned = live;
  banned.bans = {&ban, 1};
  ConnectionJudge judge(context);
  for (const auto& connection : operators_of(context)) {
    if (source->contains(connection.client.address) &&
        judge.dropping(*running.snapshot, connection, banned) &&
        !judge.dropping(*running.snapshot, connection, live))
      return told_of_ban(connection);
  }
  return "";
}

std::string operator_named_by_ban(const json::object& request, const PlanContext& context) {
  const auto source = prefix_to_ban(request);
  if (!source) return "";
  for (const auto& connection : operators_of(context)) {
    if (source->contains(connection.client.address)) return told_of_ban(connection);
  }
  return "";
}

void KnownOperators::note(const json::object& request) {
  const json::value* ssh = request.if_contains("ssh");
  if (ssh == nullptr || !ssh->is_string()) return;
  const auto connection = parse_ssh_connection(std::string(ssh->as_string()));
  if (!connection) return;
  std::erase(known_, *connection);
  if (known_.size() >= kMost) known_.erase(known_.begin());
  known_.push_back(*connection);
}

std::vector<OperatorConnection> KnownOperators::connected() const {
  std::vector<OperatorConnection> out;
  if (known_.empty()) return out;
  static_cast<void>(
      kernel::each_tcp_socket(kernel::TcpSockets::connected, [&](const kernel::TcpSocket& socket) {
        const OperatorConnection open{from_kernel_socket(socket.peer, socket.peer_port),
                                      from_kernel_socket(socket.local, socket.local_port)};
        if (std::ranges::find(known_, open) != known_.end()) out.push_back(open);
      }));
  return out;
}

std::optional<OperatorConnection> parse_ssh_connection(const std::string& text) {
  std::istringstream words(text);
  std::string client;
  std::string server;
  unsigned client_port = 0;
  unsigned server_port = 0;
  if (!(words >> client >> client_port >> server >> server_port)) return std::nullopt;
  const auto from = policy::IpAddress::parse(client);
  const auto to = policy::IpAddress::parse(server);
  if (!from || !to || client_port > 65535 || server_port > 65535) return std::nullopt;
  return OperatorConnection{{*from, static_cast<std::uint16_t>(client_port)},
                            {*to, static_cast<std::uint16_t>(server_port)}};
}

}  // namespace sluice::control
