#include "gateway/main/top.h"

#include <algorithm>
#include <utility>

#include "gateway/main/admin_commands.h"
#include "gateway/main/express_view.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr auto kInterval = 1s;
constexpr std::size_t kMost = 60;             // by each column
constexpr std::size_t kMaxBacklog = 1 << 20;  // bytes; then a watcher misses an interval

json::object to_json(const TopRow& row) {
  return {{"name", row.name},           {"listener", row.listener},
          {"packets", row.packets},     {"bytes", row.bytes},
          {"connections", row.connections}, {"resets", row.resets},
          {"requests_estimate", row.requests}};
}

bool asks_monitor(const policy::Config& config, kernel::SeenBy by) {
  const auto wanted = by == kernel::SeenBy::service ? policy::GuardMonitor::service
                                                    : policy::GuardMonitor::source;
  return config.guard &&
         std::ranges::find(config.guard->monitor, wanted) != config.guard->monitor.end();
}

bool says(const json::object& request, const char* key, const char* text) {
  const json::value* value = request.if_contains(key);
  return value != nullptr && *value == text;
}

}  // namespace

bool TopStreams::add(const json::object& request,
                     const std::shared_ptr<gateway::AdminStream>& stream) {
  if (!says(request, "command", "top")) return false;
  const auto by = says(request, "by", "source") ? kernel::SeenBy::source : kernel::SeenBy::service;
  const char* word = by == kernel::SeenBy::service ? "service" : "source";
  if (!asks_monitor(config_(), by)) {
    stream->send(admin_error(std::string("the policy does not ask for it; add `guard: { monitor: "
                                         "[") + word + "] }`"));
    return true;
  }
  stream->send({{"ok", true}});
  const json::value* all = request.if_contains("all");
  watchers_.push_back({.stream = stream,
                       .by = by,
                       .all = all != nullptr && *all == true,
                       .rates = {},
                       .express_bytes = express_totals(keeper_).bytes});
  auto& watcher = watchers_.back();
  (void)watcher.rates.update(keeper_.seen(by), by, config_(), TopRates::Clock::now());
  if (!polling_) poll();
  return true;
}

void TopStreams::poll() {
  polling_ = !watchers_.empty();
  if (!polling_) return;
  timer_.expires_after(kInterval);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    std::erase_if(watchers_, [](const Watcher& watcher) { return !watcher.stream->open(); });
    const auto now = TopRates::Clock::now();
    const ExpressTotals express = express_totals(keeper_);
    for (Watcher& watcher : watchers_) {
      auto rows = watcher.rates.update(keeper_.seen(watcher.by), watcher.by, config_(), now);
      if (watcher.stream->backlog() >= kMaxBacklog) continue;
      if (watcher.by == kernel::SeenBy::service && !watcher.all)
        std::erase_if(rows, [](const TopRow& row) { return row.listener.empty(); });
      json::array out;
      for (const TopRow& row : top_of(std::move(rows), kMost))
        out.push_back(to_json(row));
      const double before = std::exchange(watcher.express_bytes, express.bytes);
      watcher.stream->send(
          {{"by", watcher.by == kernel::SeenBy::service ? "service" : "source"},
           {"rows", std::move(out)},
           {"express", {{"connections", express.connections}, {"bytes", express.bytes - before}}}});
    }
    poll();
  });
}

}  // namespace sluice::control
