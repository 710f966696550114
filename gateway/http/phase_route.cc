// Phase route: which of them claims the request.
#include <variant>

#include "gateway/http/exchange.h"
#include "gateway/http/grpc.h"
#include "gateway/http1/request_fields.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::route() {
  const policy::Snapshot& snapshot = config_->snapshot();
  const Listener& listener = this->listener();
  if (listener.gone()) {
    client_->close_after(false);
    return refuse(503, "listener removed");
  }
  if (address_claimed_ && worker_.refuses(client_address())) return refuse(403, "banned");
  if (const auto diverted = worker_.diverted(*config_, client_address())) {
    use_upstream(*diverted);
    reason_.assign("diverted: a ban sends its source to another upstream");
    return pick();
  }
  // By name: the listener's own index is the newest policy's, ours may be older.
  const auto index = snapshot.find_listener(listener.name());
  if (index) route_ = find_route(snapshot.routes(*index));
  if (route_) {
    const policy::CompiledRoute& route = snapshot.route(*route_);
    const policy::Duration timeout = config_->policy().routes[*route_].timeout;
    arm_deadline(timeout);
    actions_ = route.actions.get();
    if (authority_holds(route.by_name)) routed();
    return;
  }
  const policy::Way way = policy_way(listener.way());
  if (const auto* respond = std::get_if<policy::RespondStatus>(&snapshot.fallback(way))) {
    return refuse(respond->status, "no route");
  }
  if (authority_holds(snapshot.fallback_by_name(way))) routed();
}

void Exchange::routed() {
  const policy::Snapshot& snapshot = config_->snapshot();
  if (!route_) {
    const policy::Fallback& fallback = snapshot.fallback(policy_way(listener().way()));
    use_upstream(std::get<policy::ForwardTo>(fallback).upstream);
    return pick();
  }
  const policy::CompiledRoute& route = snapshot.route(*route_);
  if (actions_ != nullptr && !begin_actions()) return;
  if (route.ai && !begin_mediation()) return;
  if (!route.auth.empty()) return authenticate(route);
  if (may_use(route)) limits();
}

std::optional<std::uint32_t> Exchange::find_route(const policy::RouteTable& table) {
  if (is_preflight()) {  // it stands for the request that it asks for
    const auto found = match(table, request_.fields().first("access-control-request-method"));
    if (found && config_->policy().routes[*found].actions.cors) return found;
  }
  return match(table, request_.method_name());
}

std::optional<std::uint32_t> Exchange::match(const policy::RouteTable& table,
                                             std::string_view method) {
  const http1::RequestFields fields(request_, joined_field_);
  policy::RequestView wanted = view(fields, table.uses_destination());
  wanted.method = method;
  return table.match(wanted);
}

// The earlier one of the route's and the caller's own. `route_timeout`: 0 is none.
void Exchange::arm_deadline(std::chrono::nanoseconds route_timeout) {
  std::chrono::nanoseconds timeout = route_timeout;
  if (grpc_) {
    const auto own = grpc::parse_timeout(request_.fields().first("grpc-timeout"));
    if (own && (timeout.count() == 0 || *own < timeout)) timeout = *own;
  }
  if (timeout.count() > 0) worker_.wheel().arm(deadline_, timeout);
}

void Exchange::use_upstream(std::uint32_t index) {
  const auto& over_tls = config_->policy().upstreams[index].over_tls;
  upstream_index_ = client_->client().decrypted && over_tls ? *over_tls : index;
  cluster_ = &config_->clusters().at(upstream_index_);
}

}  // namespace sluice::gateway::http
