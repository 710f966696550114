#include "gateway/tcp_session.h"

#include <algorithm>
#include <variant>

#include "gateway/original_destination.h"
#include "gateway/tls/stream.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"
#include "policy/express.h"

namespace sluice::gateway {
namespace {

constexpr const char* kNoHttp = "no HTTP: what a route asks here cannot be asked of it";

}  // namespace

TcpSession::TcpSession(Worker& worker, Client client, RefPtr<WorkerConfig> config)
    : worker_(worker),
      client_(std::move(client)),
      listener_(RefPtr(&client_.ticket.listener())),
      config_(std::move(config)),
      gate_(worker, this),
      begun_(std::chrono::steady_clock::now()) {}

void TcpSession::start(Worker& worker, Client client, std::string name, std::string early) {
  auto session = make_ref<TcpSession>(worker, std::move(client), worker.config());
  session->name_ = std::move(name);
  session->early_ = std::move(early);
  session->self_ = session;
  worker.session_opened(*session);
  session->route();
}

void TcpSession::start(Worker& worker, Tunnel tunnel) {
  auto session = make_ref<TcpSession>(worker, std::move(tunnel.client), std::move(tunnel.config));
  session->self_ = session;
  session->attempt_ = std::move(tunnel.attempt);
  session->upstream_ = std::move(tunnel.upstream);
  session->upstream_index_ = tunnel.upstream_index;
  session->cluster_ = &session->attempt_.cluster();
  session->endpoint_ = session->attempt_.endpoint().address();
  session->tunnel_ = true;
  worker.session_opened(*session);
  session->relay(std::move(tunnel.from_client), std::move(tunnel.from_upstream));
}

void TcpSession::route() {
  const policy::Snapshot& snapshot = config_->snapshot();
  const WayIn way = listener_->way();
  if (listener_->gone()) return end("listener removed");
  destination_ = reachable_destination(worker_, way, client_.transport->fd());
  const auto dialled = snapshot.routes(listener_->index()).uses_destination()
                           ? local_address(client_.transport->fd())
                           : std::nullopt;
  const policy::IpAddress& client = client_.peer.address;
  if (client_.peer_claimed && worker_.refuses(client)) return end("banned");
  if (const auto diverted = worker_.diverted(*config_, client)) {
    use_upstream(*diverted);
    remark_ = "diverted: a ban sends its source to another upstream";
    return pick();
  }
  route_ = snapshot.routes(listener_->index()).match_connection(name_, dialled);
  if (route_) route_name_ = config_->policy().routes[*route_].name;
  const bool by_name =
      route_ ? snapshot.route(*route_).by_name : snapshot.fallback_by_name(policy_way(way));
  if (authority_holds(by_name)) routed();
}

// What is no TLS gives no name, and nothing depends on one. True: it goes on here.
bool TcpSession::authority_holds(bool by_name) {
  const bool names_itself = !name_.empty() || !early_.empty();
  if (!policy::authority_matters(listener_->policy(), policy_way(listener_->way()),
                                 by_name && names_itself)) {
    return true;
  }
  const auto dialled = local_address(client_.transport->fd());
  if (!dialled) return true;
  const auto verdict = worker_.authority_names().check({name_, std::nullopt, *dialled},
                                                       authority_waiter_, worker_.wheel().now());
  return verdict && authority_judged(*verdict);
}

void TcpSession::on_authority(policy::AuthorityVerdict verdict) {
  const RefPtr<TcpSession> guard(this);
  if (authority_judged(verdict)) routed();
}

bool TcpSession::authority_judged(policy::AuthorityVerdict verdict) {
  worker_.metrics().authority_judged(listener_->slot(), static_cast<std::size_t>(verdict));
  if (verdict == policy::AuthorityVerdict::verified) return true;
  const std::string found = "authority " + std::string(policy::to_string(verdict));
  if (listener_->policy().verify_authority == policy::VerifyAuthority::audit) {
    remark_ = "audit: " + found;
    return true;
  }
  end(found);
  return false;
}

void TcpSession::routed() {
  const policy::Snapshot& snapshot = config_->snapshot();
  if (!route_) {
    const auto* forward =
        std::get_if<policy::ForwardTo>(&snapshot.fallback(policy_way(listener_->way())));
    if (forward == nullptr) return end("no route");
    return go_on_to(forward->upstream);
  }
  if (!snapshot.route(*route_).auth.empty()) return end(kNoHttp);
  policy::RequestView view;
  view.client = client_.peer.address;
  view.client_claimed = client_.peer_claimed;
  policy::ClientIdentity proven;
  TlsStream* const tls = client_.transport->tls();
  if (const tls::Identity* shown = tls == nullptr ? nullptr : tls->identity()) {
    proven.certificate_names = shown->names;
    view.identity = &proven;
  }
  if (snapshot.routes(listener_->index()).uses_destination())
    view.destination = local_address(client_.transport->fd());
  if (!snapshot.route(*route_).access.check(view).allowed) {
    worker_.metrics().access_denied(listener_->slot());
    worker_.strike(*config_, *listener_, policy::BanEvent::access_denied, route_, view.client,
                   client_.peer_claimed);
    return end("access denied");
  }
  limits(view);
}

void TcpSession::limits(policy::RequestView view) {
  const policy::CompiledRoute& route = config_->snapshot().route(*route_);
  if (route.limits.empty()) return on_limits_passed();
  const bool destination = std::ranges::any_of(route.limits, [&](const policy::UsedLimit& used) {
    return config_->limit(used.index).uses_destination();
  });
  if (destination && !view.destination) {
    view.destination = local_address(client_.transport->fd());
  }
  const auto now = static_cast<std::uint64_t>(begun_.time_since_epoch().count());
  const auto result = gate_.begin(*config_, route.limits, view, route.id, now);
  if (result == LimitGate::Result::passed) return on_limits_passed();
  if (result == LimitGate::Result::refused) return on_limits_refused();
}

void TcpSession::on_limits_passed() {
  const RefPtr<TcpSession> guard(this);
  const policy::CompiledRoute& route = config_->snapshot().route(*route_);
  if (route.targets.empty()) return end("the route answers over HTTP only");
  go_on_to(choose_upstream(route, worker_));
}

// What is no HTTP cannot be asked who it is, nor what it wants.
void TcpSession::go_on_to(std::uint32_t upstream) {
  if (config_->snapshot().is_guarded(listener_->index(), upstream, route_)) return end(kNoHttp);
  use_upstream(upstream);
  pick();
}

void TcpSession::on_limits_refused() {
  const RefPtr<TcpSession> guard(this);
  end("limit " + gate_.refused_by().name());
}

void TcpSession::use_upstream(std::uint32_t index) {
  upstream_index_ = index;
  cluster_ = &config_->clusters().at(index);
}

PickRequest TcpSession::pick_request() const {
  const auto& address = client_.peer.address.bytes();
  return {.exclude = std::span(tried_.data(), std::min<std::size_t>(tries_, kMaxTries)),
          .original_destination = destination_,
          .hash = cluster_->config().lb_policy == policy::LbPolicy::maglev
                      ? policy::balancing_hash(
                            {reinterpret_cast<const char*>(address.data()), address.size()})
                      : 0,
          .server_name = name_};
}

void TcpSession::pick() {
  auto attempt = worker_.upstreams().begin(*cluster_, pick_request());
  if (!attempt) return nobody_picked(attempt.error());
  attempt_ = std::move(*attempt);
  attempt_.want_express(policy::upstream_in_lane(listener_->policy(), cluster_->config()));
  endpoint_ = attempt_.endpoint().address();
  endpoint_slot_ = endpoint_slot(*config_, upstream_index_, attempt_);
  worker_.metrics().upstream_request_begun(endpoint_slot_);
  connect();
}

void TcpSession::nobody_picked(PickError error) {
  const UpstreamSlot slot = config_->slots().upstreams[upstream_index_];
  switch (error) {
    case PickError::resolving:
      if (worker_.upstreams().wait(*cluster_, waiter_)) return;
      [[fallthrough]];
    case PickError::no_endpoints:
      worker_.metrics().no_endpoint(slot);
      return end("no endpoint");
    case PickError::request_limit:
      worker_.metrics().breaker_open(slot);
      return end("upstream request limit");
    case PickError::no_original_destination:
      worker_.metrics().no_endpoint(slot);
      return end("no original destination, or a loop");
  }
}

// A connection may be had, or DNS may have answered: then the same policy has other clusters.
void TcpSession::on_place() {
  const RefPtr<TcpSession> guard(this);
  if (attempt_) return connect();
  if (const auto& newest = worker_.config(); &newest->snapshot() == &config_->snapshot()) {
    config_ = newest;
    cluster_ = &config_->clusters().at(upstream_index_);
  }
  pick();
}

void TcpSession::on_queue_timeout() {
  const RefPtr<TcpSession> guard(this);
  const UpstreamSlot slot = config_->slots().upstreams[upstream_index_];
  attempt_ ? worker_.metrics().breaker_open(slot) : worker_.metrics().no_endpoint(slot);
  endpoint_ = {};  // it was chosen, and never asked
  end(attempt_ ? "no upstream connection within queue_timeout"
               : "the upstream's name is not resolved");
}

void TcpSession::connect() {
  const auto open = [this] {
    return worker_.upstreams().connect(attempt_, client_.peer.address, *this);
  };
  auto connection = open();
  if (!connection && connection.error().reason == ConnectError::connection_limit) {
    connection = worker_.upstreams().open_elsewhere(attempt_, pick_request(), open);
    endpoint_ = attempt_.endpoint().address();
    follow_attempt(worker_, *config_, upstream_index_, attempt_, endpoint_slot_);
  }
  if (!connection) return connect_failed(connection.error());
  waiter_.leave();
  upstream_ = std::move(*connection);
  if (upstream_->state() == UpstreamConnection::State::in_use) relay(std::move(early_), {});
}

std::optional<ProxiedClient> TcpSession::proxied_client() const {
  return ProxiedClient{client_.peer, client_.wanted()};
}

void TcpSession::on_connected(UpstreamConnection& /*connection*/) {
  const RefPtr<TcpSession> guard(this);
  relay(std::move(early_), {});
}

void TcpSession::on_connect_failed(UpstreamConnection& /*connection*/,
                                   const ConnectFailure& failure) {
  const RefPtr<TcpSession> guard(this);
  connect_failed(failure);
}

bool TcpSession::try_again(const Endpoint& failed) {
  const policy::Retry& retry = cluster_->config().retry;
  if ((retry.retry_on & policy::kRetryConnectFailure) == 0 || tries_ >= retry.attempts ||
      tries_ >= kMaxTries) {
    return false;
  }
  const UpstreamSlot slot = config_->slots().upstreams[upstream_index_];
  if (!cluster_->state().retries().try_begin_retry(retry.budget_percent,
                                                   cluster_->config().circuit_breakers.retries)) {
    worker_.metrics().retry_refused(slot);
    return false;
  }
  worker_.metrics().retried(slot);
  retrying_ = true;
  tried_[tries_++] = &failed;
  pick();
  return true;
}

void TcpSession::connect_failed(const ConnectFailure& failure) {
  if (failure.reason == ConnectError::connection_limit &&
      worker_.upstreams().wait(*cluster_, waiter_)) {
    return;
  }
  upstream_.reset();
  const Endpoint& endpoint = attempt_.endpoint();
  const Outcome outcome = !blames_endpoint(failure.reason)            ? Outcome::neutral
                          : failure.reason == ConnectError::timed_out ? Outcome::connect_timeout
                                                                      : Outcome::connect_failure;
  worker_.metrics().upstream_connect_failed(endpoint_slot_,
                                            static_cast<std::size_t>(failure.reason));
  if (failure.reason == ConnectError::tls) worker_.metrics().upstream_tls_failed(endpoint_slot_);
  if (failure.reason == ConnectError::connection_limit) {
    worker_.metrics().breaker_open(config_->slots().upstreams[upstream_index_]);
    endpoint_ = {};  // it was chosen, and never asked
  }
  end_attempt(outcome);
  if (blames_endpoint(failure.reason) && try_again(endpoint)) return;
  end(failure.reason == ConnectError::tls ? failure.to_string()
                                          : std::string(to_string(failure.reason)));
}

void TcpSession::relay(std::string from_client, std::string from_upstream) {
  end_retries();  // the connection stands: however long it lasts, nothing is tried again
  if (!tunnel_) worker_.metrics().upstream_connected(endpoint_slot_, upstream_->connect_time());
  log(AccessRecord::Kind::open, remark_, {});
  RelayOptions options;
  options.idle = listener_->policy().timeouts.idle;
  options.from_client = std::move(from_client);
  options.from_upstream = std::move(from_upstream);
  relayed_fd_ = client_.transport->fd();
  relay_ =
      L4Relay::start(worker_.relays(), std::move(client_.transport), upstream_->take_transport(),
                     std::move(options),
                     [self = RefPtr(this)](const RelayResult& result) { self->settle(result); });
}

void TcpSession::settle(const RelayResult& result) {
  if (!self_) return;
  worker_.metrics().client_bytes(listener_->slot(), result.bytes.from_client,
                                 result.bytes.from_upstream);
  const bool refused = result.end == RelayEnd::upstream_reset && result.bytes.from_upstream == 0;
  if (!tunnel_) {
    worker_.metrics().upstream_bytes(endpoint_slot_, result.bytes.from_client,
                                     result.bytes.from_upstream);
    if (result.network) worker_.metrics().upstream_network(endpoint_slot_, *result.network);
  }
  if (refused && !tunnel_) {
    worker_.metrics().upstream_failed(endpoint_slot_, UpstreamFailure::reset);
  }
  end_attempt(refused ? Outcome::reset : Outcome::success);
  gate_.release();
  log(AccessRecord::Kind::close, to_string(result.end), result.bytes);
  const RefPtr<TcpSession> guard = std::move(self_);
  upstream_.reset();
  client_.ticket.release();
  worker_.session_closed(*this);
}

// Harmless when there is none.
void TcpSession::end_attempt(Outcome outcome) {
  waiter_.leave();
  if (attempt_) {
    if (!tunnel_) worker_.metrics().upstream_request_ended(endpoint_slot_, 0);
    attempt_.finish(outcome, std::chrono::steady_clock::now());
  }
  attempt_ = {};
  end_retries();
}

void TcpSession::end_retries() {
  if (std::exchange(retrying_, false)) cluster_->state().retries().retry_ended();
}

void TcpSession::end(std::string_view reason) {
  if (!self_) return;
  gate_.release();
  authority_waiter_.leave();
  log(AccessRecord::Kind::close, reason, {});
  const RefPtr<TcpSession> guard = std::move(self_);
  if (upstream_) upstream_->close();
  upstream_.reset();
  end_attempt(Outcome::neutral);
  client_.transport->close();
  client_.ticket.release();
  worker_.session_closed(*this);
}

void TcpSession::drain() {}

void TcpSession::abort() {
  const RefPtr<TcpSession> guard(this);
  if (!self_) return;
  if (!relay_) return end("drain");
  const auto relay = relay_;
  relay->cancel();
  settle({RelayEnd::cancelled, relay->bytes(), {}, {}});
}

void TcpSession::log(AccessRecord::Kind kind, std::string_view reason, const RelayBytes& bytes) {
  if (!worker_.access_log().enabled()) return;
  AccessRing& ring = worker_.access_ring();
  AccessRecord* record = ring.begin();
  if (record == nullptr) return;
  record->kind = kind;
  record->way = listener_->way();
  record->time = std::chrono::system_clock::now();
  record->connection = client_.id;
  record->attempts = tries_ + (cluster_ != nullptr ? 1 : 0);
  record->bytes_in = bytes.from_client;
  record->bytes_out = bytes.from_upstream;
  record->client = client_.peer;
  if (destination_) record->destination = *destination_;
  record->endpoint = endpoint_;
  record->listener.assign(listener_->name());
  record->route.assign(route_name_);
  if (cluster_ != nullptr) record->upstream.assign(cluster_->name());
  record->host.assign(name_);
  record->reason.assign(reason);
  if (upstream_) record->connect = upstream_->connect_time();
  if (kind == AccessRecord::Kind::close) {
    record->total = std::chrono::steady_clock::now() - begun_;
  }
  ring.commit();
}

}  // namespace sluice::gateway
