// Forwarded (RFC 7239), and the texts of addresses in it. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"

namespace sluice::gateway::http {

// One hop's element; "" where it does not say.
struct ForwardedElement {
  std::string_view node;   // of `for`, without quotes: "192.0.2.1:80", "[2001:db8::1]", "unknown"
  std::string_view proto;  // the same
};

// At most so many hops; a longer list is not believed.
inline constexpr std::size_t kMostHops = 32;
using ForwardedElements = std::array<ForwardedElement, kMostHops>;

// In the order of the field: the last one is the nearest hop's. nullopt: it cannot be read, or is
// too long. Values with escapes ("\") are left out as unreadable: none of these needs one.
std::optional<std::span<const ForwardedElement>> parse_forwarded(std::string_view field,
                                                                 ForwardedElements& memory);

// The address of a node; nullopt: "unknown", an obfuscated one, or none at all.
std::optional<policy::IpAddress> address_of_node(std::string_view node);

// Who is behind trusted proxies, from the right, since each hop adds there: the first one that is
// no trusted proxy is the client. What cannot be read ends the search: the hop that said it is the
// client then.
struct NamedClient {
  std::optional<policy::IpAddress> client;  // none: the peer itself
  std::string_view proto;                   // as the last hop that was read says; into `field`
};
NamedClient client_in_x_forwarded_for(std::string_view field,
                                      const std::vector<policy::Prefix>& trusted);
NamedClient client_in_forwarded(std::string_view field, const std::vector<policy::Prefix>& trusted);
bool among(const std::vector<policy::Prefix>& prefixes, const policy::IpAddress& address);

// Appends `for=192.0.2.1`, or `for="[2001:db8::1]"`.
void append_for(const policy::IpAddress& address, std::string& out);

}  // namespace sluice::gateway::http
