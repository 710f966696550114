#include "gateway/redis/client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <hiredis/hiredis.h>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>

#include "gateway/upstream/dns_resolver.h"

namespace sluice::gateway::redis {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

struct FreeReader {
  void operator()(redisReader* reader) const { redisReaderFree(reader); }
};
struct FreeReply {
  void operator()(void* reply) const { freeReplyObject(reply); }
};

tcp::endpoint endpoint_of(const policy::SocketAddress& address) {
  if (address.address.is_v4())
    return {asio::ip::address_v4(address.address.v4_host_order()), address.port};
  return {asio::ip::address_v6(address.address.bytes()), address.port};
}

void append_command(std::string& out, std::span<const std::string_view> words) {
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const std::string_view word : words) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  char* formatted = nullptr;
  const long long size = redisFormatCommandArgv(&formatted, static_cast<int>(words.size()),
                                                texts.data(), sizes.data());
  if (size <= 0) return;
  out.append(formatted, static_cast<std::size_t>(size));
  redisFreeCommand(formatted);
}

}  // namespace

// Shared with its handlers, so that the client may go at any time.
class Client::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::io_context& io, policy::RedisConfig config, ClientOptions options, Events events)
      : io_(io),
        config_(std::move(config)),
        options_(std::move(options)),
        events_(std::move(events)),
        pause_(options_.first_pause),
        socket_(io),
        timer_(io),
        watch_(io) {}

  void start() { connect(); }
  void close() {
    closed_ = true;
    events_ = {};
    waiting_.clear();
    drop_socket();
    resolver_.reset();
    timer_.cancel();
  }

  void command(std::span<const std::string_view> words, Done done) {
    if (!ready_) return done(nullptr);
    ++stats_.commands;
    send(words, std::move(done));
  }
  void use_password(std::string password) { config_.password = std::move(password); }
  bool ready() const { return ready_; }
  std::optional<policy::SocketAddress> address() const { return address_; }
  const ClientStats& stats() const { return stats_; }

 private:
  struct Waiting {
    Done done;
    std::chrono::steady_clock::time_point since;
  };

  using Tls = asio::ssl::stream<tcp::socket&>;

  void connect();
  void resolve(DnsType type);
  void connect_to(const policy::SocketAddress& address);
  void shake_hands(const policy::IpAddress& address);
  void greet();
  void send(std::span<const std::string_view> words, Done done);
  void flush();
  void read();
  void take(std::size_t size);
  void watch();
  void fail(const std::string& reason);
  void drop_socket();

  asio::io_context& io_;
  policy::RedisConfig config_;
  const ClientOptions options_;
  Events events_;
  std::chrono::milliseconds pause_;
  tcp::socket socket_;
  std::unique_ptr<Tls> tls_;  // around socket_
  std::unique_ptr<DnsResolver> resolver_;
  asio::steady_timer timer_;  // the next try, or the end of this one
  asio::steady_timer watch_;  // for answers that do not come
  std::unique_ptr<redisReader, FreeReader> reader_;
  std::array<char, 16384> input_;
  std::string next_;     // to be written
  std::string writing_;  // is being written
  std::deque<Waiting> waiting_;
  ClientStats stats_;
  std::optional<policy::SocketAddress> address_;
  std::uint64_t attempt_ = 0;  // handlers of an earlier one mean nothing
  bool flush_posted_ = false;
  bool ready_ = false;
  bool closed_ = false;
};

void Client::Connection::drop_socket() {
  ++attempt_;
  boost::system::error_code ignored;
  socket_.close(ignored);
  if (tls_) asio::post(io_, [old = std::shared_ptr<Tls>(std::move(tls_))] {});  // its handlers first
  watch_.cancel();
  next_.clear();
  writing_.clear();
}

