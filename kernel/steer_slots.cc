#include "kernel/steer_slots.h"

#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <functional>
#include <linux/bpf.h>
#include <netinet/in.h>

#include "kernel/grace_periods.h"
#include "kernel/message.h"
#include "kernel/pins.h"

namespace sluice::kernel {
namespace {

constexpr std::size_t kBatch = 4096;  // larger batches gain nothing

Error map_error(const char* what, const char* map) {
  return {message("steering: {} {}: {}", what, map, std::strerror(errno))};
}

template <typename Key, typename Value>
Result<Descriptor> make_map(bpf_map_type type, std::uint32_t flags, const char* name,
                            const std::vector<Key>& keys, const std::vector<Value>& values) {
  bpf_map_create_opts options{};
  options.sz = sizeof(options);
  options.map_flags = flags;
  Descriptor map(bpf_map_create(type, name, sizeof(Key), sizeof(Value),
                                static_cast<__u32>(std::max<std::size_t>(1, keys.size())),
                                &options));
  if (!map) return std::unexpected(map_error("cannot create", name));
  for (std::size_t at = 0; at < keys.size(); at += kBatch) {
    auto count = static_cast<__u32>(std::min(kBatch, keys.size() - at));
    if (bpf_map_update_batch(map.get(), keys.data() + at, values.data() + at, &count, nullptr) !=
        0) {
      return std::unexpected(map_error("cannot fill", name));
    }
  }
  return map;
}

// An inner map that takes its place in one of maps.
struct Switch {
  int outer;
  const char* name;
  Result<Descriptor> inner;
  Result<void> outcome = {};

  void run(std::uint32_t slot) {
    const int fd = inner->get();
    if (bpf_map_update_elem(outer, &slot, &fd, BPF_ANY) != 0)
      outcome = std::unexpected(map_error("cannot switch", name));
  }
};

Result<Descriptor> sources_map(const SteerTable& table) {
  std::vector<sluice_steer_source_key> keys;
  std::vector<__u32> values;
  for (const auto& source : table.sources) {
    sluice_steer_source_key key{};
    key.prefixlen = source.prefix.length;
    std::memcpy(key.address, source.prefix.address.data(), 16);
    keys.push_back(key);
    values.push_back(source.source_class);
  }
  return make_map(BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, "steer_sources", keys, values);
}

Result<Descriptor> destinations_map(const SteerTable& table) {
  std::vector<sluice_steer_key> keys;
  std::vector<sluice_steer_ports> values;
  for (const auto& destination : table.destinations) {
    sluice_steer_key key{};
    key.prefixlen = SLUICE_STEER_KEY_HEAD_BITS + destination.prefix.length;
    key.protocol = IPPROTO_TCP;
    key.side = destination.side;
    key.source_class = destination.source_class;
    std::memcpy(key.address, destination.prefix.address.data(), 16);
    keys.push_back(key);
    values.push_back(destination.ports);
  }
  return make_map(BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, "steer_dests", keys, values);
}

Result<Descriptor> segments_map(const SteerTable& table, std::uint32_t slot) {
  std::vector<__u32> keys(table.segments.size());
  std::vector<sluice_steer_segment> segments = table.segments;
  for (std::size_t i = 0; i < keys.size(); i++) {
    keys[i] = static_cast<__u32>(i);
    segments[i].exit =
        static_cast<__u8>(segments[i].exit + slot * SLUICE_STEER_MAX_EXITS);  // below 256
  }
  return make_map(BPF_MAP_TYPE_ARRAY, SLUICE_F_INNER_MAP, "steer_segments", keys, segments);
}

Result<void> fill_interfaces(int map, std::uint32_t slot, const SteerTable& table) {
  std::vector<sluice_steer_interface> gone;
  sluice_steer_interface key{};
  for (const sluice_steer_interface* from = nullptr; bpf_map_get_next_key(map, from, &key) == 0;
       from = &key) {
    if (key.slot == slot) gone.push_back(key);
  }
  for (const auto& old : gone)
    bpf_map_delete_elem(map, &old);
  for (const auto& interface : table.interfaces) {
    const sluice_steer_interface named{interface.index, slot};
    const __u32 side = interface.side;
    if (bpf_map_update_elem(map, &named, &side, BPF_ANY) != 0)
      return std::unexpected(map_error("cannot fill", "steer_ifaces"));
  }
  return {};
}

}  // namespace

Result<void> fill_steer_slot(const SteerMaps& maps, std::uint32_t slot, const SteerTable& table) {
  if (auto ok = fill_interfaces(maps.interfaces, slot, table); !ok) return ok;
  std::array switches{Switch{maps.sources, "steer_sources", sources_map(table)},
                      Switch{maps.destinations, "steer_dests", destinations_map(table)},
                      Switch{maps.segments, "steer_segments", segments_map(table, slot)}};
  std::vector<std::function<void()>> updates;
  for (Switch& one : switches) {
    if (!one.inner) return std::unexpected(one.inner.error());
    updates.emplace_back([&one, slot] { one.run(slot); });
  }
  wait_together(updates);
  for (const Switch& one : switches)
    if (!one.outcome) return one.outcome;
  return {};
}

}  // namespace sluice::kernel
