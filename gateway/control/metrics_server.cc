#include "gateway/control/metrics_server.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

namespace sluice::gateway {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

constexpr std::size_t kMaxConnections = 32;
constexpr std::size_t kMaxRequestHead = 8 * 1024;
constexpr unsigned kMaxRequestsPerConnection = 1000;
constexpr std::chrono::seconds kTimeout{
    10};  // for a request to come, and for an answer to be taken
constexpr std::chrono::seconds kAcceptPause{1};  // when descriptors have run out

tcp::endpoint to_endpoint(const policy::SocketAddress& address) {
  if (address.address.is_v4()) {
    return {asio::ip::address_v4(address.address.v4_host_order()), address.port};
  }
  return {asio::ip::address_v6(address.address.bytes()), address.port};
}

policy::IpAddress to_ip(const asio::ip::address& address) {
  if (address.is_v4()) return policy::IpAddress::v4(address.to_v4().to_uint());
  return policy::IpAddress(address.to_v6().to_bytes());  // a mapped IPv4 address is one already
}

struct Answer {
  http::status status = http::status::ok;
  std::string body;
};

}  // namespace

struct MetricsServer::State : std::enable_shared_from_this<MetricsServer::State> {
  State(asio::io_context& context, Pages callbacks) : io(context), pages(std::move(callbacks)) {}

  struct Connection;
  struct Listening {
    explicit Listening(asio::io_context& context) : acceptor(context), pause(context) {}
    tcp::acceptor acceptor;
    asio::steady_timer pause;
    policy::SocketAddress wanted;  // as in the policy
  };

  std::expected<std::shared_ptr<Listening>, std::string> listen(const policy::SocketAddress& at);
  std::expected<void, std::string> move_to(const policy::SocketAddress& at);
  void accept(const std::shared_ptr<Listening>& on);
  void accepted(const std::shared_ptr<Listening>& on, beast::error_code error, tcp::socket socket);
  void close();
  bool may_ask(const asio::ip::address& peer) const;
  Answer answer(http::verb method, std::string_view target, bool allowed) const;

  asio::io_context& io;
  Pages pages;
  std::shared_ptr<Listening> listening;
  std::vector<policy::Prefix> allow;
  std::vector<std::weak_ptr<Connection>> connections;
  bool closed = false;
};

// One scraper. Keeps itself alive by the operation that is under way; each is bounded by kTimeout.
struct MetricsServer::State::Connection : std::enable_shared_from_this<Connection> {
  Connection(std::shared_ptr<State> server, tcp::socket socket)
      : state(std::move(server)), stream(std::move(socket)), buffer(kMaxRequestHead) {}

  void read() {
    parser.emplace();
    parser->header_limit(kMaxRequestHead);
    parser->body_limit(0);  // nothing that is asked for here has a body
    stream.expires_after(kTimeout);
    http::async_read(stream, buffer, *parser,
                     [self = shared_from_this()](beast::error_code error, std::size_t) {
                       self->was_read(error);
                     });
  }

  void was_read(beast::error_code error) {
    if (error) return close();
    const auto& request = parser->get();
    beast::error_code gone;
    const auto peer = stream.socket().remote_endpoint(gone);
    if (gone) return close();
    Answer answer =
        state->answer(request.method(), request.target(), state->may_ask(peer.address()));
    const bool keep = request.keep_alive() && answer.status == http::status::ok &&
                      ++requests < kMaxRequestsPerConnection;
    respond(std::move(answer), request.method() == http::verb::head, request.version(), keep);
  }

  void respond(Answer answer, bool head, unsigned version, bool keep) {
    response = {answer.status, version};
    response.set(http::field::content_type,
                 "text/plain; version=0.0.4; charset=utf-8");  // Prometheus exposition format 0.0.4
    response.set(http::field::cache_control, "no-store");
    if (answer.status == http::status::method_not_allowed) {
      response.set(http::field::allow, "GET, HEAD");
    }
    response.keep_alive(keep);
    response.content_length(answer.body.size());
    if (!head) response.body() = std::move(answer.body);
    stream.expires_after(kTimeout);
    http::async_write(stream, response,
                      [self = shared_from_this(), keep](beast::error_code error, std::size_t) {
                        if (error || !keep) return self->close();
                        self->read();
                      });
  }

  void close() {
    beast::error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream.close();
  }

  std::shared_ptr<State> state;
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  std::optional<http::request_parser<http::string_body>> parser;
  http::response<http::string_body> response;
  unsigned requests = 0;
};

bool MetricsServer::State::may_ask(const asio::ip::address& peer) const {
  return allow.empty() || std::ranges::any_of(allow, [ip = to_ip(peer)](const auto& prefix) {
           return prefix.contains(ip);
         });
}

