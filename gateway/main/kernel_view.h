// What the keeper's side knows beyond the policy, as `explain` wants it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "policy/explain.h"

namespace sluice::control {

struct KernelView {
  std::vector<policy::LiveState::Ban> bans;
  std::vector<policy::IpAddress> addresses;
  std::vector<policy::LiveState::BuiltIn> built_in;
  std::vector<policy::LiveState::Steering> steering;
  std::vector<policy::IpAddress> vendors;
  std::optional<std::vector<std::string>> auto_interfaces;

  policy::LiveState state() const {  // views of this object
    policy::LiveState live;
    live.bans = bans;
    live.node_addresses = addresses;
    live.built_in = built_in;
    live.steering = steering;
    if (auto_interfaces) live.auto_interfaces = *auto_interfaces;
    live.vendors = std::span<const policy::IpAddress>(vendors);
    return live;
  }
};

// `config`: of the policy that `keeper` has in force.
KernelView look_at_kernel(const kernel::Keeper& keeper, const policy::Config& config);

}  // namespace sluice::control
