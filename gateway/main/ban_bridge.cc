#include "gateway/main/ban_bridge.h"

#include <algorithm>

#include "gateway/log.h"
#include "gateway/main/kernel_plan.h"

namespace sluice::control {
namespace {

// The shortest prefixes that a gateway may ban: hosts of IPv4 (policies ban nothing else), /48 of
// IPv6.
constexpr int kShortestV4 = 128;
constexpr int kShortestV6 = 48;
// The kernel has room for eight of each version, of which operators want some.
constexpr std::size_t kLengthsV6 = 4;

bool is_canonical(const kernel::Prefix& prefix) {
  const policy::IpAddress address(prefix.address);
  if (prefix.v4 != address.is_v4()) return false;
  const policy::Prefix plain = from_kernel(prefix);
  return address.masked(plain.length) == address;
}

std::string printable(std::string text) {
  text.resize(std::min(text.size(), BanBridge::kMaxReason));
  std::ranges::replace_if(text, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return text;
}

}  // namespace

std::expected<kernel::protocol::Ban, std::string> BanBridge::admit(
    const kernel::protocol::Ban& request, Clock::time_point now) {
  const int shortest = request.source.v4 ? kShortestV4 : kShortestV6;
  if (request.source.length < shortest)
    return std::unexpected("the gateway may not ban a prefix as short as that");
  if (!is_canonical(request.source)) return std::unexpected("the gateway sent a malformed prefix");
  if (request.seconds == 0) return std::unexpected("the gateway sent a ban of no duration");

  if (refilled_ != Clock::time_point{}) {
    const double passed = std::chrono::duration<double>(now - refilled_).count();
    tokens_ = std::min(kBurst, tokens_ + passed * kPerSecond);
  }
  refilled_ = now;
  if (tokens_ < 1) return std::unexpected("the gateway asks for more bans than the keeper takes");
  tokens_ -= 1;

  kernel::protocol::Ban admitted = request;
  admitted.seconds = std::min(request.seconds, kMaxSeconds);
  if (!request.source.v4 &&
      !take_length(request.source.length, now, now + std::chrono::seconds(admitted.seconds)))
    return std::unexpected("the gateway bans prefixes of too many different lengths");
  admitted.reason = printable(request.reason);
  return admitted;
}

bool BanBridge::take_length(std::uint8_t length, Clock::time_point now, Clock::time_point until) {
  std::erase_if(lengths_, [now](const auto& entry) { return entry.second <= now; });
  const auto known = lengths_.find(length);
  if (known == lengths_.end() && lengths_.size() >= kLengthsV6) return false;
  lengths_[length] = known == lengths_.end() ? until : std::max(known->second, until);
  return true;
}

void BanBridge::pass_on(kernel::Keeper& keeper, const kernel::protocol::Ban& request,
                        Clock::time_point now) {
  const auto admitted = admit(request, now);
  if (!admitted) return log_refusal(admitted.error(), now);
  // A gateway never ends a ban early, be it an operator's or its own.
  if (keeper.is_banned_for(admitted->source, std::chrono::seconds(admitted->seconds))) return;
  const auto banned =
      keeper.ban(admitted->source, std::chrono::seconds(admitted->seconds), admitted->reason);
  if (!banned) return log_refusal(banned.error().message, now);
  gateway::log_info("bans", "banned",
                    {{"source", from_kernel(admitted->source).to_string()},
                     {"seconds", admitted->seconds},
                     {"reason", admitted->reason}});
}

void BanBridge::log_refusal(const std::string& why, Clock::time_point now) {
  ++refused_;
  if (last_log_ != Clock::time_point{} && now - last_log_ < std::chrono::seconds(1)) return;
  last_log_ = now;
  gateway::log_warn("bans", "refused a ban", {{"reason", why}, {"refused_so_far", refused_}});
}

}  // namespace sluice::control
