// The other end of the admin socket, for the command line: asks once, waits for the answer.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <string>

#include <boost/json.hpp>

namespace sluice::gateway {

struct AdminError {
  enum class Kind { not_running, not_allowed, failed };
  Kind kind = Kind::failed;
  std::string message;  // names the socket and what to do
};

// Blocks for `timeout` at most. The answer is whatever the server said, {"ok": false, "error": …}
// included.
std::expected<boost::json::object, AdminError> ask_admin(const std::string& socket_path,
                                                         const boost::json::object& request,
                                                         std::chrono::milliseconds timeout);

// Asks for a stream: each line goes to `on_line` until that says false or the
// server ends it.
std::expected<void, AdminError> follow_admin(
    const std::string& socket_path, const boost::json::object& request,
    const std::function<bool(const boost::json::object&)>& on_line);

}  // namespace sluice::gateway
