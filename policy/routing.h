// Which route claims a request: host, then path, the most specific first. Built once per snapshot,
// read by all workers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

inline constexpr std::size_t kMaxHostLength = 255;

// Checks and normalises a Host (or :authority) value: port and one trailing dot removed, lower
// case. The result lies in `buffer` (at least kMaxHostLength bytes) and keeps the brackets of an
// IPv6 literal. nullopt: malformed (RFC 3986 section 3.2.2 without percent-encoding, port 0 to
// 65535) or too long. An empty value gives an empty host (RFC 9112 3.2).
std::optional<std::string_view> normalise_host(std::string_view value, std::span<char> buffer);

// The routes of one listener. Matching neither allocates nor locks; it costs one pass over host and
// path.
//
// Precedence, as the Gateway API has it: an exact host before the longest wildcard before any host;
// for one host an exact path before the longest prefix before any path. A host whose paths do not
// match falls through to the next wider host. `*.example.com` matches one or more labels, never
// example.com itself. A prefix matches whole segments: /v1 matches /v1 and /v1/x, not /v10.
class RouteTable {
 public:
  // `routes` are all routes of the policy; those of `listener` are taken. Results are indices into
  // `routes`.
  RouteTable(std::span<const Route> routes, std::string_view listener);
  RouteTable() = default;

  // `host` as normalise_host() returns it; `path` normalised, beginning with '/', without the
  // query.
  std::optional<std::uint32_t> match(std::string_view host, std::string_view path) const noexcept;
  // The route that names neither host nor path: what plain TCP takes.
  std::optional<std::uint32_t> match_tcp() const noexcept;

  std::size_t size() const { return size_; }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept;
  };
  template <typename T>
  using ByText = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

  // The paths of one host.
  struct Paths {
    ByText<std::uint32_t> exact;
    ByText<std::uint32_t> prefix;  // without a trailing '/'; "" is the prefix "/"
    std::size_t longest_prefix = 0;
    std::optional<std::uint32_t> any;

    void add(const PathMatch& path, std::uint32_t route);
    std::optional<std::uint32_t> match(std::string_view path) const noexcept;
    std::optional<std::uint32_t> longest_prefix_of(std::string_view path) const noexcept;
  };

  std::optional<std::uint32_t> match_wildcard(std::string_view host,
                                              std::string_view path) const noexcept;

  ByText<Paths> exact_;
  ByText<Paths> wildcard_;  // "*.example.com" as ".example.com"
  std::size_t longest_wildcard_ = 0;
  Paths any_;
  std::size_t size_ = 0;
};

}  // namespace sluice::policy
