// Compiles what `intercept` claims into the tables that steer.bpf.c reads. Pure: no system call.
//
// Most specific wins: longer destination prefix, then exact port, narrower range, any port, then
// the policy's order. A destination under `except` is a hole in that entry alone. The node's own
// addresses, and everything that a local entry names, belong to local entries only; on own
// addresses host_ports and protected peers are left to the host.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "kernel/abi_steer.h"
#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

struct SteerTable {
  struct Destination {
    sluice_steer_side side;
    std::uint16_t source_class;
    Prefix prefix;
    sluice_steer_ports ports;
  };
  struct Source {
    Prefix prefix;
    std::uint16_t source_class;
  };
  std::vector<Source> sources;
  std::vector<Destination> destinations;
  std::vector<sluice_steer_segment> segments;
};

using GroupOf = std::function<std::uint16_t(std::uint32_t listener, WayIn way)>;

inline constexpr std::size_t kMaxSteerEntries = 1U << 20;  // of each of the three tables

// `own_addresses`: host prefixes of every interface; loopback is added here. Errors: entries that
// sk_lookup could not tell apart, or too many.
Result<SteerTable> compile_steer_table(const Plan& plan, const std::vector<Prefix>& own_addresses,
                                       const GroupOf& group_of);

// What the BPF program answers for one packet, by the same tables; nullopt: nobody claims it.
std::optional<std::uint16_t> find_group(const SteerTable& table, sluice_steer_side side,
                                        const Prefix& source, const Prefix& destination,
                                        std::uint16_t port);

}  // namespace sluice::kernel
