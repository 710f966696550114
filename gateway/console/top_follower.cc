#include "gateway/console/top_follower.h"

#include <chrono>
#include <condition_variable>
#include <utility>

#include "gateway/control/admin_client.h"

namespace sluice::gateway {

namespace json = boost::json;

namespace {
constexpr std::chrono::seconds kPause{2};  // before it asks again
}

TopFollower::TopFollower(std::string admin_socket)
    : admin_socket_(std::move(admin_socket)),
      thread_([this](const std::stop_token& stop) { follow(stop); }) {}

json::object TopFollower::latest() const {
  const std::lock_guard lock(mutex_);
  return latest_;
}

void TopFollower::keep(json::object latest) {
  const std::lock_guard lock(mutex_);
  latest_ = std::move(latest);
}

void TopFollower::follow(const std::stop_token& stop) {
  std::mutex waiting;
  std::condition_variable_any wake;
  while (!stop.stop_requested()) {
    const auto ended = follow_admin(admin_socket_, {{"command", "top"}, {"by", "source"}},
                                    [&](const json::object& line) {
                                      if (line.contains("rows") || line.contains("error"))
                                        keep(line);
                                      return !stop.stop_requested() && !line.contains("error");
                                    });
    if (!ended) keep({{"error", ended.error().message}});
    std::unique_lock lock(waiting);
    wake.wait_for(lock, stop, kPause, [] { return false; });
  }
}

}  // namespace sluice::gateway
