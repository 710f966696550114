#include "gateway/status.h"

#include <algorithm>
#include <chrono>

#include <boost/json.hpp>

namespace sluice::gateway {
namespace {

namespace json = boost::json;

std::string_view name_of(WayIn way) {
  switch (way) {
    case WayIn::bind:
      return "bind";
    case WayIn::local:
      return "local";
    case WayIn::forward:
      return "forward";
    case WayIn::output:
      return "output";
  }
  return "";
}

std::string_view name_of(policy::ListenerProtocol protocol) {
  switch (protocol) {
    case policy::ListenerProtocol::http:
      return "http";
    case policy::ListenerProtocol::tcp:
      return "tcp";
    case policy::ListenerProtocol::automatic:
      return "auto";
    case policy::ListenerProtocol::tls:
      return "tls";
  }
  return "";
}

json::array listeners(const StatusInput& input) {
  json::array all;
  if (!input.snapshot) return all;
  for (const policy::Listener& listener : input.snapshot->config().listeners) {
    json::array ways;
    for (const WayIn way : {WayIn::bind, WayIn::local, WayIn::forward, WayIn::output}) {
      if (std::ranges::find(input.serving, std::pair(listener.name, way)) != input.serving.end()) {
        ways.emplace_back(name_of(way));
      }
    }
    json::object entry{{"name", listener.name},
                       {"protocol", name_of(listener.protocol)},
                       {"ways", std::move(ways)},
                       {"connections", input.connections_of(listener.name)},
                       {"max_connections", listener.max_connections}};
    if (listener.bind) entry["address"] = listener.bind->to_string();
    all.push_back(std::move(entry));
  }
  return all;
}

json::array endpoints(const Cluster& cluster) {
  json::array all;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& endpoint : cluster.endpoints()) {
    const EndpointTotals totals = endpoint->totals();
    all.push_back(json::object{{"address", endpoint->name()},
                               {"healthy", endpoint->healthy()},
                               {"ejected", endpoint->ejected(now)},
                               {"drained", endpoint->drained()},
                               {"weight", endpoint->weight()},
                               {"active_requests", endpoint->active_requests()},
                               {"connections", endpoint->open_connections()},
                               {"requests", totals.requests}});
  }
  return all;
}

json::array upstreams(const StatusInput& input) {
  json::array all;
  if (!input.clusters) return all;
  for (const auto& cluster : input.clusters->clusters()) {
    json::object entry{{"name", cluster->name()},
                       {"active_requests", cluster->state().active_requests()},
                       {"connections", cluster->state().open_connections()},
                       {"endpoints", endpoints(*cluster)}};
    if (cluster->config().original_destination) entry["original_destination"] = true;
    all.push_back(std::move(entry));
  }
  return all;
}

json::array redis_servers(const LimitLeases::Server& server) {
  json::object entry{{"host", server.host}, {"connected", server.connected}};
  if (server.address) entry["address"] = server.address->to_string();
  return {std::move(entry)};
}

}  // namespace

std::string status_json_of(const StatusInput& input) {
  json::array workers;
  for (std::size_t i = 0; i < input.worker_connections.size(); ++i) {
    workers.push_back(json::object{{"index", i}, {"connections", input.worker_connections[i]}});
  }
  constexpr std::uint64_t kSecond = 1'000'000'000;
  json::array diverted;
  for (const policy::DivertedSource& source : input.diverted) {
    diverted.push_back(json::object{{"source", source.source.to_string()},
                                    {"seconds_left", (source.until_ns - input.now_ns) / kSecond},
                                    {"reason", source.reason}});
  }
  json::object status{{"draining", input.draining},
                      {"listeners", listeners(input)},
                      {"upstreams", upstreams(input)},
                      {"workers", std::move(workers)},
                      {"diverted", std::move(diverted)}};
  if (input.redis) status["redis"] = redis_servers(*input.redis);
  if (input.language_models) status["language_models"] = *input.language_models;
  if (!input.access_log_problem.empty())
    status["warnings"] = json::array{json::string(
        input.access_log_problem + ": lines go where they went before; SIGUSR1 tries again")};
  return json::serialize(status);
}

}  // namespace sluice::gateway
