#include "policy/protect.h"

#include <algorithm>

namespace sluice::policy {

bool is_protected(const Protect& protect, const RequestView& request) noexcept {
  return !request.client_claimed && std::ranges::any_of(protect.from, [&](const ProtectFrom& from) {
    return from.interfaces.empty() && from.to_ports.empty() && from.cidr.contains(request.client);
  });
}

}  // namespace sluice::policy
