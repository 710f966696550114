#include "policy/routing.h"

#include <algorithm>
#include <tuple>

namespace sluice::policy {

namespace {

constexpr std::uint64_t kFnvOffset = 0xcbf29ce484222325;
constexpr std::uint64_t kFnvPrime = 0x100000001b3;

int longest(const std::vector<Prefix>& prefixes) {
  int bits = 0;
  for (const Prefix& prefix : prefixes)
    bits = std::max(bits, prefix.length + (prefix.is_v4() ? 96 : 0) + 1);
  return bits;
}

}  // namespace

bool asks_http(const Route& route) {
  return !route.host.empty() || asks_more_than_host(route);
}

bool asks_more_than_host(const Route& route) {
  return route.path.kind != PathMatch::Kind::any || conditions_of(route).names_http();
}

RequestMatcher conditions_of(const Route& route) {
  return RequestMatcher({route.methods, route.headers, route.query, route.to, route.to_ports});
}

bool more_specific(const Route& a, const Route& b) {
  const auto rank = [](const Route& route) {
    return std::tuple(!route.methods.empty(), route.headers.size(), route.query.size(),
                      longest(route.to), !route.to_ports.empty());
  };
  return rank(a) > rank(b);
}

// FNV-1a: the keys are the operator's, so a client can choose what it looks up but not how long the
// chains are.
std::size_t RouteTable::TextHash::operator()(std::string_view text) const noexcept {
  std::uint64_t hash = kFnvOffset;
  for (const char c : text)
    hash = (hash ^ static_cast<std::uint8_t>(c)) * kFnvPrime;
  return hash ^ hash >> 32;
}

RouteTable::Cell& RouteTable::Paths::cell(const PathMatch& path) {
  switch (path.kind) {
    case PathMatch::Kind::any:
      break;
    case PathMatch::Kind::exact:
      return exact[path.value];
    case PathMatch::Kind::prefix: {
      std::string key = path.value;
      if (key.ends_with('/')) key.pop_back();
      longest_prefix = std::max(longest_prefix, key.size());
      return prefix[std::move(key)];
    }
    case PathMatch::Kind::regex: {
      const auto [known, fresh] = regex_index.try_emplace(path.value, regex.size());
      if (!fresh) return regex[known->second].cell;
      auto compiled = Regex::compile(path.value);
      if (compiled) return regex.emplace_back(RegexPath{std::move(*compiled), {}}).cell;
      break;  // parse() has refused such a policy
    }
  }
  return any;
}

void RouteTable::Paths::add(const Route& route, std::uint32_t index) {
  cell(route.path).push_back({index, conditions_of(route)});
}

std::optional<std::uint32_t> RouteTable::first_match(const Cell& cell,
                                                     const RequestView& request) noexcept {
  for (const Candidate& candidate : cell) {
    if (candidate.conditions.matches(request)) return candidate.route;
  }
  return std::nullopt;
}

// Cuts at segment ends from the longest that can match to the shortest. The number of cuts is
// bounded by the policy's own longest prefix, not by the client's path.
std::optional<std::uint32_t> RouteTable::Paths::match_prefix(
    const RequestView& request) const noexcept {
  if (prefix.empty()) return std::nullopt;
  const std::string_view path = request.path;
  std::size_t end = std::min(path.size(), longest_prefix);
  for (;;) {
    if (end == path.size() || path[end] == '/') {
      if (const auto found = prefix.find(path.substr(0, end)); found != prefix.end()) {
        if (const auto route = first_match(found->second, request)) return route;
      }
    }
    if (end == 0) return std::nullopt;
    const std::size_t slash = path.rfind('/', end - 1);
    end = slash == std::string_view::npos ? 0 : slash;
  }
}

std::optional<std::uint32_t> RouteTable::Paths::match(const RequestView& request) const noexcept {
  if (!exact.empty()) {
    if (const auto found = exact.find(request.path); found != exact.end()) {
      if (const auto route = first_match(found->second, request)) return route;
    }
  }
  for (const RegexPath& path : regex) {
    if (!path.regex.matches(request.path)) continue;
    if (const auto route = first_match(path.cell, request)) return route;
  }
  if (const auto route = match_prefix(request)) return route;
  return first_match(any, request);
}

RouteTable::RouteTable(std::span<const Route> routes, std::string_view listener) {
  std::vector<std::uint32_t> ours;
  for (std::uint32_t i = 0; i < routes.size(); ++i) {
    if (routes[i].listener == listener) ours.push_back(i);
  }
  // Cells are filled in this order; regular expressions keep the file's, which a stable sort by
  // conditions alone would not.
  std::vector<std::uint32_t> order = ours;
  std::ranges::stable_sort(
      order, [&](std::uint32_t a, std::uint32_t b) { return more_specific(routes[a], routes[b]); });
  const auto is_regex = [&](std::uint32_t i) {
    return routes[i].path.kind == PathMatch::Kind::regex;
  };
  for (const std::uint32_t i : ours) {  // makes their cells
    if (is_regex(i)) paths_of(routes[i].host).touch(routes[i].path);
  }
  for (const std::uint32_t i : order)
    paths_of(routes[i].host).add(routes[i], i);
  size_ = ours.size();
  uses_destination_ = std::ranges::any_of(
      ours, [&](std::uint32_t i) { return !routes[i].to.empty() || !routes[i].to_ports.empty(); });
}

RouteTable::Paths& RouteTable::paths_of(const std::string& host) {
  if (host.empty()) return any_;
  if (!host.starts_with("*.")) return exact_[host];
  longest_wildcard_ = std::max(longest_wildcard_, host.size() - 1);
  return wildcard_[host.substr(1)];
}

std::optional<std::uint32_t> RouteTable::match_wildcard(const RequestView& request,
                                                        InPaths in_paths) const noexcept {
  if (wildcard_.empty()) return std::nullopt;
  const std::string_view host = request.host;
  // ".example.com" needs at least one character before it.
  const std::size_t from = host.size() > longest_wildcard_ ? host.size() - longest_wildcard_ : 1;
  for (std::size_t dot = host.find('.', from); dot != std::string_view::npos;
       dot = host.find('.', dot + 1)) {
    const auto paths = wildcard_.find(host.substr(dot));
    if (paths == wildcard_.end()) continue;
    if (const auto found = in_paths(paths->second, request)) return found;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> RouteTable::match_hosts(const RequestView& request,
                                                     InPaths in_paths) const noexcept {
  if (!exact_.empty()) {
    if (const auto paths = exact_.find(request.host); paths != exact_.end()) {
      if (const auto found = in_paths(paths->second, request)) return found;
    }
  }
  if (const auto found = match_wildcard(request, in_paths)) return found;
  return in_paths(any_, request);
}

std::optional<std::uint32_t> RouteTable::match(const RequestView& request) const noexcept {
  return match_hosts(
      request, [](const Paths& paths, const RequestView& wanted) { return paths.match(wanted); });
}

std::optional<std::uint32_t> RouteTable::match_connection(
    std::string_view host, std::optional<SocketAddress> destination) const noexcept {
  RequestView connection;
  connection.host = host;
  connection.destination = destination;
  return match_hosts(connection, [](const Paths& paths, const RequestView& wanted) {
    for (const Candidate& candidate : paths.any) {
      if (!candidate.conditions.names_http() && candidate.conditions.matches(wanted)) {
        return std::optional(candidate.route);
      }
    }
    return std::optional<std::uint32_t>();
  });
}

}  // namespace sluice::policy
