// From a request's host and path to a route. Compiled once per snapshot; matching allocates nothing.
// Most specific wins, as in the Gateway API (HTTPRoute precedence): exact host, longest wildcard, any;
// then exact path, longest prefix (whole segments), any; then the order in the file.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

// Lower-cases `host` and cuts a port and a trailing dot off, into `scratch` (kept by the caller, reused).
// The view points into scratch. Brackets of an IPv6 literal stay.
std::string_view normalise_host(std::string_view host, std::string& scratch);

class RouteTable {
 public:
  static constexpr std::uint32_t kNoRoute = UINT32_MAX;

  // `indices` are the routes of one listener, as indices into `routes`.
  RouteTable(std::span<const Route> routes, std::span<const std::uint32_t> indices);
  RouteTable() = default;

  // `host` as normalise_host() left it, `path` normalised and without the query. An index into the snapshot's
  // routes, or kNoRoute.
  std::uint32_t match(std::string_view host, std::string_view path) const;
  // The route for bytes that are no HTTP: the first one without host and path, or kNoRoute.
  std::uint32_t match_l4() const { return l4_route_; }

 private:
  struct Prefix {
    std::string path;  // "" is any; never ends in '/' otherwise
    std::uint32_t route;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  template <typename T>
  using Map = std::unordered_map<std::string, T, Hash, std::equal_to<>>;
  struct Paths {
    Map<std::uint32_t> exact;
    std::vector<Prefix> prefixes;  // longest first
    std::uint32_t match(std::string_view path) const;
    void add(const Route& route, std::uint32_t index);
  };
  Map<Paths> hosts_;      // exact
  Map<Paths> wildcards_;  // key: ".example.com"
  Paths any_;
  std::uint32_t l4_route_ = kNoRoute;
};

}  // namespace sluice::policy
