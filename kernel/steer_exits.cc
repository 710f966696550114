#include "kernel/steer_exits.h"

#include <bpf/bpf.h>
#include <chrono>

namespace sluice::kernel {

void SteerExits::write(std::uint32_t slot, const std::vector<SteerTable::Exit>& exits,
                       bool held) const {
  // steady_clock is CLOCK_MONOTONIC, as bpf_ktime_get_ns() is.
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (std::size_t index = 0; index < exits.size(); ++index) {
    const auto until =
        held
            ? std::chrono::duration_cast<std::chrono::nanoseconds>(now + exits[index].lease).count()
            : 0;
    const sluice_steer_exit value{.until = static_cast<__u64>(until),
                                  .closed = exits[index].closed,
                                  .block_quic = exits[index].block_quic,
                                  .reserved = {}};
    const auto key = static_cast<__u32>(slot * SLUICE_STEER_MAX_EXITS + index);
    bpf_map_update_elem(map_, &key, &value, BPF_ANY);
  }
}

void SteerExits::fill(std::uint32_t slot, const std::vector<SteerTable::Exit>& exits) const {
  // A segment of another steering says 0: past it, whatever an earlier plan had there.
  write(slot, exits.empty() ? std::vector<SteerTable::Exit>{{.closed = false}} : exits, false);
}

void SteerExits::renew(std::uint32_t slot, const std::vector<SteerTable::Exit>& exits) const {
  write(slot, exits, true);
}

}  // namespace sluice::kernel
