#include "policy/snapshot.h"

#include <algorithm>

#include "policy/express.h"
#include "policy/siphash.h"

namespace sluice::policy {

namespace {

constexpr HashKey kRouteIdKey{0x736c756963652d72, 0x6f7574652d6e616d};

template <typename T>
std::unordered_map<std::string_view, std::uint32_t> index_by_name(const std::vector<T>& items) {
  std::unordered_map<std::string_view, std::uint32_t> index;
  for (std::uint32_t i = 0; i < items.size(); ++i)
    index.emplace(items[i].name, i);
  return index;
}

std::optional<std::uint32_t> find_in(
    const std::unordered_map<std::string_view, std::uint32_t>& index, std::string_view name) {
  const auto found = index.find(name);
  if (found == index.end()) return std::nullopt;
  return found->second;
}

}  // namespace

std::shared_ptr<const Snapshot> Snapshot::compile(Config config) {
  struct Enabled : Snapshot {  // make_shared needs a constructor that it may call
    explicit Enabled(Config from) : Snapshot(std::move(from)) {}
  };
  return std::make_shared<const Enabled>(std::move(config));
}

Snapshot::Snapshot(Config config)
    : config_(std::move(config)),
      listener_index_(index_by_name(config_.listeners)),
      upstream_index_(index_by_name(config_.upstreams)),
      limit_index_(index_by_name(config_.limits)),
      ban_rules_(config_) {
  tables_.reserve(config_.listeners.size());
  for (const Listener& listener : config_.listeners) {
    tables_.emplace_back(config_.routes, listener.name);
    listeners_.push_back(resolve(listener));
  }
  routes_.reserve(config_.routes.size());
  for (const Route& route : config_.routes)
    routes_.push_back(resolve(route));
  for (const Listener& listener : config_.listeners)
    guarded_.push_back(guarded_upstreams(listener.name));
  fallbacks_ = {resolve(config_.default_route.local), resolve(config_.default_route.local),
                resolve(config_.default_route.forward), resolve(config_.default_route.output)};
}

// Where a caught connection wanted to go is many places, which a route guards by their names.
Snapshot::Guarded Snapshot::guarded_upstreams(const std::string& listener) const {
  Guarded out;
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    const Route& route = config_.routes[i];
    if (route.listener != listener) continue;
    if (route.auth.empty() && (route.access.empty() || !asks_http(route))) continue;
    auto& guarded = route.auth.empty() && !asks_more_than_host(route) ? out.by_host : out.by_http;
    for (const RouteTarget& target : routes_[i].targets)
      if (!config_.upstreams[target.upstream].original_destination)
        guarded.push_back(target.upstream);
  }
  for (auto* upstreams : {&out.by_http, &out.by_host}) {
    std::ranges::sort(*upstreams);
    upstreams->erase(std::ranges::unique(*upstreams).begin(), upstreams->end());
  }
  return out;
}

std::uint64_t Snapshot::fingerprint() const {
  std::call_once(fingerprint_made_, [this] { fingerprint_ = policy::fingerprint(config_); });
  return fingerprint_;
}

CompiledRoute Snapshot::resolve(const Route& route) const {
  CompiledRoute compiled;
  compiled.id = siphash(kRouteIdKey, route.name);
  for (const WeightedUpstream& upstream : route.upstreams) {
    const auto index = find_upstream(upstream.name);
    if (!index) continue;  // parse() has refused such a policy
    compiled.targets.push_back({*index, upstream.weight});
    compiled.weights.push_back(upstream.weight);
  }
  compiled.access = Access(route.access);
  for (const LimitUse& limit : route.limits) {
    if (const auto index = find_limit(limit.name)) compiled.limits.push_back({*index, limit.cost});
  }
  for (const std::string& auth : route.auth) {
    const auto known = std::ranges::find(config_.auth, auth, &Auth::name);
    if (known == config_.auth.end()) continue;
    compiled.auth.push_back(static_cast<std::uint32_t>(known - config_.auth.begin()));
  }
  if (const auto& mirror = route.actions.mirror) {
    compiled.mirror = find_upstream(mirror->upstream).value_or(0);
  }
  compiled.ai = route.ai;
  compiled.actions = CompiledActions::compile(route);
  const bool elsewhere = std::ranges::any_of(compiled.targets, [this](const RouteTarget& target) {
    return !config_.upstreams[target.upstream].original_destination;
  });
  compiled.by_name =
      !route.actions.answers() && (!route.host.empty() || elsewhere || compiled.targets.empty());
  return compiled;
}

CompiledListener Snapshot::resolve(const Listener& listener) const {
  CompiledListener compiled;
  compiled.access = Access(listener.access);
  for (const std::string& limit : listener.limits) {
    if (const auto index = find_limit(limit)) compiled.limits.push_back({*index, 1});
  }
  compiled.express = clients_in_lane(config_, listener);
  return compiled;
}

Fallback Snapshot::resolve(const DefaultAction& action) const {
  if (const int* status = std::get_if<int>(&action)) return RespondStatus{*status};
  if (const auto upstream = find_upstream(std::get<std::string>(action))) {
    return ForwardTo{*upstream};
  }
  return RespondStatus{502};
}

std::optional<std::uint32_t> Snapshot::find_listener(std::string_view name) const {
  return find_in(listener_index_, name);
}

std::optional<std::uint32_t> Snapshot::find_upstream(std::string_view name) const {
  return find_in(upstream_index_, name);
}

std::optional<std::uint32_t> Snapshot::find_limit(std::string_view name) const {
  return find_in(limit_index_, name);
}

}  // namespace sluice::policy
