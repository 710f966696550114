#include "gateway/kubernetes/api_request.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>
#include <utility>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "gateway/upstream/dns_resolver.h"

namespace sluice::gateway::kubernetes {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr std::uint64_t kLongestBody = 256UL << 20;  // where the server says how long it is
constexpr std::chrono::seconds kLongestRetryAfter{120};

tcp::endpoint to_endpoint(const policy::SocketAddress& address) {
  if (address.address.is_v4())
    return {asio::ip::address_v4(address.address.v4_host_order()), address.port};
  return {asio::ip::address_v6(address.address.bytes()), address.port};
}

// A watch says nothing for minutes: whether there is still somebody is for TCP to find out, within
// half a minute.
void notice_dead_peers(int fd) {
  const auto set = [fd](int level, int name, int value) {
    ::setsockopt(fd, level, name, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
}

std::chrono::seconds retry_after_of(std::string_view field) {
  int seconds = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), seconds);
  if (error != std::errc{} || end != field.data() + field.size() || seconds < 0) return {};
  return std::min(std::chrono::seconds(seconds), kLongestRetryAfter);
}

}  // namespace

// Shared with its handlers, so that the request may go at any time.
class ApiRequest::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::io_context& io, ApiServer server, std::string target,
             std::chrono::milliseconds silence, Events events)
      : io_(io),
        server_(std::move(server)),
        target_(std::move(target)),
        silence_(silence),
        events_(std::move(events)),
        socket_(io),
        timer_(io) {
    parser_.body_limit(boost::none);
  }

  // Not before the request stands that its events belong to.
  void start() {
    asio::post(io_, [self = shared_from_this()] {
      if (!self->closed_) self->find();
    });
  }
  void close() {
    closed_ = true;
    events_ = {};
    resolver_.reset();
    timer_.cancel();
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  using Tls = asio::ssl::stream<tcp::socket&>;

  void find();
  void resolve(DnsType type);
  void connect(const policy::IpAddress& address);
  void shake_hands(const policy::IpAddress& address);
  void send();
  void read();
  void came(beast::error_code error);
  void head();
  void deadline(std::chrono::milliseconds pause, const char* problem);
  void end(const std::string& problem);
  template <typename Use>
  void on_stream(Use use) {
    tls_ ? use(*tls_) : use(socket_);
  }

  asio::io_context& io_;
  const ApiServer server_;
  const std::string target_;
  const std::chrono::milliseconds silence_;
  Events events_;
  tcp::socket socket_;
  std::unique_ptr<Tls> tls_;  // around socket_
  std::unique_ptr<DnsResolver> resolver_;
  asio::steady_timer timer_;
  std::string request_;
  beast::flat_buffer input_;
  http::response_parser<http::string_body> parser_;
  bool head_told_ = false;
  bool closed_ = false;
};

void ApiRequest::Connection::deadline(std::chrono::milliseconds pause, const char* problem) {
  timer_.expires_after(pause);
  timer_.async_wait([self = shared_from_this(), problem](beast::error_code cancelled) {
    // One that had run out before it was set anew means nothing.
    const bool over = self->timer_.expiry() <= std::chrono::steady_clock::now();
    if (!cancelled && over && !self->closed_) self->end(problem);
  });
}

void ApiRequest::Connection::end(const std::string& problem) {
  const auto guard = shared_from_this();
  const auto ended = std::move(events_.ended);
  close();
  if (ended) ended(problem);
}

void ApiRequest::Connection::find() {
  deadline(kHeadTime, "no answer");
  if (server_.where.name.empty()) return connect(server_.where.address.address);
  resolve(DnsType::a);
}

void ApiRequest::Connection::resolve(DnsType type) {
  if (!resolver_) {
    resolver_ = std::make_unique<DnsResolver>(
        io_, DnsResolverOptions{.servers = {}, .own_mark = server_.own_mark});
  }
  // The resolver goes with this object, and not while it calls.
  resolver_->ask(server_.where.name, type, [this, type](const DnsReply& reply) {
    asio::post(io_, [self = shared_from_this(), type, reply] {
      if (self->closed_) return;
      if (!reply.answer.addresses.empty()) return self->connect(reply.answer.addresses.front());
      if (type == DnsType::a) return self->resolve(DnsType::aaaa);
      self->end(self->server_.where.name + ": " + reply.reason);
    });
  });
}

