// Which group number belongs to which listener and way. Kept in a pinned map, so that a successor
// finds the same numbers, hence sockets and counters, again.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernel/abi_steer.h"
#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

class SteerGroups {
 public:
  static SteerGroups read(int map);
  void write(int map) const;

  // The pair's number, a new one if it has none; nullopt when all SLUICE_STEER_MAX_GROUPS are in
  // use.
  std::optional<std::uint16_t> assign(const std::string& listener, WayIn way);
  std::optional<std::uint16_t> find(const std::string& listener, WayIn way) const;
  // Gives up every number that is not in `kept`; returns those given up.
  std::vector<std::uint16_t> keep_only(const std::vector<std::uint16_t>& kept);
  std::size_t used() const;

 private:
  std::array<sluice_steer_group, SLUICE_STEER_MAX_GROUPS> groups_{};
};

}  // namespace sluice::kernel
