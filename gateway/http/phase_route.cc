// Phases route and limits: which upstream, and whether this client may have it now.
#include <algorithm>
#include <variant>

#include "gateway/http/exchange.h"
#include "gateway/http/grpc.h"
#include "gateway/http1/request_fields.h"
#include "gateway/original_destination.h"
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
  // By name: the listener's own index is the newest policy's, ours may be older.
  const auto index = snapshot.find_listener(listener.name());
  if (index) route_ = find_route(snapshot.routes(*index));
  if (route_) {
    const policy::CompiledRoute& route = snapshot.route(*route_);
    const policy::Duration timeout = config_->policy().routes[*route_].timeout;
    arm_deadline(timeout);
    return limits(route);
  }
  const policy::Fallback& fallback = snapshot.fallback(policy_way(listener.way()));
  if (const auto* respond = std::get_if<policy::RespondStatus>(&fallback)) {
    return refuse(respond->status, "no route");
  }
  use_upstream(std::get<policy::ForwardTo>(fallback).upstream);
  pick();
}

std::optional<std::uint32_t> Exchange::find_route(const policy::RouteTable& table) {
  const http1::RequestFields fields(request_, joined_field_);
  policy::RequestView view;
  view.client = client_->client().peer.address;
  if (table.uses_destination()) view.destination = local_address(client_->client().transport->fd());
  view.method = request_.method_name();
  view.host = host_;
  view.path = normal_path_;
  view.query = request_.query();
  view.fields = &fields;
  return table.match(view);
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

void Exchange::limits(const policy::CompiledRoute& route) {
  const auto now = static_cast<std::uint64_t>(begun_.time_since_epoch().count());
  const policy::IpAddress& client = client_->client().peer.address;
  for (const std::uint32_t index : route.limits) {
    const policy::LimitHandle& limit = config_->limit(index);
    const policy::LimitVerdict verdict = limit.admit(client, route.id, now);
    worker_.metrics().limit_verdict(config_->slots().limits[index], verdict.allowed);
    if (verdict.allowed) continue;
    if (worker_.strike(*config_, index, client)) client_->close_after(false);
    const std::uint64_t seconds = (verdict.retry_after_ns + 999'999'999) / 1'000'000'000;
    return refuse_after(429, "limit " + limit.name() + " exceeded",
                        std::max<std::uint64_t>(seconds, 1));
  }
  use_upstream(choose_upstream(route, worker_));
  pick();
}

void Exchange::use_upstream(std::uint32_t index) {
  upstream_index_ = index;
  cluster_ = &config_->clusters().at(index);
}

}  // namespace sluice::gateway::http
