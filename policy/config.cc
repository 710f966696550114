#include "policy/config.h"

#include <algorithm>

#include "policy/express.h"

namespace sluice::policy {

bool Config::needs_kernel() const {
  const bool intercepts =
      !intercept.local.empty() || !intercept.forward.empty() || !intercept.output.empty();
  const bool client_source = std::ranges::any_of(upstreams, [](const Upstream& upstream) {
    return upstream.source_address == SourceAddress::client;
  });
  const bool bans_in_kernel = std::ranges::any_of(
      bans.rules, [](const BanRule& rule) {
        return rule.mode == BanMode::enforce && rule.action == BanAction::drop;
      });
  return intercepts || client_source || bans_in_kernel || upstreams_in_lane(*this) ||
         guard.has_value() || (ai && ai->bypass);
}

}  // namespace sluice::policy
