#include "gateway/memory.h"

#include <chrono>
#include <cstdint>
#include <fstream>
#include <utility>

#include "policy/carried_state.h"

namespace sluice::gateway {
namespace {

std::uint64_t monotonic_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

policy::Clocks clocks() {
  policy::Clocks now;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> now.boot;
  now.monotonic_ns = monotonic_ns();
  now.wall_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count();
  return now;
}

}  // namespace

std::string save_memory(const policy::LimitStore* limits, const policy::BanTracker& bans,
                        const policy::DivertedSources& diverted, const KeptAnswers& answers,
                        const auth::AuthRegistry& auth) {
  const policy::Clocks now = clocks();
  policy::CarriedState state;
  if (limits != nullptr) limits->save(state, now.monotonic_ns);
  state.ban_key = bans.hash_key();
  state.bans = bans.records();
  state.diverted = diverted.list(now.monotonic_ns);
  state.names = answers.names();
  state.keys = auth.keys();
  return state.is_empty() ? std::string() : policy::serialize(state, now);
}

std::expected<void, std::string> restore_memory(std::string_view bytes, policy::LimitStore& limits,
                                                policy::BanTracker& bans,
                                                policy::DivertedSources& diverted,
                                                KeptAnswers& answers, auth::AuthRegistry& auth) {
  const policy::Clocks now = clocks();
  auto state = policy::deserialize_state(bytes, now);
  if (!state) return std::unexpected(state.error());
  limits.take_over(*state);
  answers.take_over(std::move(state->names));
  auth.take_over(std::move(state->keys));
  if (!state->bans.empty()) bans.take_over(state->ban_key, state->bans);
  for (policy::DivertedSource& one : state->diverted) {
    if (one.until_ns > now.monotonic_ns)
      diverted.add(one.source, one.upstream, one.until_ns, now.monotonic_ns, std::move(one.reason));
  }
  return {};
}

std::vector<OwnBan> own_bans(const policy::DivertedSources& diverted,
                             const policy::Snapshot* snapshot) {
  const std::uint64_t now = monotonic_ns();
  std::vector<OwnBan> out;
  for (policy::DivertedSource& one : diverted.list(now)) {
    const std::chrono::nanoseconds left(one.until_ns - now);
    OwnBan ban{.source = one.source,
               .left = std::chrono::ceil<std::chrono::seconds>(left),
               .upstream = {},
               .reason = std::move(one.reason)};
    if (snapshot != nullptr && one.upstream != policy::kRefuseSource) {
      const auto upstream = snapshot->ban_rules().find_upstream(one.upstream);
      ban.upstream = upstream ? snapshot->config().upstreams[*upstream].name : "(gone)";
    }
    out.push_back(std::move(ban));
  }
  return out;
}

}  // namespace sluice::gateway