Answer MetricsServer::State::answer(http::verb method, std::string_view target,
                                    bool allowed) const {
  if (!allowed) return {http::status::forbidden, "not in the policy's metrics.allow\n"};
  if (method != http::verb::get && method != http::verb::head) {
    return {http::status::method_not_allowed, "GET or HEAD\n"};
  }
  const std::string_view path = target.substr(0, target.find('?'));
  if (path == "/metrics") return {http::status::ok, pages.metrics()};
  if (path == "/healthz") return {http::status::ok, "ok\n"};
  if (path == "/readyz") {
    return pages.ready() ? Answer{http::status::ok, "ready\n"}
                         : Answer{http::status::service_unavailable, "not ready\n"};
  }
  return {http::status::not_found, "/metrics, /healthz or /readyz\n"};
}

std::expected<std::shared_ptr<MetricsServer::State::Listening>, std::string>
MetricsServer::State::listen(const policy::SocketAddress& at) {
  auto made = std::make_shared<Listening>(io);
  const tcp::endpoint endpoint = to_endpoint(at);
  beast::error_code error;
  const char* step = "socket";
  made->acceptor.open(endpoint.protocol(), error);
  if (!error) {
    // Neither can fail on a socket that was just opened, and bind says if it matters.
    beast::error_code ignored;
    made->acceptor.set_option(tcp::acceptor::reuse_address(true), ignored);
    if (endpoint.address().is_v6()) made->acceptor.set_option(asio::ip::v6_only(true), ignored);
    step = "bind";
    made->acceptor.bind(endpoint, error);
  }
  if (!error) {
    step = "listen";
    made->acceptor.listen(tcp::acceptor::max_listen_connections, error);
  }
  if (error) {
    return std::unexpected("metrics.bind " + at.to_string() + ": " + step + ": " + error.message());
  }
  made->wanted = at;
  return made;
}

std::expected<void, std::string> MetricsServer::State::move_to(const policy::SocketAddress& at) {
  auto made = listen(at);
  // 127.0.0.1 and 0.0.0.0 cannot both listen on one port: then the old one goes first, and comes
  // back on failure.
  if (!made && listening && listening->acceptor.local_endpoint().port() == at.port) {
    const policy::SocketAddress old = listening->wanted;
    listening->acceptor.close();
    listening.reset();
    made = listen(at);
    if (!made) {
      if (auto back = listen(old)) {
        listening = *back;
        accept(listening);
      }
      return std::unexpected(made.error());
    }
  }
  if (!made) return std::unexpected(made.error());
  std::swap(listening, *made);
  if (*made) (*made)->acceptor.close();
  accept(listening);
  return {};
}

void MetricsServer::State::accept(const std::shared_ptr<Listening>& on) {
  on->acceptor.async_accept(
      io, [self = shared_from_this(), on](beast::error_code error, tcp::socket socket) {
        self->accepted(on, error, std::move(socket));
      });
}

void MetricsServer::State::accepted(const std::shared_ptr<Listening>& on, beast::error_code error,
                                    tcp::socket socket) {
  if (closed || !on->acceptor.is_open()) return;
  if (error == std::errc::too_many_files_open ||
      error == std::errc::too_many_files_open_in_system) {
    on->pause.expires_after(kAcceptPause);
    on->pause.async_wait([self = shared_from_this(), on](beast::error_code) {
      if (!self->closed && on->acceptor.is_open()) self->accept(on);
    });
    return;
  }
  if (!error) {
    std::erase_if(connections, [](const auto& connection) { return connection.expired(); });
    if (connections.size() < kMaxConnections) {
      auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket));
      connections.push_back(connection);
      connection->read();
    }
  }
  accept(on);
}

void MetricsServer::State::close() {
  closed = true;
  if (listening) {
    listening->acceptor.close();
    listening->pause.cancel();
  }
  for (const auto& weak : connections) {
    if (const auto connection = weak.lock()) connection->close();
  }
}

MetricsServer::MetricsServer(asio::io_context& io, Pages pages)
    : state_(std::make_shared<State>(io, std::move(pages))) {}

MetricsServer::~MetricsServer() {
  state_->close();
}

std::expected<void, std::string> MetricsServer::configure(
    const std::optional<policy::MetricsConfig>& config) {
  State& s = *state_;
  if (config && (!s.listening || s.listening->wanted != config->bind)) {
    auto done = s.move_to(config->bind);
    if (!done) return done;
  } else if (!config && s.listening) {
    s.listening->acceptor.close();
    s.listening.reset();
  }
  s.allow = config ? config->allow : std::vector<policy::Prefix>{};
  return {};
}

std::optional<policy::SocketAddress> MetricsServer::local_address() const {
  if (!state_->listening) return std::nullopt;
  const auto endpoint = state_->listening->acceptor.local_endpoint();
  return policy::SocketAddress{to_ip(endpoint.address()), endpoint.port()};
}

}  // namespace sluice::gateway
