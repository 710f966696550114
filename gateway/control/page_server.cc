#include "gateway/control/page_server.h"

#include <algorithm>
#include <chrono>
#include <unistd.h>
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

}  // namespace

struct PageServer::State : std::enable_shared_from_this<PageServer::State> {
  State(asio::io_context& context, std::string called, Limits bounds, Handler callback)
      : io(context), name(std::move(called)), limits(bounds), handler(std::move(callback)) {}

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

  asio::io_context& io;
  const std::string name;
  const Limits limits;
  Handler handler;
  std::shared_ptr<Listening> listening;
  std::vector<std::weak_ptr<Connection>> connections;
  bool closed = false;
};

// One client. Keeps itself alive by the operation that is under way; each is bounded in time.
struct PageServer::State::Connection : std::enable_shared_from_this<Connection> {
  Connection(std::shared_ptr<State> server, tcp::socket socket)
      : state(std::move(server)),
        stream(std::move(socket)),
        buffer(state->limits.head + state->limits.body),
        patience(state->io) {}

  void read() {
    parser.emplace();
    parser->header_limit(static_cast<std::uint32_t>(state->limits.head));
    parser->body_limit(state->limits.body);
    stream.expires_after(state->limits.timeout);
    http::async_read(stream, buffer, *parser,
                     [self = shared_from_this()](beast::error_code error, std::size_t) {
                       self->was_read(error);
                     });
  }

  void was_read(beast::error_code error) {
    if (error) return close();
    stream.expires_never();
    beast::error_code gone;
    const auto peer = stream.socket().remote_endpoint(gone);
    if (gone || state->closed) return close();
    wait_for_the_answer();
    state->handler({.message = parser->get(), .peer = to_ip(peer.address())},
                   [self = shared_from_this()](PageAnswer answer) {
                     self->patience.cancel();
                     self->respond(std::move(answer));
                   });
  }

  void wait_for_the_answer() {
    patience.expires_after(state->limits.timeout);
    patience.async_wait([weak = weak_from_this()](beast::error_code error) {
      if (error) return;
      if (const auto self = weak.lock()) self->close();
    });
  }

  void respond(PageAnswer answer) {
    const auto& request = parser->get();
    const bool keep = request.keep_alive() && answer.status == 200 &&
                      ++requests < state->limits.requests_per_connection;
    response = {static_cast<http::status>(answer.status), request.version()};
    response.set(http::field::content_type, answer.content_type);
    response.set(http::field::cache_control, "no-store");
    for (const auto& [field, value] : answer.fields)
      response.set(field, value);
    response.keep_alive(keep);
    response.content_length(answer.body.size());
    if (request.method() != http::verb::head) response.body() = std::move(answer.body);
    stream.expires_after(state->limits.timeout);
    http::async_write(stream, response,
                      [self = shared_from_this(), keep](beast::error_code error, std::size_t) {
                        if (error || !keep) return self->close();
                        self->read();
                      });
  }

  void close() {
    patience.cancel();
    beast::error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream.close();
  }

  std::shared_ptr<State> state;
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  asio::steady_timer patience;
  std::optional<http::request_parser<http::string_body>> parser;
  http::response<http::string_body> response;
  unsigned requests = 0;
};

std::expected<std::shared_ptr<PageServer::State::Listening>, std::string> PageServer::State::listen(
    const policy::SocketAddress& at) {
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
    return std::unexpected(name + " " + at.to_string() + ": " + step + ": " + error.message());
  }
  made->wanted = at;
  return made;
}

std::expected<void, std::string> PageServer::State::move_to(const policy::SocketAddress& at) {
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

void PageServer::State::accept(const std::shared_ptr<Listening>& on) {
  on->acceptor.async_accept(
      io, [self = shared_from_this(), on](beast::error_code error, tcp::socket socket) {
        self->accepted(on, error, std::move(socket));
      });
}

void PageServer::State::accepted(const std::shared_ptr<Listening>& on, beast::error_code error,
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
    if (connections.size() < limits.connections) {
      auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket));
      connections.push_back(connection);
      connection->read();
    }
  }
  accept(on);
}

void PageServer::State::close() {
  closed = true;
  if (listening) {
    listening->acceptor.close();
    listening->pause.cancel();
  }
  for (const auto& weak : connections) {
    if (const auto connection = weak.lock()) connection->close();
  }
}

PageServer::PageServer(asio::io_context& io, std::string name, Limits limits, Handler handler)
    : state_(std::make_shared<State>(io, std::move(name), limits, std::move(handler))) {}

PageServer::~PageServer() {
  state_->close();
}

std::expected<void, std::string> PageServer::configure(
    const std::optional<policy::SocketAddress>& bind) {
  State& s = *state_;
  if (bind && (!s.listening || s.listening->wanted != *bind)) return s.move_to(*bind);
  if (!bind && s.listening) {
    s.listening->acceptor.close();
    s.listening.reset();
  }
  return {};
}

std::expected<void, std::string> PageServer::adopt(int listening,
                                                   const policy::SocketAddress& bind) {
  State& s = *state_;
  auto made = std::make_shared<State::Listening>(s.io);
  beast::error_code error;
  made->acceptor.assign(to_endpoint(bind).protocol(), listening, error);
  if (error) {
    ::close(listening);
    return std::unexpected(s.name + " " + bind.to_string() + ": " + error.message());
  }
  made->wanted = bind;
  s.listening = std::move(made);
  s.accept(s.listening);
  return {};
}

std::optional<policy::SocketAddress> PageServer::local_address() const {
  if (!state_->listening) return std::nullopt;
  const auto endpoint = state_->listening->acceptor.local_endpoint();
  return policy::SocketAddress{to_ip(endpoint.address()), endpoint.port()};
}

}  // namespace sluice::gateway
