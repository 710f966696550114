#include "gateway/listener.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/bind_allocator.hpp>

#include "gateway/limit_gate.h"
#include "gateway/log.h"
#include "gateway/original_destination.h"
#include "gateway/session.h"
#include "gateway/worker.h"

namespace sluice::gateway {
namespace {

constexpr std::chrono::milliseconds kPauseAtLimit{100};
constexpr std::chrono::minutes kSayAgain{1};

bool same_socket(int a, int b) {
  struct stat first {};
  struct stat second {};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

bool out_of_resources(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

// accept(2): errors of a connection that is gone already; the next one may be fine.
bool of_that_connection(int error) {
  return error == ECONNABORTED || error == EINTR || error == EPROTO || error == ENETDOWN ||
         error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
         error == ENETUNREACH || error == EPERM;
}

// RST rather than FIN: nothing of the connection stays here.
void reset(int fd) {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ::close(fd);
}

}  // namespace

Listener::Listener(Worker& worker, ListenerSocket socket, std::shared_ptr<ListenerLoad> load)
    : worker_(worker),
      name_(std::move(socket.listener)),
      way_(socket.way),
      load_(std::move(load)),
      acceptor_(worker.io()) {
  open(socket.fd);
}

Listener::~Listener() = default;

void Listener::open(int fd) {
  address_ = local_address(fd).value_or(policy::SocketAddress{});
  boost::system::error_code error;
  acceptor_.assign(boost::asio::ip::tcp::v6(), fd, error);
  if (!error) acceptor_.native_non_blocking(true, error);
  if (error) {
    log_error("listener", "cannot use the listening socket",
              {{"listener", name_}, {"error", error.message()}});
    if (!acceptor_.is_open()) ::close(fd);
  }
}

void Listener::configure(std::optional<std::uint32_t> index) {
  gone_ = !index;
  if (!index) return;
  config_ = worker_.config();
  index_ = *index;
  slot_ = config_->slots().listeners[index_];
  policy_ = &config_->policy().listeners[index_];
}

void Listener::start() {
  accepting_ = true;
  wait();
}

void Listener::stop() {
  accepting_ = false;
  pause_.cancel();
  boost::system::error_code ignored;
  acceptor_.close(ignored);
}

void Listener::replace(int fd) {
  if (acceptor_.is_open() && same_socket(acceptor_.native_handle(), fd)) {
    ::close(fd);
    return;
  }
  stop();
  open(fd);
  start();
}

void Listener::connection_opened() {
  load_->open.fetch_add(1, std::memory_order_relaxed);
  worker_.overload().connection_opened();
  load_->budget->open.fetch_add(1, std::memory_order_relaxed);
  worker_.metrics().connection_opened(slot_, way_);
}

void Listener::connection_closed() {
  load_->open.fetch_sub(1, std::memory_order_relaxed);
  worker_.connection_closed();
  worker_.overload().connection_closed();
  load_->budget->open.fetch_sub(1, std::memory_order_relaxed);
  worker_.metrics().connection_closed(slot_, way_);
  if (std::exchange(full_, false)) {  // a place is free: no need to wait for the clock
    pause_.cancel();
    wait();
  }
}

void Listener::wait() {
  if (waiting_ || !accepting_ || !acceptor_.is_open()) return;
  waiting_ = true;
  acceptor_.async_wait(
      Acceptor::wait_read,
      boost::asio::bind_allocator(HandlerAllocator<std::byte>(memory_),
                                  [self = RefPtr(this)](boost::system::error_code error) {
                                    self->waiting_ = false;
                                    if (error == boost::asio::error::operation_aborted) {
                                      self->wait();  // replaced meanwhile, or stopped
                                    } else {
                                      self->on_acceptable();
                                    }
                                  }));
}

void Listener::on_acceptable() {
  for (int i = 0; i < kBatch; ++i) {
    if (!accepting_ || pause_.armed()) return;
    if (!accept_one()) break;
  }
  if (!pause_.armed()) wait();
}

bool Listener::may_accept() {
  if (load_->open.load(std::memory_order_relaxed) >= policy_->max_connections ||
      worker_.overload().full()) {
    // The backlog holds the rest; a client waits rather than being turned away.
    if (!full_) worker_.metrics().listener_full(slot_);
    full_ = true;
    pause();  // the place may become free on another worker
    return false;
  }
  if (load_->budget->used_up()) {
    full_ = true;
    pause_for_resources("the connections that the limit of descriptors allows are open");
    return false;
  }
  full_ = false;
  return true;
}

bool Listener::accept_one() {
  if (!may_accept()) return false;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int fd = ::accept4(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&address), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    if (of_that_connection(error)) return true;
    if (error == EAGAIN || error == EWOULDBLOCK) {
      backlog_is_empty();
    } else if (error == EINVAL) {
      stop();  // the keeper has shut it; it says so in a moment
    } else if (out_of_resources(error)) {
      pause_for_resources(std::strerror(error));
    } else {
      log_warn("listener", "accept failed", {{"listener", name_}, {"error", std::strerror(error)}});
      pause();
    }
    return false;
  }
  const auto peer = to_socket_address(address);
  return worker_.hand_over(*this, fd, peer) || take(fd, peer);
}

bool Listener::take(int fd, const std::optional<policy::SocketAddress>& peer) {
  const policy::SocketAddress source = peer.value_or(policy::SocketAddress{});
  std::optional<std::vector<policy::ConcurrencyLease>> places(std::in_place);
  if (!expects_proxy_header(source.address)) places = admit(fd, source, false);
  if (!places) {
    worker_.connection_closed();
    reset(fd);
    return true;
  }
  boost::system::error_code error;
  TransportPtr transport = Transport::adopt(worker_.io(), fd, error);
  if (!transport) {  // epoll took no more: the same shortage as above
    worker_.connection_closed();
    pause_for_resources(error.message());
    return false;
  }
  if (config_->snapshot().listener(index_).express) transport->expect_express();
  worker_.accepted(Client{.transport = std::move(transport),
                          .ticket = ClientTicket(RefPtr(this), std::move(*places)),
                          .peer = source,
                          .id = worker_.next_connection_id()});
  return true;
}

bool Listener::expects_proxy_header(const policy::IpAddress& peer) const {
  return policy_->accept_proxy_protocol != policy::ProxyProtocol::none &&
         std::ranges::any_of(config_->policy().trusted_proxies,
                             [&](const policy::Prefix& proxy) { return proxy.contains(peer); });
}

bool Listener::admit(Client& client) {
  auto places = admit(client.transport->fd(), client.peer, client.peer_claimed);
  if (places) client.ticket.hold(std::move(*places));
  return places.has_value();
}

std::optional<std::vector<policy::ConcurrencyLease>> Listener::admit(
    int fd, const policy::SocketAddress& client, bool claimed) {
  const policy::CompiledListener& rules = config_->snapshot().listener(index_);
  if (rules.access.empty() && rules.limits.empty()) return std::vector<policy::ConcurrencyLease>{};
  policy::RequestView view;
  view.client = client.address;
  view.client_claimed = claimed;
  const bool allowed = rules.access.check(view).allowed;
  if (!allowed) {
    worker_.metrics().access_denied(slot_);
    worker_.strike(*config_, *this, policy::BanEvent::access_denied, std::nullopt, client.address,
                   claimed);
    log_refused(client, worker_.next_connection_id(), "access denied");
    return std::nullopt;
  }
  if (rules.limits.empty()) return std::vector<policy::ConcurrencyLease>{};
  const bool destination = std::ranges::any_of(rules.limits, [&](const policy::UsedLimit& used) {
    return config_->limit(used.index).uses_destination();
  });
  if (destination) view.destination = local_address(fd);
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  LimitGate gate(worker_, nullptr);
  if (gate.begin(*config_, rules.limits, view, 0, static_cast<std::uint64_t>(now.count())) !=
      LimitGate::Result::passed) {
    log_refused(client, worker_.next_connection_id(), "limit " + gate.refused_by().name());
    return std::nullopt;
  }
  return gate.take_places();
}

void Listener::log_refused(const policy::SocketAddress& client, std::uint64_t connection,
                           std::string_view reason, std::string_view host) {
  if (!worker_.access_log().enabled()) return;
  AccessRing& ring = worker_.access_ring();
  AccessRecord* record = ring.begin();
  if (record == nullptr) return;
  record->kind = AccessRecord::Kind::refused;
  record->way = way_;
  record->time = std::chrono::system_clock::now();
  record->connection = connection;
  record->client = client;
  record->listener.assign(name_);
  record->host.assign(host);
  record->reason.assign(reason);
  ring.commit();
}

void Listener::pause() {
  worker_.wheel().arm(pause_, kPauseAtLimit);
}

// Those in the backlog wait; nobody is turned away.
void Listener::pause_for_resources(std::string_view what) {
  pause();
  worker_.metrics().accept_paused(slot_);  // each time: the rate says how long it lasts
  if (std::exchange(starving_, true)) return;
  const SteadyTime now = worker_.wheel().now();
  if (said_so_ || now - last_said_ < kSayAgain) return;
  said_so_ = true;
  last_said_ = now;
  log_warn("listener", "accepting pauses: no descriptors or memory for more connections",
           {{"listener", name_},
            {"reason", what},
            {"open", load_->budget->open.load(std::memory_order_relaxed)},
            {"allowed", load_->budget->allowed}});
}

void Listener::backlog_is_empty() {
  starving_ = false;
  if (std::exchange(said_so_, false))
    log_info("listener", "accepting goes on", {{"listener", name_}});
}

void Listener::on_pause_over() {
  const RefPtr<Listener> guard(this);
  on_acceptable();
}

}  // namespace sluice::gateway