void Client::Connection::connect() {
  drop_socket();
  reader_.reset(redisReaderCreate());
  const std::uint64_t attempt = attempt_;
  timer_.expires_after(options_.patience);
  timer_.async_wait([self = shared_from_this(), attempt](auto cancelled) {
    if (!cancelled && self->attempt_ == attempt && !self->ready_) self->fail("no answer");
  });
  if (config_.name.empty()) return connect_to(config_.address);
  resolve(DnsType::a);
}

// The first of its addresses: where there are several, DNS says them in turn.
void Client::Connection::resolve(DnsType type) {
  if (!resolver_) {
    resolver_ = std::make_unique<DnsResolver>(
        io_, DnsResolverOptions{.servers = {}, .own_mark = options_.own_mark});
  }
  resolver_->ask(config_.name, type, [this, type, attempt = attempt_](const DnsReply& reply) {
    if (attempt_ != attempt) return;
    if (!reply.answer.addresses.empty())
      return connect_to({reply.answer.addresses.front(), config_.address.port});
    if (type == DnsType::a) return resolve(DnsType::aaaa);
    fail(config_.name + ": " + reply.reason);
  });
}

void Client::Connection::connect_to(const policy::SocketAddress& address) {
  address_ = address;
  boost::system::error_code error;
  const tcp::endpoint endpoint = endpoint_of(address);
  socket_.open(endpoint.protocol(), error);
  if (error) return fail(error.message());
  if (options_.own_mark != 0 &&
      ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_MARK, &options_.own_mark,
                   sizeof options_.own_mark) != 0) {
    return fail(std::string("SO_MARK: ") + std::strerror(errno));
  }
  socket_.set_option(tcp::no_delay(true), error);
  const std::uint64_t attempt = attempt_;
  socket_.async_connect(endpoint, [self = shared_from_this(), attempt,
                                   to = address.address](auto failed) {
    if (self->attempt_ != attempt) return;
    if (failed) return self->fail(failed.message());
    self->config_.tls ? self->shake_hands(to) : self->greet();
  });
}

// Asio's stream, and not ours: this is no worker's thread, and no hot path.
void Client::Connection::shake_hands(const policy::IpAddress& address) {
  tls::SslPtr ssl = options_.tls ? options_.tls->connect(config_.name, address,
                                                         tls::AlpnOffer::none, nullptr)
                                 : nullptr;
  if (!ssl) return fail("TLS cannot be set up");
  tls_ = std::make_unique<Tls>(socket_, ssl.release());
  tls_->async_handshake(
      asio::ssl::stream_base::client,
      [self = shared_from_this(), attempt = attempt_](boost::system::error_code failed) {
        if (self->attempt_ != attempt) return;
        if (!failed) return self->greet();
        const long verified = SSL_get_verify_result(self->tls_->native_handle());
        self->fail("TLS: " + (verified == X509_V_OK
                                  ? failed.message()
                                  : std::string(X509_verify_cert_error_string(verified))));
      });
}

// All in one write; the first that fails ends the connection.
void Client::Connection::greet() {
  const std::uint64_t attempt = attempt_;
  const auto expect_ok = [this, attempt](std::string what, bool last) {
    return [this, attempt, what = std::move(what), last](const redisReply* reply) {
      if (attempt_ != attempt || reply == nullptr) return;
      if (reply->type == REDIS_REPLY_ERROR)
        return fail(what + ": " + std::string(reply->str, reply->len));
      if (!last) return;
      timer_.cancel();
      ready_ = true;
      pause_ = options_.first_pause;
      ++stats_.connections;
      if (events_.up) events_.up();
    };
  };
  read();
  if (const std::string& password = config_.password; !password.empty()) {
    const std::array<std::string_view, 3> words{"AUTH", config_.username, password};
    if (config_.username.empty()) {
      send(std::array<std::string_view, 2>{"AUTH", password}, expect_ok("AUTH", false));
    } else {
      send(words, expect_ok("AUTH", false));
    }
  }
  const std::string database = std::to_string(config_.database);
  send(std::array<std::string_view, 2>{"SELECT", database}, expect_ok("SELECT", true));
  watch();
}

