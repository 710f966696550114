// Request targets (RFC 9112 section 3.2), authorities (RFC 3986 section 3.2) and paths in the one
// form that is both matched and forwarded. Pure; everything returned is a view of the input or of
// the caller's memory.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

#include "gateway/http1/parse_error.h"

namespace sluice::gateway::http1 {

enum class TargetForm : std::uint8_t { origin, absolute, authority, asterisk };

enum class HostKind : std::uint8_t { name, ipv4, ipv6 };

struct Authority {
  std::string_view host;  // as sent; IPv6 without its brackets
  std::optional<std::uint16_t> port;
  HostKind kind = HostKind::name;
};

// uri-host [ ":" port ], fully checked: no user information, no empty host, IPv6 literals by their
// grammar (no zone), ports 1 to 65535 (an empty port, "host:", counts as none). Names: letters,
// digits, "-", ".", "_" , at most 255 bytes, no empty label, one trailing dot allowed. What looks
// like a dotted number must be an IPv4 address.
std::optional<Authority> parse_authority(std::string_view text);

// The path in the form that routes match and the upstream gets: unreserved characters decoded,
// other escapes kept with capital digits ("%2f" becomes "%2F" and stays one segment's text), "//"
// merged, then "." and ".." resolved (encoded dots too). Returns `path` itself where nothing has to
// change (then no scratch is touched), else a view of `scratch`, which must hold path.size() bytes.
// `path` is absolute, or "*", which stays. Errors: bad_percent_encoding (also for %00),
// path_above_root, bad_target (an octet that no path has: "\", "#", controls, …).
std::expected<std::string_view, ParseError> normalise_path(std::string_view path,
                                                           std::span<char> scratch);

}  // namespace sluice::gateway::http1
