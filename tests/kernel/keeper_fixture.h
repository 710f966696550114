// Words of tests that drive a whole keeper.
#pragma once

#include <memory>
#include <string>

#include "kernel/keeper.h"
#include "tests/kernel/tcp.h"

namespace sluice::kernel::testing {

std::unique_ptr<Keeper> open_keeper();
// Prepares and commits; fails the test when either is refused.
void put_in_force(Keeper& keeper, const Plan& plan);
// From whichever worker's socket has it; invalid after 5 s.
Fd accept_any(const Keeper& keeper, std::uint32_t listener, WayIn way);
std::uint16_t port_of(int fd);
// Of the metric, and of the first label's value when one is given; -1: there is none.
double sample(const Keeper& keeper, const std::string& name, const std::string& label = "");
// Until the nftables set holds nothing.
void wait_until_gone(const std::string& lease);

}  // namespace sluice::kernel::testing
