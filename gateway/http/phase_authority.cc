// Phase authority, of caught connections: does the name that the client gives belong to the address
// that it has dialled? Before anything that depends on the name is done.
#include "gateway/http/exchange.h"
#include "gateway/original_destination.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

// True: it goes on here; else on_authority() does, or it is refused.
bool Exchange::authority_holds(bool by_name) {
  if (!policy::authority_matters(listener().policy(), policy_way(listener().way()), by_name))
    return true;
  const auto dialled = local_address(client_->client().transport->fd());
  if (!dialled) return true;
  const auto verdict = worker_.authority_names().check({host_, request_.port(), *dialled},
                                                       authority_waiter_, worker_.wheel().now());
  if (verdict) return authority_judged(*verdict);
  state_ = State::verifying;
  client_->watch();
  return false;
}

void Exchange::on_authority(policy::AuthorityVerdict verdict) {
  state_ = State::head;
  if (authority_judged(verdict)) routed();
}

// False: refused.
bool Exchange::authority_judged(policy::AuthorityVerdict verdict) {
  using enum policy::AuthorityVerdict;
  worker_.metrics().authority_judged(listener().slot(), static_cast<std::size_t>(verdict));
  if (verdict == verified) return true;
  if (listener().policy().verify_authority == policy::VerifyAuthority::audit) {
    reason_.assign("audit: authority ").append(policy::to_string(verdict));
    return true;
  }
  if (verdict == unresolved) {
    refuse_after(503, "authority: the name cannot be resolved now", 1);
  } else {
    refuse(421, verdict == no_name ? "authority: no name is given"
                                   : "authority: the name is not of the address that was dialled");
  }
  return false;
}

}  // namespace sluice::gateway::http
