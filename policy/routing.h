// Which route claims a request: host, path, method, header, query, original destination, the most
// specific first. Built once per snapshot, read by all workers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/config.h"
#include "policy/host.h"
#include "policy/matching.h"

namespace sluice::policy {

// The routes of one listener. Matching neither allocates (but for parameters of a long query)
// nor locks (RE2 takes a reader's lock inside); it costs one pass over host and path, however many routes there are.
//
// Precedence, as the Gateway API has it: an exact host before the longest wildcard before any host;
// for one host an exact path before regular expressions (in the file's order) before the longest
// prefix before any path; for one host and path a route that names methods before one that does
// not, then the one with more headers, then with more query parameters, then with the longest
// original destination, then the first of the file. Where the most specific does not match, the
// next one is tried, up to the widest host. `*.example.com` matches one or more labels, never
// example.com itself. A prefix matches whole segments: /v1 matches /v1 and /v1/x, not /v10.
class RouteTable {
 public:
  // `routes` are all routes of the policy; those of `listener` are taken. Results are indices into
  // `routes`.
  RouteTable(std::span<const Route> routes, std::string_view listener);
  RouteTable() = default;

  std::optional<std::uint32_t> match(const RequestView& request) const noexcept;
  // What a connection takes that is not (or not yet) HTTP: routes that name no path, method, header
  // or query. `host`: the name that the client asked for in TLS (SNI), normalised; "": none.
  std::optional<std::uint32_t> match_connection(
      std::string_view host = {},
      std::optional<SocketAddress> destination = std::nullopt) const noexcept;

  // Whether RequestView::destination makes a difference here (it costs a system call).
  bool uses_destination() const { return uses_destination_; }
  std::size_t size() const { return size_; }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept;
  };
  template <typename T>
  using ByText = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

  struct Candidate {
    std::uint32_t route = 0;
    RequestMatcher conditions;
  };
  // Routes of the same host and path, the most specific first.
  using Cell = std::vector<Candidate>;

  struct RegexPath {
    Regex regex;
    Cell cell;
  };

  // The paths of one host.
  struct Paths {
    ByText<Cell> exact;
    std::vector<RegexPath> regex;
    ByText<std::size_t> regex_index;  // by pattern
    ByText<Cell> prefix;              // without a trailing '/'; "" is the prefix "/"
    std::size_t longest_prefix = 0;
    Cell any;

    void touch(const PathMatch& path) { cell(path); }  // makes its place
    void add(const Route& route, std::uint32_t index);
    std::optional<std::uint32_t> match(const RequestView& request) const noexcept;
    std::optional<std::uint32_t> match_prefix(const RequestView& request) const noexcept;

   private:
    Cell& cell(const PathMatch& path);
  };

  using InPaths = std::optional<std::uint32_t> (*)(const Paths& paths, const RequestView& request);

  Paths& paths_of(const std::string& host);
  static std::optional<std::uint32_t> first_match(const Cell& cell,
                                                  const RequestView& request) noexcept;
  std::optional<std::uint32_t> match_hosts(const RequestView& request,
                                           InPaths in_paths) const noexcept;
  std::optional<std::uint32_t> match_wildcard(const RequestView& request,
                                              InPaths in_paths) const noexcept;

  ByText<Paths> exact_;
  ByText<Paths> wildcard_;  // "*.example.com" as ".example.com"
  std::size_t longest_wildcard_ = 0;
  Paths any_;
  bool uses_destination_ = false;
  std::size_t size_ = 0;
};

// The conditions of a route but host and path.
RequestMatcher conditions_of(const Route& route);
// Whether only HTTP says what the route wants to know.
bool asks_http(const Route& route);
// The same of more than its host, which TLS says as well.
bool asks_more_than_host(const Route& route);

// Whether `a` is tried before `b` where both have the same host and path; the first of the file
// where neither is more specific.
bool more_specific(const Route& a, const Route& b);

}  // namespace sluice::policy
