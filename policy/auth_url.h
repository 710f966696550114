// http and https URLs of services that the gateway itself asks.
#pragma once

#include <optional>
#include <string_view>

#include "policy/address.h"
#include "policy/config/auth.h"
#include "policy/config/upstreams.h"

namespace sluice::policy {

// "http://host:port/path?query"; no user, no fragment. nullopt: not one.
std::optional<AuthUrl> parse_auth_url(std::string_view text);

// The address that it names; nullopt: a name.
std::optional<SocketAddress> address_of(const AuthUrl& url);

// The origin that it names, by address or by name.
Endpoint endpoint_of(const AuthUrl& url);

}  // namespace sluice::policy