void ApiRequest::Connection::connect(const policy::IpAddress& address) {
  boost::system::error_code error;
  const tcp::endpoint endpoint = to_endpoint({address, server_.where.address.port});
  socket_.open(endpoint.protocol(), error);
  if (error) return end(error.message());
  if (server_.own_mark != 0 &&
      ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_MARK, &server_.own_mark,
                   sizeof server_.own_mark) != 0) {
    return end(std::string("SO_MARK: ") + std::strerror(errno));
  }
  socket_.set_option(tcp::no_delay(true), error);
  notice_dead_peers(socket_.native_handle());
  socket_.async_connect(endpoint,
                        [self = shared_from_this(), address](beast::error_code failed) {
                          if (self->closed_) return;
                          if (failed) return self->end(failed.message());
                          self->server_.where.tls ? self->shake_hands(address) : self->send();
                        });
}

void ApiRequest::Connection::shake_hands(const policy::IpAddress& address) {
  tls::SslPtr ssl =
      server_.tls ? server_.tls->connect(server_.where.name, address, tls::AlpnOffer::http1, nullptr)
                  : nullptr;
  if (!ssl) return end("TLS cannot be set up");
  tls_ = std::make_unique<Tls>(socket_, ssl.release());
  tls_->async_handshake(
      asio::ssl::stream_base::client, [self = shared_from_this()](beast::error_code failed) {
        if (self->closed_) return;
        if (!failed) return self->send();
        const long verified = SSL_get_verify_result(self->tls_->native_handle());
        self->end("TLS: " + (verified == X509_V_OK
                                 ? failed.message()
                                 : std::string(X509_verify_cert_error_string(verified))));
      });
}

void ApiRequest::Connection::send() {
  request_ = "GET " + target_ + " HTTP/1.1\r\nhost: " + server_.where.authority +
             "\r\naccept: application/json\r\nuser-agent: sluice\r\nconnection: close\r\n";
  if (server_.token && tls_)
    request_.append("authorization: Bearer ").append(server_.token->view()).append("\r\n");
  request_ += "\r\n";
  on_stream([this](auto& stream) {
    asio::async_write(stream, asio::buffer(request_),
                      [self = shared_from_this()](beast::error_code failed, std::size_t) {
                        OPENSSL_cleanse(self->request_.data(), self->request_.size());
                        if (self->closed_) return;
                        if (failed) return self->end(failed.message());
                        self->read();
                      });
  });
}

void ApiRequest::Connection::read() {
  on_stream([this](auto& stream) {
    http::async_read_some(stream, input_, parser_,
                          [self = shared_from_this()](beast::error_code error, std::size_t) {
                            if (!self->closed_) self->came(error);
                          });
  });
}

// What came before a broken end is handed on as well: a whole event may be in it.
void ApiRequest::Connection::came(beast::error_code error) {
  if (parser_.is_header_done() && !head_told_) head();
  if (closed_) return;
  if (std::string bytes = std::exchange(parser_.get().body(), {}); !bytes.empty() && events_.body) {
    const auto body = events_.body;  // the event may end this object's events
    body(bytes);
    if (closed_) return;
  }
  if (parser_.is_done()) return end("");
  if (error) return end("the answer broke off: " + error.message());
  if (head_told_) deadline(silence_, "no answer any more");
  read();
}

void ApiRequest::Connection::head() {
  head_told_ = true;
  const auto& message = parser_.get();
  if (parser_.content_length().value_or(0) > kLongestBody) return end("the answer is too large");
  ApiReply reply{.status = static_cast<int>(message.result_int())};
  if (const auto found = message.find(http::field::retry_after); found != message.end())
    reply.retry_after = retry_after_of({found->value().data(), found->value().size()});
  const auto told = events_.head;
  if (told) told(reply);
}

ApiRequest::ApiRequest(asio::io_context& io, const ApiServer& server, std::string target,
                       std::chrono::milliseconds silence, Events events)
    : connection_(std::make_shared<Connection>(io, server, std::move(target), silence,
                                               std::move(events))) {
  connection_->start();
}

ApiRequest::~ApiRequest() {
  connection_->close();
}

}  // namespace sluice::gateway::kubernetes
