#include "policy/authority.h"

namespace sluice::policy {

std::string_view to_string(AuthorityVerdict verdict) {
  switch (verdict) {
    case AuthorityVerdict::verified:
      return "verified";
    case AuthorityVerdict::mismatch:
      return "mismatch";
    case AuthorityVerdict::no_name:
      return "no_name";
    case AuthorityVerdict::unresolved:
      return "unresolved";
  }
  return "";
}

std::optional<AuthorityVerdict> judge(const AuthorityClaim& claim) {
  if (claim.host.empty()) return AuthorityVerdict::no_name;
  if (claim.port && *claim.port != claim.destination.port) return AuthorityVerdict::mismatch;
  std::string_view literal = claim.host;
  if (literal.starts_with('[')) literal = literal.substr(1, literal.size() - 2);
  const auto address = IpAddress::parse(literal);
  if (!address) return std::nullopt;
  return *address == claim.destination.address ? AuthorityVerdict::verified
                                               : AuthorityVerdict::mismatch;
}

bool authority_matters(const Listener& listener, Way way, bool by_name) {
  return by_name && listener.verify_authority != VerifyAuthority::none &&
         (way == Way::forward || way == Way::output);
}

}  // namespace sluice::policy
