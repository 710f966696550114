// The phases of explain(), one function each.
#pragma once

#include "policy/explain.h"
#include "policy/request.h"

namespace sluice::policy::explaining {

// At most so many entries are told about that did not match; the rest is one line.
inline constexpr std::size_t kMostReasons = 50;

Step protect(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live);
Step bans(const PacketDescription& packet, const LiveState& live);
Step guard(const Snapshot& snapshot, const PacketDescription& packet);
Step intercept(const Snapshot& snapshot, const PacketDescription& packet);

// Access rules of a listener or a route; `owner`: "listener `web`".
Step access(const std::string& owner, const Access& access, const Location& where,
            const RequestView& request, bool closes);
struct RouteStep {
  Step step;
  std::optional<std::uint32_t> route;  // index in Config::routes
};
RouteStep route(const Snapshot& snapshot, std::uint32_t listener, const RequestView& request);
// What a request gets that no route claims.
Step fallback(const Snapshot& snapshot, Way way);
Step limits(const Snapshot& snapshot, const Route& route, const Listener& listener);
Step upstream(const Snapshot& snapshot, const Route& route);

}  // namespace sluice::policy::explaining
