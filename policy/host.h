// The one form of a host name that routes, limits and logs know.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::policy {

inline constexpr std::size_t kMaxHostLength = 255;

// Checks and normalises a Host (or :authority) value: port and one trailing dot removed, lower
// case, IPv6 literals in the text of RFC 5952 and in their brackets, so that one host has one name.
// The result lies in `buffer` (at least kMaxHostLength bytes). nullopt: malformed (RFC 3986 section
// 3.2.2 without percent-encoding; an empty label; port 0 to 65535) or too long: such a request is
// refused, never routed as if it had no host. An empty value gives an empty host (RFC 9112 3.2).
std::optional<std::string_view> normalise_host(std::string_view value, std::span<char> buffer);

// The same for a route's pattern, which may begin with "*.". nullopt: no host.
std::optional<std::string> normalise_host_pattern(std::string_view pattern);

// Whether a host in normal form is a name that DNS and certificates know: letters, digits, `-` and
// `.` alone, and no address.
bool is_dns_name(std::string_view host);

}  // namespace sluice::policy
