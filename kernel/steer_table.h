// Compiles what `intercept` claims into the tables that steer.bpf.c reads. Pure: no system call.
//
// Most specific wins: longer destination prefix, then exact port, narrower range, any port, then
// the policy's order. A destination under `except` is a hole in that entry alone. The node's own
// addresses, and everything that a local entry names, belong to local entries only; on own
// addresses protected peers, and host_ports unless the entry takes over, are left to the host.
// Entries of steering tproxy hold their places against less specific ones and get no segment.
// Forwarded connections from and to protected peers are nobody's: nftables passes them by as well,
// but the programs at TC know this table alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "kernel/abi_steer.h"
#include "kernel/keeper.h"
#include "kernel/node_view.h"
#include "kernel/plan.h"

namespace sluice::kernel {

struct SteerTable {
  struct Destination {
    std::uint8_t side;  // sluice_steer_side
    std::uint16_t source_class;
    Prefix prefix;
    sluice_steer_ports ports;
  };
  struct Source {
    Prefix prefix;
    std::uint16_t source_class;
  };
  struct NamedInterface {
    unsigned index;
    std::uint8_t side;
  };
  std::vector<Source> sources;
  std::vector<NamedInterface> interfaces;
  std::vector<Destination> destinations;
  std::vector<sluice_steer_segment> segments;  // their `exit` counts from 0 in `exits`
  struct Exit {
    std::chrono::milliseconds lease{};
    bool closed = true;
    bool block_quic = false;
    auto operator<=>(const Exit&) const = default;
  };
  std::vector<Exit> exits;  // at most SLUICE_STEER_MAX_EXITS
};

using GroupOf = std::function<std::uint16_t(std::uint32_t listener, WayIn way)>;

inline constexpr std::size_t kMaxSteerEntries = 1U << 20;  // of each of the three tables

// `node`: loopback addresses are added here. Errors: entries that sk_lookup could not tell apart,
// or too many.
Result<SteerTable> compile_steer_table(const Plan& plan, const NodeView& node,
                                       const GroupOf& group_of);

// What the BPF program answers for one packet, by the same tables; nullopt: nobody claims it.
std::optional<std::uint16_t> find_group(const SteerTable& table, std::uint8_t side,
                                        const Prefix& source, const Prefix& destination,
                                        std::uint16_t port);

}  // namespace sluice::kernel
