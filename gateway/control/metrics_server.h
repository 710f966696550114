// The page that Prometheus scrapes: GET /metrics, /healthz (alive), /readyz (may get traffic).
#pragma once

#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/control/page_server.h"
#include "policy/address.h"
#include "policy/config.h"

namespace sluice::gateway {

// Runs on the control thread's io_context. At most 32 connections, each closed after 10 s without a
// request.
class MetricsServer {
 public:
  struct Pages {
    std::function<std::string()> metrics;
    std::function<bool()> ready;
  };

  MetricsServer(boost::asio::io_context& io, Pages pages);  // closes at once when it goes

  // Serves as `config` says; none: closes. An unchanged address keeps its socket (only `allow`
  // changes), so that no scrape is refused over a reload; a changed one listens before the old one
  // is closed. On error all stays as it was.
  std::expected<void, std::string> configure(const std::optional<policy::MetricsConfig>& config);

  std::optional<policy::SocketAddress> local_address()
      const;  // where it listens; the real port for port 0

 private:
  PageAnswer answer(const PageRequest& request) const;

  Pages pages_;
  std::vector<policy::Prefix> allow_;
  PageServer server_;
};

}  // namespace sluice::gateway
