// The phases of explain(), one function each.
#pragma once

#include "policy/explain.h"
#include "policy/request.h"

namespace sluice::policy::explaining {

// At most so many entries are told about that did not match; the rest is one line.
inline constexpr std::size_t kMostReasons = 50;

Step protect(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live);
inline constexpr const char* kNotProtected = "not protected";
Step bans(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live);
Step guard(const Snapshot& snapshot, const PacketDescription& packet, const LiveState& live);
// The buckets of a SYN; nullopt: the policy has none that looks at it.
std::optional<Step> syn_rate(const Snapshot& snapshot, const PacketDescription& packet,
                             const LiveState& live);

struct InterceptStep {
  Step step;
  std::optional<std::uint32_t> listener;  // in Config::listeners
  Way way = Way::bind;
  const Intercept* entry = nullptr;  // null: bound, or not caught
};
InterceptStep intercept(const Snapshot& snapshot, const PacketDescription& packet,
                        const LiveState& live);
Step steering(const InterceptStep& caught, const LiveState& live);

// Whether TLS of who asks for `host` (in normal form) is ended; nullopt: the listener has no
// certificate authority, which could say no.
std::optional<Step> tls(const Listener& listener, std::string_view host);
// Of a packet that is not caught: what `ai.bypass` says of it; nullopt: nothing.
std::optional<Step> bypass(const Snapshot& snapshot, const PacketDescription& packet,
                           const LiveState& live);

// Access rules of a listener or a route; `owner`: "listener `web`".
Step access(const std::string& owner, const Access& access, const Location& where,
            const RequestView& request, bool closes);
struct RouteStep {
  Step step;
  std::optional<std::uint32_t> route;  // index in Config::routes
};
RouteStep route(const Snapshot& snapshot, std::uint32_t listener, const RequestView& request);
// The same for a connection that is no HTTP request.
RouteStep connection_route(const Snapshot& snapshot, std::uint32_t listener,
                           const RequestView& connection);
// What a request gets that no route claims.
struct FallbackStep {
  Step step;
  int status = 0;                         // 0: forwarded
  std::optional<std::uint32_t> upstream;  // index in Config::upstreams
};
FallbackStep fallback(const Snapshot& snapshot, Way way);
struct LimitsStep {
  Step step;
  bool refused = false;
};
// Who a trusted proxy says the client is.
Step client(const RequestDescription::Claim& claim);
struct OwnBanStep {
  Step step;
  bool refused = false;
  std::optional<std::uint32_t> upstream = {};  // index in Config::upstreams: it goes there
};
// Bans that the gateway enforces; nullopt: none of the client. `claimed`: by a proxy.
std::optional<OwnBanStep> own_ban(const IpAddress& client, bool claimed, const LiveState& live);
// Whether the client's name has to belong to where it dialled; nullopt: nobody asks.
std::optional<Step> authority(const Snapshot& snapshot, std::uint32_t listener, Way way,
                              bool by_name, const RequestView& request);
// Who must have said who they are; what they prove is not known here.
Step auth(const Snapshot& snapshot, std::uint32_t route);
LimitsStep limits(const Snapshot& snapshot, std::uint32_t route, const RequestView& request,
                  const LiveState& live);
// Of a new connection; nullopt: the listener has none.
std::optional<LimitsStep> listener_limits(const Snapshot& snapshot, std::uint32_t listener,
                                          const RequestView& connection, const LiveState& live);
// "limit `few`: 10 in 1s, burst 10, by client_ip; beyond: 429; now: 3 of 10 left"
struct ToldLimit {
  std::string text;
  bool allowed = true;
};
inline constexpr std::string_view kRefused = "429";
inline constexpr std::string_view kClosed = "closed";  // before a byte is read, or no HTTP
// `refusal`: what becomes of what is beyond.
ToldLimit tell(const Limit& limit, const UsedLimit& used, const RequestView& request,
               std::uint64_t route_id, const LiveState& live, std::string_view refusal);
Step upstream(const Snapshot& snapshot, const Route& route);

// Of a source, whatever it sends: which entries of `protect` name it, and which rules.
Step source_protect(const Snapshot& snapshot, const IpAddress& source, const LiveState& live);
Step source_guard(const Snapshot& snapshot, const IpAddress& source);
Step source_access(const Snapshot& snapshot, const IpAddress& source);
Step source_limits(const Snapshot& snapshot, const IpAddress& source, const LiveState& live);
// Of each upstream that may be chosen: how one of its endpoints is, and which are there to choose.
Step balance(const Snapshot& snapshot, std::span<const std::uint32_t> upstreams,
             const LiveState& live);

}  // namespace sluice::policy::explaining
