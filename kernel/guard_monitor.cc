#include "kernel/guard_monitor.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>

#include "kernel/abi_guard.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr std::uint32_t kBatch = 1024;

std::size_t possible_cpus() {
  static const int cpus = libbpf_num_possible_cpus();
  return cpus > 0 ? static_cast<std::size_t>(cpus) : 1;
}

Seen to_seen(const sluice_guard_service_key& key, const sluice_guard_seen* per_cpu) {
  Seen out;
  std::memcpy(out.address.address.data(), &key.high, 8);
  std::memcpy(out.address.address.data() + 8, &key.low, 8);
  out.address.v4 = covers(all_of_v4(), {out.address.address, 128, true});
  // A source of IPv6 has no port, and only the /64.
  const bool network = !out.address.v4 && key.port == 0 && key.low == 0;
  out.address.length = network ? 64 : 128;
  out.port = static_cast<std::uint16_t>(key.port);
  for (std::size_t cpu = 0; cpu < possible_cpus(); ++cpu) {
    out.packets += per_cpu[cpu].packets;
    out.bytes += per_cpu[cpu].bytes;
    out.connections += per_cpu[cpu].connections;
    out.resets += per_cpu[cpu].resets;
    out.requests += per_cpu[cpu].requests;
  }
  return out;
}

}  // namespace

std::vector<Seen> read_seen(int table) {
  std::vector<Seen> out;
  if (table < 0) return out;
  std::vector<sluice_guard_service_key> keys(kBatch);
  std::vector<sluice_guard_seen> values(kBatch * possible_cpus());
  std::uint64_t cursor = 0;
  for (bool first = true;; first = false) {
    std::uint32_t count = kBatch;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int error = bpf_map_lookup_batch(table, first ? nullptr : &cursor, &cursor, keys.data(),
                                           values.data(), &count, &options);
    if (error != 0 && errno != ENOENT) return out;
    for (std::uint32_t i = 0; i < count; ++i)
      out.push_back(to_seen(keys[i], &values[i * possible_cpus()]));
    if (error != 0) return out;
  }
}

}  // namespace sluice::kernel
