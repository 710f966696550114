#include "gateway/worker.h"

#include <algorithm>
#include <csignal>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/auth/jwt.h"
#include "gateway/auth/key_fetcher.h"
#include "gateway/clocks.h"
#include "gateway/detection.h"
#include "gateway/http1/client_stream.h"
#include "gateway/http1/connection.h"
#include "gateway/http1/upstream_stream.h"
#include "gateway/http2/client_stream.h"
#include "gateway/http2/flood.h"
#include "gateway/http2/upstream_pool.h"
#include "gateway/log.h"
#include "gateway/original_destination.h"
#include "gateway/proxy_header_reader.h"
#include "gateway/random_seed.h"
#include "gateway/tcp_session.h"
#include "gateway/tls/handshake.h"
#include "gateway/tls/passthrough.h"
#include "policy/express.h"
#include "policy/schema.h"

namespace sluice::gateway {
namespace {

constexpr std::size_t kKeepConnections = 1024;
constexpr std::size_t kKeepExchanges = 256;
constexpr std::chrono::seconds kStopPatience{2};  // for handlers of closed sockets; they need none

}  // namespace

// UNSAFE_IO: sockets are used by their worker's thread only, so the reactor needs no locks; posts
// from other threads stay safe.
Worker::Worker(WorkerSetup setup)
    : setup_(std::move(setup)),
      ring_(setup_.access_log->ring(setup_.index)),
      connections_(kKeepConnections),
      http1_clients_(kKeepExchanges),
      http1_upstreams_(kKeepExchanges),
      upstream_streams_(*this),
      http2_clients_(kKeepExchanges),
      http2_upstreams_(kKeepExchanges),
      http2_pool_(std::make_unique<http2::UpstreamPool>(*this)),
      io_(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO),
      work_(io_.get_executor()),
      wheel_(io_),
      upstreams_(std::make_unique<UpstreamWorker>(
          io_, wheel_, UpstreamWorkerOptions{.worker = setup_.index, .own_mark = setup_.own_mark})),
      relays_(io_, wheel_),
      authority_names_(io_, *setup_.names),
      random_state_(random_seed()) {
  if (setup_.index == 0) key_fetcher_ = std::make_unique<auth::KeyFetcher>(*this);
  setup_.balance->join(setup_.index, *this);
  thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
  setup_.balance->leave(setup_.index);
  boost::asio::post(io_, [this] { stop(); });
  thread_.join();
}

void Worker::run() {
  // Signals are the control thread's, but for those that say what this one did.
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    sigdelset(&all, own);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), ("worker-" + std::to_string(setup_.index)).c_str());
  io_.run();
  // stop() has closed every socket; what is left are their handlers, which come at once.
  io_.restart();
  io_.run_for(kStopPatience);
  listeners_.clear();
  connections_.close();
  http1_clients_.close();
  http1_upstreams_.close();
  http2_clients_.close();
  http2_upstreams_.close();
  http2_pool_.reset();
  upstreams_.reset();
}

void Worker::stop() {
  for (const RefPtr<Listener>& listener : listeners_)
    listener->stop();
  while (!sessions_.empty())
    sessions_.front().abort();
  if (key_fetcher_) key_fetcher_->stop();
  mirrors_.close();
  spans_.stop();
  http2_pool_->close();
  upstreams_->close_idle();
  wheel_.pause();
  work_.reset();
  io_.stop();
}

void Worker::apply(std::shared_ptr<const PolicyGeneration> generation,
                   std::vector<ListenerSocket> sockets, std::function<void()> done) {
  boost::asio::post(io_, [this, generation = std::move(generation), sockets = std::move(sockets),
                          done = std::move(done)]() mutable {
    config_ = make_ref<WorkerConfig>(std::move(generation));
    upstreams_->adopt(config_->shared_clusters());
    if (!policy::upstreams_in_lane(config_->policy())) upstreams_->leave_express();
    jwt_memories_.clear();
    if (key_fetcher_) key_fetcher_->follow(config_);
    spans_.follow(*config_);
    adopt_sockets(std::move(sockets));
    done();
  });
}

