// The last second's top sources, followed on the admin socket by a thread of its own.
#pragma once

#include <mutex>
#include <string>
#include <thread>

#include <boost/json.hpp>

namespace sluice::gateway {

class TopFollower {
 public:
  explicit TopFollower(std::string admin_socket);
  // {"rows": […]}, or {"error": why there are none}. Any thread.
  boost::json::object latest() const;

 private:
  void follow(const std::stop_token& stop);
  void keep(boost::json::object latest);

  std::string admin_socket_;
  mutable std::mutex mutex_;
  boost::json::object latest_;
  std::jthread thread_;
};

}  // namespace sluice::gateway
