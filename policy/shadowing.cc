#include "policy/shadowing.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "policy/routing.h"

namespace sluice::policy {

namespace {

// In one cell of a large policy; beyond, checking would cost more than it tells.
constexpr std::size_t kMostCompared = 200;

bool implies(const ValueMatch& narrow, const ValueMatch& wide) {
  if (narrow == wide) return true;
  return narrow.name == wide.name && wide.kind == ValueMatch::Kind::present &&
         narrow.kind != ValueMatch::Kind::absent;
}

// Everything that `narrow` asks for is at least what `wide` asks for. Empty means any.
template <typename T, typename Implies>
bool all_implied(const std::vector<T>& narrow, const std::vector<T>& wide, Implies implied) {
  return std::ranges::all_of(wide, [&](const T& wanted) {
    return std::ranges::any_of(narrow, [&](const T& given) { return implied(given, wanted); });
  });
}

// One of a list suffices: each of `narrow` must lie within one of `wide`.
template <typename T, typename Within>
bool all_within(const std::vector<T>& narrow, const std::vector<T>& wide, Within within) {
  if (wide.empty()) return true;
  return !narrow.empty() && std::ranges::all_of(narrow, [&](const T& part) {
    return std::ranges::any_of(wide, [&](const T& whole) { return within(part, whole); });
  });
}

bool implies(const Route& narrow, const Route& wide) {
  const auto same = [](const std::string& a, const std::string& b) { return a == b; };
  const auto value = [](const ValueMatch& a, const ValueMatch& b) { return implies(a, b); };
  return all_within(narrow.methods, wide.methods, same) &&
         all_implied(narrow.headers, wide.headers, value) &&
         all_implied(narrow.query, wide.query, value) &&
         all_within(narrow.to, wide.to,
                    [](const Prefix& a, const Prefix& b) { return b.contains(a); }) &&
         all_within(narrow.to_ports, wide.to_ports, [](const PortRange& a, const PortRange& b) {
           return b.first <= a.first && a.last <= b.last;
         });
}

std::string cell_of(const Route& route) {
  std::string path = route.path.value;
  if (route.path.kind == PathMatch::Kind::prefix && path.ends_with('/')) path.pop_back();
  return route.listener + "\n" + route.host + "\n" +
         std::to_string(static_cast<int>(route.path.kind)) + path;
}

bool matches_every_path(const Route& route) {
  return route.path.kind == PathMatch::Kind::regex &&
         (route.path.value == ".*" || route.path.value == "/.*" || route.path.value == "^.*$" ||
          route.path.value == "^/.*$");
}

// Whether `route` comes behind the regular expression `all`, of the same listener and host.
bool behind(const std::span<const Route>& routes, std::uint32_t route, std::uint32_t all) {
  switch (routes[route].path.kind) {
    case PathMatch::Kind::exact:
      return false;
    case PathMatch::Kind::regex:
      return route > all && routes[route].path.value != routes[all].path.value;
    case PathMatch::Kind::prefix:
    case PathMatch::Kind::any:
      return true;
  }
  return false;
}

}  // namespace

std::vector<Shadow> find_shadows(std::span<const Route> routes) {
  std::map<std::string, std::vector<std::uint32_t>> cells;
  std::map<std::pair<std::string_view, std::string_view>, std::uint32_t> takes_all;
  for (std::uint32_t i = 0; i < routes.size(); ++i) {
    cells[cell_of(routes[i])].push_back(i);
    if (matches_every_path(routes[i])) {
      takes_all.try_emplace(
          std::pair<std::string_view, std::string_view>(routes[i].listener, routes[i].host), i);
    }
  }
  std::vector<Shadow> shadows;
  std::vector<bool> done(routes.size());
  for (auto& [cell, members] : cells) {
    std::ranges::stable_sort(members, [&](std::uint32_t a, std::uint32_t b) {
      return more_specific(routes[a], routes[b]);
    });
    for (std::size_t j = 1; j < members.size(); ++j) {
      for (std::size_t i = j > kMostCompared ? j - kMostCompared : 0; i < j; ++i) {
        const Route& narrow = routes[members[j]];
        const Route& wide = routes[members[i]];
        if (!implies(narrow, wide)) continue;
        shadows.push_back({members[j], members[i], implies(wide, narrow)});
        done[members[j]] = true;
        break;
      }
    }
  }
  for (std::uint32_t i = 0; i < routes.size() && !takes_all.empty(); ++i) {
    const auto all = takes_all.find({routes[i].listener, routes[i].host});
    if (done[i] || all == takes_all.end() || !behind(routes, i, all->second)) continue;
    if (implies(routes[i], routes[all->second])) shadows.push_back({i, all->second, false});
  }
  std::ranges::sort(shadows, {}, &Shadow::route);
  return shadows;
}

}  // namespace sluice::policy