void Worker::update(std::shared_ptr<const PolicyGeneration> generation) {
  boost::asio::post(io_, [this, generation = std::move(generation)]() mutable {
    config_ = make_ref<WorkerConfig>(std::move(generation));
    upstreams_->adopt(config_->shared_clusters());
  });
}

void Worker::apply_tls(std::shared_ptr<const PolicyGeneration> generation,
                       std::function<void()> done) {
  boost::asio::post(io_,
                    [this, generation = std::move(generation), done = std::move(done)]() mutable {
                      config_ = make_ref<WorkerConfig>(std::move(generation));
                      upstreams_->adopt(config_->shared_clusters());
                      for (const RefPtr<Listener>& listener : listeners_)
                        listener->configure(config_->snapshot().find_listener(listener->name()));
                      done();
                    });
}

void Worker::adopt_sockets(std::vector<ListenerSocket> sockets) {
  std::vector<RefPtr<Listener>> kept;
  const policy::Snapshot& snapshot = config_->snapshot();
  for (ListenerSocket& socket : sockets) {
    const auto known = std::ranges::find_if(listeners_, [&](const RefPtr<Listener>& listener) {
      return listener->name() == socket.listener && listener->way() == socket.way;
    });
    const auto index = snapshot.find_listener(socket.listener);
    if (known != listeners_.end()) {
      RefPtr<Listener> listener = std::move(*known);
      listeners_.erase(known);
      listener->configure(index);
      listener->replace(socket.fd);
      kept.push_back(std::move(listener));
      continue;
    }
    auto listener = make_ref<Listener>(*this, socket, setup_.load_of(socket.listener));
    listener->configure(index);
    if (!draining_) listener->start();
    kept.push_back(std::move(listener));
  }
  for (const RefPtr<Listener>& gone : listeners_) {
    gone->stop();
    gone->configure(std::nullopt);
  }
  const bool any_gone = !listeners_.empty();
  listeners_ = std::move(kept);
  if (any_gone) drain_sessions(true);
}

void Worker::drain_sessions(bool of_gone_listeners_only) {
  for (auto next = sessions_.begin(); next != sessions_.end();) {
    Session& session = *next++;  // it may leave the list
    if (!of_gone_listeners_only || session.listener().gone()) session.drain();
  }
}

// By SO_COOKIE, which no other socket of the node ever has.
void Worker::drain_connections(std::shared_ptr<const std::vector<std::uint64_t>> cookies,
                               std::chrono::milliseconds deadline) {
  boost::asio::post(io_, [this, cookies = std::move(cookies), deadline] {
    const auto ends_at = std::chrono::steady_clock::now() + deadline;
    for (auto next = sessions_.begin(); next != sessions_.end();) {
      Session& session = *next++;  // it may leave the list
      if (session.listener().way() == WayIn::bind) continue;
      const auto cookie = socket_cookie(session.fd());
      if (cookie && std::ranges::binary_search(*cookies, *cookie)) session.end_soon(ends_at);
    }
    auto timer = std::make_shared<boost::asio::steady_timer>(io_, ends_at);
    timer->async_wait([this, timer](const boost::system::error_code& error) {
      if (!error) end_drained();
    });
  });
}

void Worker::end_drained() {
  const auto now = std::chrono::steady_clock::now();
  for (auto next = sessions_.begin(); next != sessions_.end();) {
    Session& session = *next++;
    if (session.overdue(now)) session.abort();
  }
}

void Worker::drain(std::function<void()> done) {
  boost::asio::post(io_, [this, done = std::move(done)]() mutable {
    draining_ = true;
    setup_.balance->drains(setup_.index);
    drained_ = std::move(done);
    for (const RefPtr<Listener>& listener : listeners_)
      listener->stop();
    drain_sessions(false);
    report_if_drained();
  });
}

void Worker::abort_all() {
  boost::asio::post(io_, [this] {
    while (!sessions_.empty())
      sessions_.front().abort();
  });
}

