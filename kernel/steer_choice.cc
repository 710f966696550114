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

// Its program sees every packet that comes in by an interface: it cannot leave some of the entries
// that claim it to nftables.
Result<void> choose_tc(Plan& plan, const std::string& no_sk_lookup) {
  const auto first = std::ranges::find(plan.intercepts, SteerBy::tc, &Intercept::steering);
  if (first == plan.intercepts.end()) return {};
  if (!no_sk_lookup.empty())
    return std::unexpected(
        Error{message("{}: steering tc is not possible here: {}", first->where, no_sk_lookup)});
  const std::string where = first->where;
  for (auto& entry : plan.intercepts) {
    if (entry.way != WayIn::forward) {
      if (entry.steering != SteerBy::tc) continue;
      return std::unexpected(
          Error{message("{}: steering tc is for intercept.forward; use `auto` for way {}",
                        entry.where, to_text(entry.way))});
    }
    if (entry.steering == SteerBy::automatic) entry.steering = SteerBy::tc;
    if (entry.steering == SteerBy::tc) continue;
    return std::unexpected(
        Error{message("{} and {}: steering tc is for all of intercept.forward or for none of it",
                      where, entry.where)});
  }
  return {};
}

}  // namespace

Result<void> choose_steering(Plan& plan, const std::string& no_sk_lookup) {
  if (auto ok = choose_tc(plan, no_sk_lookup); !ok) return ok;
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

Plan without_tc(Plan plan) {
  std::erase_if(plan.intercepts,
                [](const Intercept& entry) { return entry.steering == SteerBy::tc; });
  return plan;
}

}  // namespace sluice::kernel
