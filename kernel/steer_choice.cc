#include "kernel/steer_choice.h"

#include <algorithm>

#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

const Intercept* partner_by(const Plan& plan, const Intercept& entry, SteerBy steering) {
  const auto found =
      std::find_if(plan.intercepts.begin(), plan.intercepts.end(), [&](const Intercept& other) {
        return other.listener == entry.listener && other.way == entry.way &&
               other.steering == steering;
      });
  return found == plan.intercepts.end() ? nullptr : &*found;
}

}  // namespace

Result<void> choose_steering(Plan& plan, const std::string& no_sk_lookup) {
  for (const auto& entry : plan.intercepts) {
    if (entry.steering != SteerBy::sk_lookup) continue;
    if (!no_sk_lookup.empty())
      return std::unexpected(
          Error{message("{}: steering sk_lookup is not possible here: {}; use `auto` or `tproxy`",
                        entry.where, no_sk_lookup)});
    if (const auto* other = partner_by(plan, entry, SteerBy::tproxy))
      return std::unexpected(Error{message(
          "{} and {}: one listener ({}) and way ({}) cannot have both steering sk_lookup and "
          "tproxy; use one of them, or another listener",
          entry.where, other->where, plan.listeners[entry.listener].name, to_text(entry.way))});
  }
  for (auto& entry : plan.intercepts) {
    if (entry.steering != SteerBy::automatic) continue;
    const bool tproxy = !no_sk_lookup.empty() || partner_by(plan, entry, SteerBy::tproxy);
    entry.steering = tproxy ? SteerBy::tproxy : SteerBy::sk_lookup;
  }
  return {};
}

bool uses(const Plan& plan, SteerBy steering) {
  return std::any_of(plan.intercepts.begin(), plan.intercepts.end(),
                     [&](const Intercept& entry) { return entry.steering == steering; });
}

}  // namespace sluice::kernel