void Worker::report_if_drained() {
  if (drained_ && sessions_.empty() && setup_.balance->all_settled(setup_.index))
    std::exchange(drained_, nullptr)();
}

void Worker::accepted(Client client) {
  if (client.ticket.listener().expects_proxy_header(client.peer.address))
    return ProxyHeaderReader::start(*this, std::move(client));
  identified(std::move(client));
}

bool Worker::hand_over(const Listener& listener, int fd,
                       const std::optional<policy::SocketAddress>& peer) {
  const std::uint32_t whose = setup_.balance->place(setup_.index);
  if (whose == setup_.index) return false;
  HandedConnection connection(listener.load(), overload());
  connection.fd = fd;
  connection.listener = listener.name();
  connection.way = listener.way();
  connection.peer = peer;
  connection.from = setup_.index;
  if (setup_.balance->give(whose, connection)) return true;
  connection.take();
  return false;
}

// Where this worker drains, or does not know the listener yet, it goes back to where it came from.
void Worker::take_handed(HandedConnection connection) {
  const std::uint32_t from = connection.from;
  const auto listener = std::ranges::find_if(listeners_, [&](const RefPtr<Listener>& known) {
    return known->name() == connection.listener && known->way() == connection.way;
  });
  const bool own = from == setup_.index;
  if (listener != listeners_.end() && !(*listener)->gone() && (own || !draining_)) {
    (*listener)->take(connection.take(), connection.peer);
  } else if (!own) {
    setup_.balance->give_back(setup_.index, connection);
  } else {
    connection_closed();
  }
  setup_.balance->settled(from);
}

void Worker::identified(Client client) {
  const policy::Listener& policy = client.ticket.listener().policy();
  if (policy.tls && policy.protocol != policy::ListenerProtocol::automatic)
    return begin_tls(std::move(client));
  switch (policy.protocol) {
    case policy::ListenerProtocol::http:
      return http1::Connection::start(*this, std::move(client));
    case policy::ListenerProtocol::tcp:
      return TcpSession::start(*this, std::move(client));
    case policy::ListenerProtocol::tls:
      return tls::Passthrough::start(*this, std::move(client));
    case policy::ListenerProtocol::automatic:
      return Detection::start(*this, std::move(client));
  }
}

void Worker::begin_tls(Client client) {
  const policy::Listener& policy = client.ticket.listener().policy();
  if (policy.tls && !policy.tls->authority) return tls::Handshake::start(*this, std::move(client));
  tls::Passthrough::start(*this, std::move(client));
}

std::uint64_t Worker::next_connection_id() {
  return std::uint64_t{setup_.index} << 48 | ++connections_seen_;
}

void Worker::session_opened(Session& session) {
  sessions_.push_back(session);
  sessions_open_.store(sessions_open_.load(std::memory_order_relaxed) + 1,
                       std::memory_order_relaxed);
}

void Worker::session_closed(Session& session) {
  session.unlink();
  sessions_open_.store(sessions_open_.load(std::memory_order_relaxed) - 1,
                       std::memory_order_relaxed);
  report_if_drained();
}

auth::JwtMemory& Worker::jwt_memory(std::uint64_t id) {
  auto& memory = jwt_memories_[id];
  if (!memory) memory = std::make_unique<auth::JwtMemory>();
  return *memory;
}

std::uint64_t Worker::random() {  // xorshift64*
  random_state_ ^= random_state_ >> 12;
  random_state_ ^= random_state_ << 25;
  random_state_ ^= random_state_ >> 27;
  return random_state_ * 0x2545F4914F6CDD1DULL;
}

bool Worker::strike(const WorkerConfig& config, std::uint32_t limit,
                    const policy::IpAddress& source, bool claimed) {
  const policy::BanRules& rules = config.snapshot().ban_rules();
  if (rules.of_limit(limit).empty()) return false;
  const auto decision = setup_.bans->strike(rules, limit, source, steady_now());
  if (!decision) return false;
  metrics().ban_requested(config.slots().limits[limit], decision->mode == policy::BanMode::audit);
  return punish(config, *decision, claimed, "limit " + config.limit(limit).name());
}

