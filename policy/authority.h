// `verify_authority`: whether the name that a client gives (Host, SNI) belongs to the address that
// it has dialled. A name proves nothing about an address (CVE-2009-0801): whoever may reach any
// address could otherwise claim to go where only a name is allowed, or be given what is meant for
// that name. Pure; what names resolve to is the gateway's to ask.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "policy/address.h"
#include "policy/config/listeners.h"
#include "policy/snapshot.h"

namespace sluice::policy {

enum class AuthorityVerdict : std::uint8_t {
  verified,
  mismatch,    // the name resolves to other addresses, to none, or names another port
  no_name,     // there is none, and one is needed
  unresolved,  // nobody could say, now or before
};
inline constexpr std::size_t kAuthorityVerdicts = 4;
std::string_view to_string(AuthorityVerdict verdict);

// What a client claims: where it has dialled, and the name that it gave.
struct AuthorityClaim {
  std::string_view host;              // as normalise_host() returns it; "": none
  std::optional<std::uint16_t> port;  // where it names one
  SocketAddress destination;
};

// Without asking anybody; nullopt: the name has to be resolved, and destination.address be among
// what it stands for.
std::optional<AuthorityVerdict> judge(const AuthorityClaim& claim);

// Only connections that were on their way elsewhere, and only where the name decides: `by_name` is
// CompiledRoute's, or Snapshot::fallback_by_name().
bool authority_matters(const Listener& listener, Way way, bool by_name);

}  // namespace sluice::policy
