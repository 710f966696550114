// A connection to one Redis, kept up: commands are pipelined, answers come in their order. Over our
// own socket, which carries the gateway's mark (or `output` would catch it); hiredis formats and
// reads.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/tls/client_context.h"
#include "policy/config.h"

struct redisReader;
struct redisReply;

namespace sluice::gateway::redis {

struct ClientOptions {
  std::uint32_t own_mark = 0;  // SO_MARK; 0: none
  tls::ClientContextPtr tls;   // where the configuration has `tls`; null then: nothing is sent
  // A server that is silent for so long while it owes an answer counts as gone.
  std::chrono::milliseconds patience{500};
  std::chrono::milliseconds first_pause{50};  // before the next try to connect; doubles …
  std::chrono::milliseconds longest_pause{1000};  // … up to this
};

struct ClientStats {
  std::uint64_t commands = 0;
  std::uint64_t connections = 0;  // that were made
  std::uint64_t failures = 0;     // connections that failed or ended
};

// One thread. May be destroyed at any time; callbacks that were not called yet never are.
class Client {
 public:
  // `reply` lives until the call returns; null: there will be none.
  using Done = std::function<void(const redisReply* reply)>;

  // `up`: connected, authenticated, ready. `down`: no longer, or the first try has failed;
  // all commands under way have been answered with null.
  struct Events {
    std::function<void()> up;
    std::function<void(const std::string& reason)> down;
  };

  // `config.password` is the password itself.
  Client(boost::asio::io_context& io, policy::RedisConfig config, ClientOptions options,
         Events events);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Only while ready(); else `done` gets null at once. Goes out with the other commands of this
  // turn of the event loop.
  void command(std::span<const std::string_view> words, Done done);
  bool ready() const;
  // For the connections from now on; the one that is there stays.
  void use_password(std::string password);
  // Where the server was found last; nullopt: its name was not resolved yet.
  std::optional<policy::SocketAddress> address() const;
  const ClientStats& stats() const;

 private:
  class Connection;
  std::shared_ptr<Connection> connection_;
};

}  // namespace sluice::gateway::redis
