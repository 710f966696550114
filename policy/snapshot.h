// The compiled policy that workers read. Immutable: hand it around as shared_ptr<const Snapshot>,
// read it from any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "policy/access.h"
#include "policy/bans.h"
#include "policy/config.h"
#include "policy/route_actions.h"
#include "policy/routing.h"

namespace sluice::policy {

// How a connection came. Same values as gateway::WayIn and kernel::WayIn.
enum class Way : std::uint8_t { bind = 0, local = 1, forward = 2, output = 3 };
inline constexpr std::size_t kWays = 4;

struct RouteTarget {
  std::uint32_t upstream = 0;  // index in Config::upstreams
  std::uint32_t weight = 1;
};

// At most so many limits on a route or a listener.
inline constexpr std::size_t kMaxRouteLimits = 16;

struct UsedLimit {
  std::uint32_t index = 0;  // in Config::limits and LimitStore::resolve()'s result
  std::uint32_t cost = 1;
};

// A route with its names resolved. The route itself is config().routes[same index].
struct CompiledRoute {
  std::uint64_t id = 0;  // of the route's name: the same over reloads, for limits keyed by route
  std::vector<RouteTarget> targets;    // at least one, but where the route answers by itself
  std::vector<std::uint32_t> weights;  // of `targets`, as pick_weighted() wants them
  Access access;
  std::vector<UsedLimit> limits;
  std::vector<std::uint32_t> auth;  // indices in Config::auth
  bool ai = false;                  // Route::ai
  std::uint32_t mirror = 0;         // index in Config::upstreams, where the route mirrors
  // The name that a client gives decides where its connection goes (`verify_authority`).
  bool by_name = false;
  std::unique_ptr<const CompiledActions> actions;  // null: it only forwards
};

// The same for a listener: what is asked as a connection is accepted.
struct CompiledListener {
  Access access;
  std::vector<UsedLimit> limits;
  bool express = false;  // its clients may be in the express lane
};

struct RespondStatus {
  int status = 404;
};
struct ForwardTo {
  std::uint32_t upstream = 0;  // index in Config::upstreams
};
// What a request gets that no route claims. Plain TCP closes the connection where HTTP answers with
// a status.
using Fallback = std::variant<RespondStatus, ForwardTo>;

class Snapshot {
 public:
  // `config` must come from parse() without errors (names resolve; it asserts nothing about files).
  static std::shared_ptr<const Snapshot> compile(Config config);

  const Config& config() const { return config_; }
  // As CompiledRoute::by_name, of what no route claims.
  bool fallback_by_name(Way way) const {
    const auto* forward = std::get_if<ForwardTo>(&fallback(way));
    return forward != nullptr && !config_.upstreams[forward->upstream].original_destination;
  }
  // Equal for policies that mean the same: comments, places, and the order of what has no order do
  // not count.
  std::uint64_t fingerprint() const;  // made when first asked for, from any thread

  std::optional<std::uint32_t> find_listener(std::string_view name) const;
  std::optional<std::uint32_t> find_upstream(std::string_view name) const;
  std::optional<std::uint32_t> find_limit(std::string_view name) const;

  // Indexed as Config::listeners.
  const RouteTable& routes(std::uint32_t listener) const { return tables_[listener]; }
  // Indexed as Config::routes, which is what RouteTable::match() returns.
  const CompiledRoute& route(std::uint32_t index) const { return routes_[index]; }
  // Indexed as Config::listeners.
  const CompiledListener& listener(std::uint32_t index) const { return listeners_[index]; }
  // `bind` takes default_route.local.
  const Fallback& fallback(Way way) const { return fallbacks_[static_cast<std::size_t>(way)]; }

  // Whether a connection of this listener that is no HTTP must not reach `upstream`: a route with
  // conditions that only HTTP can meet (auth, or access to a part of what is there) guards it.
  // `route`: that has claimed it; nullopt: none. One with a host has claimed it by the name that it
  // asks for by TLS: that is what a guard by host alone looks at.
  bool is_guarded(std::uint32_t listener, std::uint32_t upstream,
                  std::optional<std::uint32_t> route) const {
    const Guarded& guarded = guarded_[listener];
    const bool named = route && !config_.routes[*route].host.empty();
    return std::ranges::binary_search(guarded.by_http, upstream) ||
           (!named && std::ranges::binary_search(guarded.by_host, upstream));
  }

  const BanRules& ban_rules() const { return ban_rules_; }

  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

 protected:
  explicit Snapshot(Config config);

 private:
  using Index =
      std::unordered_map<std::string_view, std::uint32_t>;  // views into config_, which never moves

  // Upstreams of a listener, sorted.
  struct Guarded {
    std::vector<std::uint32_t> by_host;  // by its host alone
    std::vector<std::uint32_t> by_http;  // by more than that
  };

  CompiledRoute resolve(const Route& route) const;
  CompiledListener resolve(const Listener& listener) const;
  Fallback resolve(const DefaultAction& action) const;
  Guarded guarded_upstreams(const std::string& listener) const;

  Config config_;
  mutable std::once_flag fingerprint_made_;
  mutable std::uint64_t fingerprint_ = 0;
  Index listener_index_;
  Index upstream_index_;
  Index limit_index_;
  std::vector<RouteTable> tables_;
  std::vector<CompiledRoute> routes_;
  std::vector<CompiledListener> listeners_;
  std::vector<Guarded> guarded_;  // by listener
  std::array<Fallback, kWays> fallbacks_;
  BanRules ban_rules_;
};

// The semantic hash behind Snapshot::fingerprint().
std::uint64_t fingerprint(const Config& config);
// The same for one upstream: equal when a reload need not touch it.
std::uint64_t fingerprint(const Upstream& upstream);

}  // namespace sluice::policy
