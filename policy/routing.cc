#include "policy/routing.h"

#include <algorithm>

namespace sluice::policy {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

// PathPrefix of the Gateway API: "/a" matches "/a" and "/a/b", not "/ab".
bool prefix_matches(std::string_view prefix, std::string_view path) {
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

}  // namespace

std::string_view normalise_host(std::string_view host, std::string& scratch) {
  const auto bracket = host.rfind(']');
  const auto colon = host.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) host = host.substr(0, colon);
  if (host.ends_with('.')) host.remove_suffix(1);
  scratch.assign(host.size(), '\0');
  std::ranges::transform(host, scratch.begin(), lower);
  return scratch;
}

void RouteTable::Paths::add(const Route& route, std::uint32_t index) {
  if (route.path.kind == PathMatch::Kind::exact) {
    exact.try_emplace(route.path.value, index);
    return;
  }
  std::string prefix = route.path.kind == PathMatch::Kind::any ? "" : route.path.value;
  while (prefix.ends_with('/')) prefix.pop_back();
  const bool taken = std::ranges::any_of(prefixes, [&](const Prefix& other) { return other.path == prefix; });
  if (!taken) prefixes.push_back({std::move(prefix), index});
  std::ranges::stable_sort(prefixes, [](const Prefix& a, const Prefix& b) { return a.path.size() > b.path.size(); });
}

std::uint32_t RouteTable::Paths::match(std::string_view path) const {
  if (!exact.empty()) {
    if (const auto found = exact.find(path); found != exact.end()) return found->second;
  }
  for (const Prefix& prefix : prefixes) {
    if (prefix_matches(prefix.path, path)) return prefix.route;
  }
  // "*" (OPTIONS) and an empty path belong to the route of everything only.
  if (!prefixes.empty() && prefixes.back().path.empty()) return prefixes.back().route;
  return kNoRoute;
}

RouteTable::RouteTable(std::span<const Route> routes, std::span<const std::uint32_t> indices) {
  for (const std::uint32_t index : indices) {
    const Route& route = routes[index];
    if (route.host.empty() && route.path.kind == PathMatch::Kind::any && l4_route_ == kNoRoute) l4_route_ = index;
    if (route.host.empty()) {
      any_.add(route, index);
    } else if (route.host.starts_with("*.")) {
      wildcards_[route.host.substr(1)].add(route, index);
    } else {
      hosts_[route.host].add(route, index);
    }
  }
}

std::uint32_t RouteTable::match(std::string_view host, std::string_view path) const {
  if (!hosts_.empty()) {
    if (const auto found = hosts_.find(host); found != hosts_.end()) {
      if (const auto route = found->second.match(path); route != kNoRoute) return route;
    }
  }
  // "a.b.c" asks ".b.c", then ".c": the longest wildcard first.
  for (auto dot = wildcards_.empty() ? std::string_view::npos : host.find('.'); dot != std::string_view::npos;
       dot = host.find('.', dot + 1)) {
    if (const auto found = wildcards_.find(host.substr(dot)); found != wildcards_.end()) {
      if (const auto route = found->second.match(path); route != kNoRoute) return route;
    }
  }
  return any_.match(path);
}

}  // namespace sluice::policy
