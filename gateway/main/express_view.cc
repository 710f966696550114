#include "gateway/main/express_view.h"

#include <ranges>
#include <string>

#include "gateway/main/kernel_plan.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using Direction = kernel::ExpressConnection::Direction;

constexpr std::size_t kShown = 100;
constexpr std::size_t kLookedAt = 65536;

policy::SocketAddress end_of(const kernel::Prefix& host, std::uint16_t port) {
  return {from_kernel(host).address, port};
}

void add(json::object& out, const char* name, const Direction& direction) {
  out[std::string(name) + "_express_bytes"] = direction.express;
  out[std::string(name) + "_tcp_bytes"] = direction.tcp;
  out[std::string(name) + "_left"] = direction.left;
}

std::string told(const char* what, const Direction& direction) {
  std::string out = std::string(what) + " " + std::to_string(direction.express) + " bytes by it";
  if (direction.tcp != 0) out += ", " + std::to_string(direction.tcp) + " by TCP";
  if (!direction.left.empty()) out += " since it left (" + direction.left + ")";
  return out;
}

const char* peer_of(bool upstream) {
  return upstream ? "upstream" : "client";
}

json::object shown(const kernel::ExpressConnection& one) {
  json::object out{{"peer", peer_of(one.to_upstream)},
                   {"from", end_of(one.from, one.from_port).to_string()},
                   {"to", end_of(one.to, one.to_port).to_string()}};
  add(out, "sent", one.sent);
  add(out, "received", one.received);
  return out;
}

struct Sum {
  std::uint64_t connections = 0;
  std::uint64_t left = 0;  // in one direction at least
  std::uint64_t express = 0;
  std::uint64_t tcp = 0;

  void add(const kernel::ExpressConnection& one) {
    ++connections;
    if (!one.sent.left.empty() || !one.received.left.empty()) ++left;
    express += one.sent.express + one.received.express;
    tcp += one.sent.tcp + one.received.tcp;
  }
};

json::object row_of(bool upstream, const Sum& sum) {
  return {{"peer", peer_of(upstream)},
          {"connections", sum.connections},
          {"partly_by_tcp", sum.left},
          {"express_bytes", sum.express},
          {"tcp_bytes", sum.tcp}};
}

}  // namespace

void add_express_status(const kernel::Keeper& keeper, json::object& status) {
  const auto open = keeper.express_connections(kLookedAt);
  json::array rows;
  for (const bool upstream : {false, true}) {
    Sum sum;
    for (const auto& one : open)
      if (one.to_upstream == upstream) sum.add(one);
    if (sum.connections > 0) rows.push_back(row_of(upstream, sum));
  }
  json::array connections;
  for (const auto& one : open | std::views::take(kShown))
    connections.push_back(shown(one));
  status["express"] = std::move(rows);
  status["express_connections"] = std::move(connections);
}

ExpressTotals express_totals(const kernel::Keeper& keeper) {
  ExpressTotals out;
  for (const auto& sample : keeper.samples()) {
    if (sample.name == "sluice_express_connections") out.connections += sample.value;
    if (sample.name == "sluice_express_bytes_total" && sample.labels.back().second == "express")
      out.bytes += sample.value;
  }
  return out;
}

std::optional<policy::Step> express_step(const kernel::Keeper& keeper,
                                         const policy::PacketDescription& packet) {
  if (packet.from_port == 0 || packet.to_port == 0) return std::nullopt;
  const policy::SocketAddress from{packet.from, packet.from_port};
  const policy::SocketAddress to{packet.to, packet.to_port};
  for (const auto& one : keeper.express_connections(kLookedAt)) {
    const policy::SocketAddress active = end_of(one.from, one.from_port);
    const policy::SocketAddress passive = end_of(one.to, one.to_port);
    if (!(active == from && passive == to) && !(active == to && passive == from)) continue;
    return policy::Step{.phase = "express",
                        .verdict = "in the express lane, where no packet is: the gateway has " +
                                   told("sent", one.sent) + ", and " +
                                   told("received", one.received),
                        .where = {},
                        .reasons = {}};
  }
  return std::nullopt;
}

}  // namespace sluice::control
