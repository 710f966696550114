// The immutable, compiled form of a policy that workers read. Thread-safe: nothing changes after compile().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/config.h"
#include "policy/routing.h"

namespace sluice::policy {

// What happens to a connection that no route claims, resolved.
struct CompiledDefault {
  int status = 0;                            // an HTTP status; 0: go to `upstream`
  std::uint32_t upstream = UINT32_MAX;       // index into Config::upstreams
};

struct CompiledTarget {
  std::uint32_t upstream = 0;                // index into Config::upstreams
  std::uint32_t cumulative_weight = 0;       // pick r in [0, total): the first target with r < cumulative_weight
};

struct CompiledRoute {
  std::uint32_t index = 0;                   // into Config::routes
  std::vector<CompiledTarget> targets;
  std::uint32_t total_weight = 0;
  std::vector<std::uint32_t> limits;         // indices into Config::limits
  // The upstream for a uniform random number.
  std::uint32_t upstream(std::uint64_t random) const;
};

class Snapshot {
 public:
  // `config` has been validated: every reference resolves.
  static std::shared_ptr<const Snapshot> compile(Config config);

  const Config& config() const { return config_; }
  // Of what the policy means: places, comments, order of maps and file names do not count.
  std::uint64_t fingerprint() const { return fingerprint_; }

  static constexpr std::uint32_t kNotFound = UINT32_MAX;
  std::uint32_t listener_index(std::string_view name) const;
  std::uint32_t upstream_index(std::string_view name) const;
  const RouteTable& routes_of(std::uint32_t listener) const { return tables_[listener]; }
  const CompiledRoute& route(std::uint32_t index) const { return routes_[index]; }
  const CompiledDefault& default_local() const { return default_local_; }
  const CompiledDefault& default_forward() const { return default_forward_; }
  const CompiledDefault& default_output() const { return default_output_; }

 private:
  Snapshot() = default;
  CompiledRoute compile_route(std::uint32_t index) const;
  CompiledDefault compile_default(const DefaultAction& action) const;

  Config config_;
  std::uint64_t fingerprint_ = 0;
  std::vector<RouteTable> tables_;     // by listener
  std::vector<CompiledRoute> routes_;  // by route
  CompiledDefault default_local_, default_forward_, default_output_;
};

}  // namespace sluice::policy