bool Worker::strike(const WorkerConfig& config, const Listener& listener, policy::BanEvent event,
                    std::optional<std::uint32_t> route, const policy::IpAddress& source,
                    bool claimed) {
  const policy::BanRules& rules = config.snapshot().ban_rules();
  if (rules.of_event(event).empty()) return false;
  const auto decision = setup_.bans->strike(rules, event, route, source, steady_now());
  if (!decision) return false;
  const auto index = static_cast<std::size_t>(event);
  metrics().ban_requested(listener.slot(), index, decision->mode == policy::BanMode::audit);
  return punish(config, *decision, claimed, std::string(policy::kBanEventWords[index]));
}

bool Worker::punish(const WorkerConfig& config, const policy::BanDecision& decision, bool claimed,
                    const std::string& cause) {
  const std::string where = config.policy().bans.rules[decision.rule].where.to_string();
  const auto duration = std::chrono::ceil<std::chrono::seconds>(decision.duration);
  if (decision.mode == policy::BanMode::audit) {
    log_info("bans", "would ban (audit)",
             {{"source", decision.source.to_string()}, {"cause", cause}, {"rule", where}});
    return false;
  }
  const std::string reason = cause + " (" + where + ")";
  const bool drops = decision.action == policy::BanAction::drop;
  if (drops && !claimed) {
    setup_.request_ban({decision.source, duration, reason});
    return true;
  }
  const std::uint64_t now = steady_now();
  const auto until = now + static_cast<std::uint64_t>(decision.duration.count());
  const std::uint64_t upstream = drops ? policy::kRefuseSource : decision.upstream;
  if (setup_.diverted->add(decision.source, upstream, until, now, reason)) {
    log_info("bans", drops ? "banned in the gateway" : "diverted",
             {{"source", decision.source.to_string()},
              {"seconds", static_cast<std::uint64_t>(duration.count())},
              {"reason", reason}});
  }
  return false;  // its connection goes on: to the other upstream, or for others behind that proxy
}

bool Worker::refuses(const policy::IpAddress& source) const {
  return !setup_.diverted->empty() &&
         setup_.diverted->find(source, steady_now()) == policy::kRefuseSource;
}

std::optional<std::uint32_t> Worker::diverted(const WorkerConfig& config,
                                              const policy::IpAddress& source) const {
  if (setup_.diverted->empty()) return std::nullopt;
  const auto upstream = setup_.diverted->find(source, steady_now());
  return upstream ? config.snapshot().ban_rules().find_upstream(*upstream) : std::nullopt;
}

void Worker::http2_abuse(const Listener& listener, http2::Abuse kind, const Client& client) {
  metrics().http2_abuse(listener.slot(), static_cast<std::size_t>(kind));
  log_info("http2", "client's connection ended",
           {{"listener", listener.name()},
            {"client", client.peer.address.to_string()},
            {"kind", std::string(http2::name(kind))}});
  strike(*config_, listener, policy::BanEvent::http2_abuse, std::nullopt, client.peer.address,
         client.peer_claimed);
}

void Worker::tls_failed(const Listener& listener, tls::Failure failure, const Client& client) {
  metrics().tls_failed(listener.slot(), static_cast<std::size_t>(failure));
  // These two may well be our own certificate's fault.
  if (failure == tls::Failure::unready || failure == tls::Failure::refused) return;
  strike(*config_, listener, policy::BanEvent::tls_handshake, std::nullopt, client.peer.address,
         client.peer_claimed);
}

bool Worker::is_own_address(const policy::SocketAddress& destination) const {
  return std::ranges::any_of(listeners_, [&](const RefPtr<Listener>& listener) {
    const policy::SocketAddress& own = listener->address();
    return own == destination || (own.port == destination.port && own.address.is_unspecified() &&
                                  destination.address.is_loopback());
  });
}

}  // namespace sluice::gateway
