#include "policy/config.h"

namespace sluice::policy {

bool Config::needs_kernel() const {
  return guard.has_value() || !intercept.local.empty() || !intercept.forward.empty() || !intercept.output.empty();
}

}  // namespace sluice::policy
