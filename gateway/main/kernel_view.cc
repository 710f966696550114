#include "gateway/main/kernel_view.h"

#include <algorithm>

#include "gateway/main/kernel_plan.h"
#include "kernel/builtin_protect.h"
#include "kernel/interfaces.h"
#include "kernel/named_upstreams.h"
#include "kernel/node_view.h"
#include "kernel/steer_choice.h"

namespace sluice::control {
namespace {

std::string what_is(const kernel::Protect& protect) {
  if (protect.to_ports.empty()) return "a default gateway of this node";
  if (protect.to_ports.front().first == 53) return "a resolver of this node (/etc/resolv.conf)";
  return "the Kubernetes API server";
}

std::vector<policy::PortRange> from_kernel_ports(const std::vector<kernel::PortRange>& ranges) {
  std::vector<policy::PortRange> out;
  for (const auto& range : ranges)
    out.push_back({range.first, range.last});
  return out;
}

// The plan lists local, forward and output entries in the order of the policy.
std::vector<policy::LiveState::Steering> steering_of(const kernel::Plan& plan,
                                                     const policy::InterceptConfig& intercept) {
  std::vector<policy::LiveState::Steering> out;
  std::size_t next = 0;
  for (const auto* entries : {&intercept.local, &intercept.forward, &intercept.output}) {
    for (const policy::Intercept& entry : *entries) {
      if (next == plan.intercepts.size()) return out;
      const kernel::SteerBy by = plan.intercepts[next++].steering;
      out.push_back({entry.where, by == kernel::SteerBy::tproxy ? "tproxy"
                                  : by == kernel::SteerBy::tc   ? "a program at TC ingress"
                                                                : "sk_lookup"});
    }
  }
  return out;
}

// What the keeper runs without sk_lookup says so in its samples.
bool falls_back(const kernel::Keeper& keeper) {
  const auto samples = keeper.samples();
  return std::ranges::any_of(samples, [](const kernel::Sample& sample) {
    return sample.name == "sluice_interception_fallback" && sample.value > 0;
  });
}

}  // namespace

KernelView look_at_kernel(const kernel::Keeper& keeper, const policy::Config& config) {
  KernelView view;
  for (const auto& ban : keeper.bans()) {
    view.bans.push_back({from_kernel(ban.source),
                         ban.reason + ", " + std::to_string(ban.left.count()) + " s left, " +
                             std::to_string(ban.packets) + " packets dropped"});
  }
  if (const auto node = kernel::read_node_view()) {
    for (const auto& address : node->addresses)
      view.addresses.push_back(from_kernel(address).address);
  }
  if (const auto network = kernel::read_node_network()) {
    view.auto_interfaces.emplace();
    for (const auto& interface : kernel::select_interfaces(*network, {}))
      view.auto_interfaces->push_back(interface.name);
  }
  for (const auto& protect : kernel::builtin_protect()) {
    view.built_in.push_back(
        {from_kernel(protect.peer), from_kernel_ports(protect.to_ports), what_is(protect)});
  }
  for (const auto& vendor : kernel::vendors_followed(keeper))
    view.vendors.push_back(from_kernel(vendor).address);
  kernel::Plan plan = make_kernel_plan(config, 1, 1);
  if (kernel::choose_steering(plan, falls_back(keeper) ? "none here" : ""))
    view.steering = steering_of(plan, config.intercept);
  return view;
}

}  // namespace sluice::control
