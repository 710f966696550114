// Active health checks: a request or a connection to each endpoint every so often, from the control
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "gateway/upstream/cluster.h"

namespace sluice::gateway {

struct HealthChange {
  std::string upstream;
  std::string endpoint;
  bool healthy = false;
  std::string reason;  // the last check's result: "connection refused", "HTTP 503", "HTTP 200"
};

struct HealthCheckerOptions {
  std::uint32_t own_mark = 0;  // SO_MARK of the checks' sockets; 0: none
  std::function<void(const HealthChange&)> on_change;
};

// Control thread only. An endpoint counts as healthy until checks fail: the very first one at once,
// later ones unhealthy_threshold times in a row; it is healthy again after healthy_threshold good
// ones.
class HealthChecker {
 public:
  using Options = HealthCheckerOptions;

  HealthChecker(boost::asio::io_context& io, Options options);
  ~HealthChecker();  // stops all checks; the io_context need not run any more

  // Checks these from now on. Endpoints whose object and check settings are unchanged go on
  // undisturbed; the others' checks start or stop. An endpoint that is no longer checked counts as
  // healthy.
  void follow(const ClusterSet& clusters);

  std::size_t checked() const;  // endpoints under check

 private:
  struct Check;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::gateway
