#include "gateway/control/metrics_server.h"

#include <algorithm>
#include <utility>

#include <boost/beast/http/verb.hpp>

namespace sluice::gateway {

namespace {

namespace http = boost::beast::http;

constexpr const char* kExposition =
    "text/plain; version=0.0.4; charset=utf-8";  // Prometheus' text format

PageAnswer page(unsigned status, std::string body) {
  return {.status = status, .body = std::move(body), .content_type = kExposition};
}

}  // namespace

MetricsServer::MetricsServer(boost::asio::io_context& io, Pages pages)
    : pages_(std::move(pages)),
      server_(io, "metrics.bind", {},
              [this](const PageRequest& request, const PageServer::Respond& respond) {
                respond(answer(request));
              }) {}

PageAnswer MetricsServer::answer(const PageRequest& request) const {
  const bool allowed = allow_.empty() || std::ranges::any_of(allow_, [&](const auto& prefix) {
                         return prefix.contains(request.peer);
                       });
  if (!allowed) return page(403, "not in the policy's metrics.allow\n");
  const http::verb method = request.message.method();
  if (method != http::verb::get && method != http::verb::head) {
    PageAnswer refused = page(405, "GET or HEAD\n");
    refused.fields.emplace_back("Allow", "GET, HEAD");
    return refused;
  }
  const std::string_view target = request.message.target();
  const std::string_view path = target.substr(0, target.find('?'));
  if (path == "/metrics") return page(200, pages_.metrics());
  if (path == "/healthz") return page(200, "ok\n");
  if (path == "/readyz") return pages_.ready() ? page(200, "ready\n") : page(503, "not ready\n");
  return page(404, "/metrics, /healthz or /readyz\n");
}

std::expected<void, std::string> MetricsServer::configure(
    const std::optional<policy::MetricsConfig>& config) {
  auto done = server_.configure(config ? std::optional(config->bind) : std::nullopt);
  if (done) allow_ = config ? config->allow : std::vector<policy::Prefix>{};
  return done;
}

std::optional<policy::SocketAddress> MetricsServer::local_address() const {
  return server_.local_address();
}

}  // namespace sluice::gateway
