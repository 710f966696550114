#include "gateway/main/closed_connections.h"

#include "gateway/log.h"

namespace sluice::control {

void ClosedConnections::keep_ending() {
  if (const auto ended = keeper_.end_closed_connections(); !ended) {
    gateway::log_warn("keeper",
                      "for a minute connections that use an earlier one's ports may not flow "
                      "straight; sysctl net.ipv4.tcp_early_demux=0 lets them pass",
                      {{"reason", ended.error().message}});
    return;
  }
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) keep_ending();
  });
}

}  // namespace sluice::control
