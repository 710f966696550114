#include "gateway/main/gateway_commands.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <variant>

#include "gateway/main/admin_commands.h"
#include "gateway/main/explain_question.h"
#include "gateway/main/json_text.h"
#include "gateway/main/logged_outcome.h"
#include "gateway/operator_access.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

// Of requests that no route claims, by the ways that lead to the listener.
void add_default_upstreams(const policy::Config& config, std::string_view listener,
                           json::array& upstreams) {
  const auto add = [&](const std::vector<policy::Intercept>& way,
                       const policy::DefaultAction& action) {
    const auto* name = std::get_if<std::string>(&action);
    const bool comes = std::ranges::find(way, listener, &policy::Intercept::listener) != way.end();
    if (name != nullptr && comes &&
        std::ranges::find(upstreams, json::value(*name)) == upstreams.end())
      upstreams.emplace_back(*name);
  };
  add(config.intercept.local, config.default_route.local);
  add(config.intercept.forward, config.default_route.forward);
  add(config.intercept.output, config.default_route.output);
}

}  // namespace

json::object gateway_command(gateway::Gateway& gateway, const json::object& request) {
  const std::string name = text_of(request, "command");
  if (name == "explain") return handle_explain(gateway, request);
  if (name == "upstream") return handle_upstream(gateway, request);
  if (name == "routes") return handle_routes(gateway);
  if (name == "bans") return handle_own_bans(gateway);
  if (name == "unban") return handle_own_unban(gateway, request);
  return admin_error("unknown command '" + name + "'");
}

json::object handle_explain(gateway::Gateway& gateway, const json::object& question) {
  const auto parsed = parse_question(question);
  const json::value* logged = question.if_contains("logged");
  const bool was = logged != nullptr && logged->is_object();
  if (!parsed && !was) return admin_error(parsed.error());
  json::object answer = admin_error("the gateway has no policy yet");
  gateway::operator_access(gateway).look(
      [&](const policy::Snapshot& snapshot, const policy::LiveGateway& live) {
        policy::LiveState state;
        state.gateway = &live;
        answer = parsed ? to_json(snapshot, explain(snapshot, *parsed, state))
                        : admin_error(parsed.error());
        if (was)
          answer =
              with_logged(std::move(answer), logged->as_object(), snapshot.config(), NowBy::live);
      });
  return answer;
}

json::object handle_routes(gateway::Gateway& gateway) {
  constexpr std::size_t kMost = 500;
  json::array routes;
  const auto& operators = gateway::operator_access(gateway);
  operators.look([&](const policy::Snapshot& snapshot, const policy::LiveGateway&) {
    std::map<std::pair<std::string_view, std::string_view>, const policy::Route*> known;
    for (const policy::Route& route : snapshot.config().routes)
      known.try_emplace({route.listener, route.name}, &route);
    for (const gateway::RouteTotals& totals : operators.routes(kMost)) {
      json::array upstreams;
      if (const auto it = known.find({totals.listener, totals.name}); it != known.end())
        for (const auto& upstream : it->second->upstreams)
          upstreams.emplace_back(upstream.name);
      else
        add_default_upstreams(snapshot.config(), totals.listener, upstreams);
      routes.push_back(json::object{{"listener", totals.listener},
                                    {"name", totals.name},
                                    {"upstreams", std::move(upstreams)},
                                    {"requests", totals.requests},
                                    {"errors", totals.errors},
                                    {"seconds", totals.seconds}});
    }
  });
  return {{"ok", true}, {"routes", std::move(routes)}};
}

json::object handle_own_bans(gateway::Gateway& gateway) {
  json::array bans;
  for (const auto& ban : gateway::operator_access(gateway).own_bans()) {
    json::object entry{{"address", ban.source.to_string()},
                       {"seconds_left", ban.left.count()},
                       {"action", ban.upstream.empty() ? "refuse" : "route"},
                       {"reason", ban.reason}};
    if (!ban.upstream.empty()) entry["upstream"] = ban.upstream;
    bans.push_back(std::move(entry));
  }
  return {{"ok", true}, {"bans", std::move(bans)}};
}

json::object handle_own_unban(gateway::Gateway& gateway, const json::object& request) {
  const auto source = policy::Prefix::parse(text_of(request, "address"));
  if (!source) return admin_error("that is not an address or prefix");
  using Unban = gateway::OperatorAccess::Unban;
  const Unban how = request.contains("forget") ? Unban::forget : Unban::pardon;
  return {{"ok", true}, {"was_banned", gateway::operator_access(gateway).unban(*source, how)}};
}

json::object handle_upstream(gateway::Gateway& gateway, const json::object& request) {
  const std::string action = text_of(request, "action");
  gateway::EndpointOrder order{.upstream = text_of(request, "upstream"),
                               .endpoint = text_of(request, "endpoint")};
  if (action == "drain") {
    order.drained = true;
  } else if (action == "ready") {
    order.drained = false;
    order.policy_weight = true;
  } else if (action == "weight") {
    const json::value* weight = request.if_contains("weight");
    if (weight == nullptr || !weight->is_int64() || weight->as_int64() < 0 ||
        weight->as_int64() > gateway::kMaxOrderedWeight)
      return admin_error("a weight is 0 to 1000");
    order.weight = static_cast<std::uint32_t>(weight->as_int64());
  } else {
    return admin_error("upstream knows drain, ready and weight, not '" + action + "'");
  }
  if (auto done = gateway::operator_access(gateway).order(order); !done)
    return admin_error(done.error());
  json::object answer{{"ok", true}, {"upstream", order.upstream}, {"action", action}};
  if (!order.endpoint.empty()) answer["endpoint"] = order.endpoint;
  if (order.weight) answer["weight"] = *order.weight;
  return answer;
}

}  // namespace sluice::control