void Client::Connection::send(std::span<const std::string_view> words, Done done) {
  append_command(next_, words);
  waiting_.push_back({std::move(done), std::chrono::steady_clock::now()});
  if (std::exchange(flush_posted_, true)) return;
  asio::post(io_, [self = shared_from_this()] {
    self->flush_posted_ = false;
    self->flush();
  });
}

void Client::Connection::flush() {
  if (!writing_.empty() || next_.empty()) return;
  writing_.swap(next_);
  auto written = [self = shared_from_this(), attempt = attempt_](boost::system::error_code failed,
                                                                 std::size_t) {
    if (self->attempt_ != attempt) return;
    if (failed) return self->fail(failed.message());
    self->writing_.clear();
    self->flush();
  };
  tls_ ? asio::async_write(*tls_, asio::buffer(writing_), std::move(written))
       : asio::async_write(socket_, asio::buffer(writing_), std::move(written));
}

void Client::Connection::read() {
  auto came = [self = shared_from_this(), attempt = attempt_](boost::system::error_code failed,
                                                              std::size_t size) {
    if (self->attempt_ != attempt) return;
    if (failed) return self->fail(failed.message());
    self->take(size);
    if (self->attempt_ == attempt) self->read();
  };
  tls_ ? tls_->async_read_some(asio::buffer(input_), std::move(came))
       : socket_.async_read_some(asio::buffer(input_), std::move(came));
}

void Client::Connection::take(std::size_t size) {
  redisReaderFeed(reader_.get(), input_.data(), size);
  const std::uint64_t attempt = attempt_;
  for (;;) {
    void* reply = nullptr;
    if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) return fail(reader_->errstr);
    if (reply == nullptr) return;
    const std::unique_ptr<void, FreeReply> owned(reply);
    if (waiting_.empty()) return fail("an answer to nothing");
    const Done done = std::move(waiting_.front().done);
    waiting_.pop_front();
    done(static_cast<const redisReply*>(reply));
    if (attempt_ != attempt) return;
  }
}

void Client::Connection::watch() {
  watch_.expires_after(options_.patience / 4);
  watch_.async_wait([self = shared_from_this(), attempt = attempt_](auto cancelled) {
    if (cancelled || self->attempt_ != attempt) return;
    const auto now = std::chrono::steady_clock::now();
    if (!self->waiting_.empty() && now - self->waiting_.front().since > self->options_.patience)
      return self->fail("no answer");
    self->watch();
  });
}

void Client::Connection::fail(const std::string& reason) {
  if (closed_) return;
  const std::shared_ptr<Connection> guard = shared_from_this();
  ready_ = false;
  ++stats_.failures;
  drop_socket();
  for (const Waiting& waiting : std::exchange(waiting_, {}))
    waiting.done(nullptr);
  if (events_.down) events_.down(reason);
  if (closed_) return;
  timer_.expires_after(pause_);
  pause_ = std::min(pause_ * 2, options_.longest_pause);
  timer_.async_wait([self = guard](auto cancelled) {
    if (!cancelled && !self->closed_) self->connect();
  });
}

Client::Client(asio::io_context& io, policy::RedisConfig config, ClientOptions options,
               Events events)
    : connection_(
          std::make_shared<Connection>(io, std::move(config), std::move(options),
                                       std::move(events))) {
  connection_->start();
}

Client::~Client() {
  connection_->close();
}

void Client::command(std::span<const std::string_view> words, Done done) {
  connection_->command(words, std::move(done));
}

void Client::use_password(std::string password) {
  connection_->use_password(std::move(password));
}

bool Client::ready() const {
  return connection_->ready();
}

std::optional<policy::SocketAddress> Client::address() const {
  return connection_->address();
}

const ClientStats& Client::stats() const {
  return connection_->stats();
}

}  // namespace sluice::gateway::redis
