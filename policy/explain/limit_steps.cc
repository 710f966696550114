// The gateway's phases that look at who a client is and what it has done: client, bans, limits.
#include <algorithm>

#include "policy/explain/steps.h"
#include "policy/protect.h"
#include "policy/schema.h"
#include "policy/units.h"

namespace sluice::policy::explaining {

namespace {

std::string shown(const LimitKeyPart& part) {
  if (part.kind == LimitKey::header) return "header " + part.name;
  if (part.kind == LimitKey::claim) return "claim " + part.name;
  return std::string(kLimitKeyWords[static_cast<std::size_t>(part.kind)]);
}

std::string beyond(const Limit& limit, std::string_view refusal) {
  switch (limit.action) {
    case LimitAction::reject:
      return std::string(refusal);
    case LimitAction::delay:
      return "delayed up to " + format_duration(limit.max_delay) + ", then " + std::string(refusal);
    case LimitAction::count:
      return "only counted";
  }
  return "";
}

std::string describe(const Limit& limit, std::uint32_t cost, std::string_view refusal) {
  std::string keys;
  for (const LimitKeyPart& part : limit.key)
    keys += (keys.empty() ? "" : ", ") + shown(part);
  std::string text = "limit `" + limit.name + "`: ";
  if (limit.unit == LimitUnit::concurrency) {
    text += std::to_string(limit.max) + " at a time";
  } else {
    text += std::to_string(limit.rate_count) +
            (limit.unit == LimitUnit::tokens ? " tokens" : "") + " in " + format_duration(limit.rate_period) +
            ", burst " + std::to_string(limit.burst);
  }
  text += ", by " + keys;
  if (limit.scope == LimitScope::cluster) text += ", over the cluster";
  if (cost != 1) text += ", at a cost of " + std::to_string(cost);
  return text + "; beyond: " + beyond(limit, refusal);
}

bool by_key(const Limit& limit, LimitKey kind) {
  return std::ranges::find(limit.key, kind, &LimitKeyPart::kind) != limit.key.end();
}

// What the question leaves open; "": nothing.
std::string_view unsaid(const Limit& limit, const RequestView& request) {
  const bool asks = by_key(limit, LimitKey::client_ip) || !limit.from.empty();
  if (asks && request.client == IpAddress{}) return "the client";
  if (by_key(limit, LimitKey::destination) && !request.destination) return "the destination";
  return "";
}

constexpr const char* kSpared = "no limit applies: `protect.from` holds the client";

void count_up(Step& step) {
  step.verdict = step.reasons.size() == 1 ? "one limit applies"
                                          : std::to_string(step.reasons.size()) + " limits apply";
}

// `otherwise`: what becomes of what is refused.
void tell_all(LimitsStep& result, const Snapshot& snapshot, std::span<const UsedLimit> limits,
              const Location& where, const RequestView& request, std::uint64_t route_id,
              const LiveState& live, const std::string& otherwise) {
  Step& step = result.step;
  for (const UsedLimit& used : limits) {
    const Limit& limit = snapshot.config().limits[used.index];
    ToldLimit told =
        tell(limit, used, request, route_id, live, request.fields != nullptr ? kRefused : kClosed);
    if (!result.refused) step.where = where;
    step.reasons.push_back({std::move(told.text), limit.where});
    if (told.allowed || result.refused) continue;
    result.refused = true;
    step.verdict = otherwise + " by limit `" + limit.name + "`";
    step.where = limit.where;
    step.name = limit.name;
    step.final = true;
  }
  if (!step.reasons.empty() && !result.refused) count_up(step);
}

}  // namespace

ToldLimit tell(const Limit& limit, const UsedLimit& used, const RequestView& request,
               std::uint64_t route_id, const LiveState& live, std::string_view refusal) {
  ToldLimit told{describe(limit, used.cost, refusal)};
  if (!limit.from.empty() && request.client != IpAddress{} && !limit.from.contains(request.client)) {
    told.text += "; not for this client: `from` does not hold it";
    return told;
  }
  if (limit.unit == LimitUnit::tokens) {
    told.text += "; it depends on what the call asks for";
    return told;
  }
  if (live.gateway == nullptr) return told;
  if (const std::string_view open = unsaid(limit, request); !open.empty()) {
    told.text += "; now: depends on " + std::string(open);
    return told;
  }
  const auto state = live.gateway->limit(used.index, request, route_id, used.cost);
  told.text += "; now: " + state.text;
  told.allowed = state.allowed;
  return told;
}

LimitsStep limits(const Snapshot& snapshot, std::uint32_t route, const RequestView& request,
                  const LiveState& live) {
  const CompiledRoute& compiled = snapshot.route(route);
  LimitsStep result{.step = {"limits", "no limit applies", {}, {}, false}};
  if (!compiled.limits.empty() && is_protected(snapshot.config().protect, request)) {
    result.step.verdict = kSpared;
    return result;
  }
  tell_all(result, snapshot, compiled.limits, snapshot.config().routes[route].where, request,
           compiled.id, live, request.fields != nullptr ? "refused with 429" : "closed");
  return result;
}

std::optional<LimitsStep> listener_limits(const Snapshot& snapshot, std::uint32_t listener,
                                          const RequestView& connection, const LiveState& live) {
  const auto& limits = snapshot.listener(listener).limits;
  if (limits.empty()) return std::nullopt;
  // As the listener sees it: before a byte is read.
  RequestView bare;
  bare.client = connection.client;
  bare.client_claimed = connection.client_claimed;
  bare.destination = connection.destination;
  LimitsStep result{.step = {"limits", "", {}, {}, false}};
  if (is_protected(snapshot.config().protect, bare)) {
    result.step.verdict = kSpared;
    return result;
  }
  tell_all(result, snapshot, limits, snapshot.config().listeners[listener].where, bare, 0, live,
           "a new connection is closed");
  return result;
}

Step client(const RequestDescription::Claim& claim) {
  return {"client", claim.client.to_string() + ", by " + claim.by, {}, {}, false};
}

std::optional<OwnBanStep> own_ban(const IpAddress& client, bool claimed, const LiveState& live) {
  if (live.gateway == nullptr || client == IpAddress{}) return std::nullopt;
  const auto ban = live.gateway->ban(client);
  if (!ban) return std::nullopt;
  const std::string who = ban->source.to_string();
  OwnBanStep result{.step = {"bans", "", {}, {}, false}};
  Step& step = result.step;
  if (!ban->upstream.empty()) {
    result.upstream = ban->index;
    step.verdict = ban->index ? who + " is banned: it goes to upstream `" + ban->upstream + "`"
                              : who + " is banned, but its upstream is gone: as if it were not";
    step.name = ban->index ? ban->upstream : "";
  } else if (claimed) {
    result.refused = true;
    step.final = true;
    step.verdict = "refused by the gateway: " + who + " is banned";
  } else {
    step.verdict = "of " + who + " only what a proxy says it sends is refused";
  }
  step.reasons.push_back({ban->reason + ", " + std::to_string(ban->seconds_left) + " s left", {}});
  return result;
}

}  // namespace sluice::policy::explaining
