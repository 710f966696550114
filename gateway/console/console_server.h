// The console: a live page of what Sluice does, and the few things an operator does about it. Knows
// nothing but the admin socket, so that it runs as a process of its own, without any privilege.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "policy/address.h"

namespace sluice::gateway {

struct ConsoleOptions {
  std::string admin_socket;
  policy::SocketAddress bind;
  int listening = -1;           // a socket that listens there already; the server's from here on
  std::string token_file = {};  // "": look, but change nothing
  std::vector<std::string> hosts = {};
  std::vector<policy::Prefix> allow = {};  // empty: everybody
};

// GET /            the page
// GET /api/state   status, routes, bans, drops, history and top sources in one object
// POST /api/explain, and with `Authorization: Bearer TOKEN` /api/ban, /api/unban, /api/reload: a
// JSON
//                  object as the admin socket takes it; its answer
class ConsoleServer {
 public:
  static std::expected<std::unique_ptr<ConsoleServer>, std::string> listen(
      boost::asio::io_context& io, ConsoleOptions options);
  ~ConsoleServer();  // waits for questions under way, up to their timeout
  ConsoleServer(const ConsoleServer&) = delete;
  ConsoleServer& operator=(const ConsoleServer&) = delete;

  policy::SocketAddress local_address() const;

 private:
  struct Parts;
  explicit ConsoleServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace sluice::gateway
