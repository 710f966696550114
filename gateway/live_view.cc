#include "gateway/live_view.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "gateway/clocks.h"
#include "policy/schema.h"

namespace sluice::gateway {
namespace {

using policy::LimitAction;
using LimitState = policy::LiveGateway::LimitState;

std::string milliseconds(std::uint64_t ns) {
  return std::to_string((ns + 999'999) / 1'000'000) + " ms";
}

// Only what is counted goes on regardless.
bool goes_on(const policy::LimitHandle& handle, bool allowed) {
  return allowed || handle.limit().action == LimitAction::count;
}

LimitState rate_state(const policy::LimitHandle& handle, const policy::LimitKeys& keys,
                      std::uint32_t cost) {
  const policy::LimitVerdict verdict = handle.peek(keys, steady_now(), cost);
  if (!verdict.allowed)
    return {goes_on(handle, false),
            "none left, the next in " + milliseconds(verdict.retry_after_ns)};
  if (verdict.delay_ns > 0) return {true, "none left: waits for " + milliseconds(verdict.delay_ns)};
  return {true, std::to_string(verdict.remaining) + " of " + std::to_string(handle.limit().burst) +
                    " left after this one"};
}

LimitState concurrency_state(const policy::LimitHandle& handle, const policy::LimitKeys& keys,
                             std::uint32_t cost) {
  const std::uint32_t held = handle.held(keys);
  const std::uint32_t max = handle.limit().max;
  return {goes_on(handle, held + cost <= max),
          std::to_string(held) + " of " + std::to_string(max) + " under way"};
}

std::string last_answer(const policy::ClusterLook& look) {
  if (!look.answered) return "Redis has not been asked about this key lately";
  const std::string age = ", " + milliseconds(look.answer_age_ns) + " ago";
  return "Redis gave " + std::to_string(look.granted) +
         (look.in_full ? ", as asked for" : ", less than asked for") + age;
}

// The share that is handed out without Redis, and by which rule.
std::string on_loss_text(const policy::ClusterTable& table, const policy::ClusterLook& look) {
  const auto word = policy::kOnLossWords[static_cast<std::size_t>(table.on_loss())];
  std::string text = "Redis cannot be asked: `on_loss: " + std::string(word) + "` is in force";
  if (table.on_loss() == policy::OnLoss::deny) return text + ", nobody gets in";
  if (table.on_loss() == policy::OnLoss::share)
    text += ", 1/" + std::to_string(look.gateways) + " of the rate";
  return text + (look.verdict.allowed
                     ? ", " + std::to_string(look.verdict.remaining) + " left after this one"
                     : ", none left, the next in " + milliseconds(look.verdict.retry_after_ns));
}

LimitState cluster_state(const policy::LimitHandle& handle, const policy::LimitKeys& keys,
                         std::uint32_t cost) {
  const policy::ClusterTable& table = *handle.cluster();
  const policy::ClusterLook look = table.look(keys, steady_now(), cost);
  const bool allowed = goes_on(handle, look.verdict.allowed);
  if (look.away) return {allowed, on_loss_text(table, look) + "; before, " + last_answer(look)};
  if (look.decides)
    return {allowed, "Redis decides this one; " + last_answer(look) +
                         (table.chunk() == 0 && look.answered
                              ? ", " +
                                    std::to_string(look.verdict.remaining +
                                                   (look.verdict.allowed ? cost : 0)) +
                                    " left by that"
                              : "")};
  if (look.leased > 0)
    return {allowed, std::to_string(look.leased) + " of the leased share left, for " +
                         milliseconds(look.lease_left_ns) + "; " + last_answer(look)};
  return {allowed, std::string("no share is leased") +
                       (look.verdict.allowed
                            ? ", the first ones go ahead of it; "
                            : ", the next in " + milliseconds(look.verdict.retry_after_ns) + "; ") +
                       last_answer(look)};
}

}  // namespace

std::vector<policy::LiveGateway::EndpointState> LiveView::endpoints(std::uint32_t upstream) const {
  std::vector<EndpointState> states;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& endpoint : generation_.clusters->at(upstream).endpoints()) {
    const char* state = endpoint->drained()     ? "drained"
                        : endpoint->ejected(now) ? "ejected"
                        : !endpoint->healthy()   ? "unhealthy"
                                                 : "healthy";
    states.push_back({.name = endpoint->name(),
                      .state = state,
                      .weight = endpoint->weight(),
                      .active_requests = endpoint->active_requests(),
                      .available = endpoint->available(now) && endpoint->weight() > 0});
  }
  return states;
}

LimitState LiveView::limit(std::uint32_t limit, const policy::RequestView& request,
                           std::uint64_t route_id, std::uint32_t cost) const {
  const policy::LimitHandle& handle = generation_.limits[limit];
  const policy::LimitKeys keys = handle.keys(request, route_id);
  if (handle.is_concurrency()) return concurrency_state(handle, keys, cost);
  if (handle.is_cluster()) return cluster_state(handle, keys, cost);
  return rate_state(handle, keys, cost);
}

std::optional<policy::LiveGateway::OwnBan> LiveView::ban(const policy::IpAddress& client) const {
  const policy::BanRules& rules = generation_.snapshot->ban_rules();
  const std::uint64_t now = steady_now();
  for (const policy::DivertedSource& one : diverted_.list(now)) {
    if (!one.source.contains(client)) continue;
    OwnBan ban{.source = one.source,
               .upstream = {},
               .index = {},
               .seconds_left = (one.until_ns - now + 999'999'999) / 1'000'000'000,
               .reason = one.reason};
    if (one.upstream == policy::kRefuseSource) return ban;
    ban.index = rules.find_upstream(one.upstream);
    ban.upstream = ban.index ? generation_.snapshot->config().upstreams[*ban.index].name : "(gone)";
    return ban;
  }
  return std::nullopt;
}

}  // namespace sluice::gateway
