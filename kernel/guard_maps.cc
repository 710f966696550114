#include "kernel/guard_maps.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <guard.skel.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "kernel/message.h"

namespace sluice::kernel {
namespace {

Error failed(const std::string& what) {
  return Error{message("{}: {}", what, std::strerror(errno))};
}

template <typename Key, typename Value>
Result<void> fill(int map, std::vector<Key>& keys, std::vector<Value>& values) {
  constexpr std::size_t kBatch = 4096;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  for (std::size_t at = 0; at < keys.size(); at += kBatch) {
    auto count = static_cast<std::uint32_t>(std::min(kBatch, keys.size() - at));
    if (bpf_map_update_batch(map, &keys[at], &values[at], &count, &options) != 0) {
      return std::unexpected(failed("cannot fill a table of the guard"));
    }
  }
  return {};
}

template <typename Key>
Result<Descriptor> make_trie(const char* name,
                             const std::vector<std::pair<Key, std::uint64_t>>& entries) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
  const auto size = static_cast<std::uint32_t>(std::max<std::size_t>(entries.size(), 1));
  Descriptor trie(bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, name, sizeof(Key), sizeof(std::uint64_t),
                                 size, &options));
  if (!trie) return std::unexpected(failed(message("cannot create a table of {} prefixes", size)));
  std::vector<Key> keys;
  std::vector<std::uint64_t> values;
  for (const auto& [key, value] : entries) {
    keys.push_back(key);
    values.push_back(value);
  }
  if (auto ok = fill(trie.get(), keys, values); !ok) return std::unexpected(ok.error());
  return trie;
}

// All tries of one slot and IP version in one batch: one grace period.
template <typename Key>
Result<void> place_tries(
    int outer, std::uint32_t slot, const char* name,
    const std::array<std::vector<std::pair<Key, std::uint64_t>>, SLUICE_GUARD_TRIES>& tries) {
  std::array<Descriptor, SLUICE_GUARD_TRIES> made;
  std::vector<std::uint32_t> indexes;
  std::vector<int> fds;
  for (std::uint32_t which = 0; which < SLUICE_GUARD_TRIES; ++which) {
    auto trie = make_trie(name, tries[which]);
    if (!trie) return std::unexpected(trie.error());
    made[which] = std::move(*trie);
    indexes.push_back(slot * SLUICE_GUARD_TRIES + which);
    fds.push_back(made[which].get());
  }
  return fill(outer, indexes, fds);
}

Result<void> place_classes(int outer, std::uint32_t slot, std::vector<sluice_guard_class> classes) {
  if (classes.empty()) classes.emplace_back();
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = SLUICE_F_INNER_MAP);
  const auto size = static_cast<std::uint32_t>(classes.size());
  const Descriptor map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "guard_classes", sizeof(std::uint32_t),
                                      sizeof(sluice_guard_class), size, &options));
  if (!map) return std::unexpected(failed(message("cannot create a table of {} classes", size)));
  std::vector<std::uint32_t> keys(size);
  for (std::uint32_t i = 0; i < size; ++i)
    keys[i] = i;
  if (auto ok = fill(map.get(), keys, classes); !ok) return ok;
  const int fd = map.get();
  if (bpf_map_update_elem(outer, &slot, &fd, BPF_ANY) == 0) return {};
  return std::unexpected(failed("cannot put the classes in place"));
}

Error load_error(int error) {
  std::string hint;
  if (error == EPERM) hint = "; CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed";
  return Error{message("the kernel refuses the guard's program: {}{}", std::strerror(error), hint)};
}

}  // namespace

template <typename T>
bool MappedMap<T>::map(int fd, std::size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return false;
  data_ = static_cast<T*>(at);
  bytes_ = bytes;
  return true;
}

template <typename T>
void MappedMap<T>::unmap() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

template class MappedMap<sluice_guard_state>;
template class MappedMap<sluice_guard_port>;

void GuardMaps::CloseSkeleton::operator()(guard_bpf* skeleton) const {
  guard_bpf__destroy(skeleton);
}
GuardMaps::GuardMaps(GuardMaps&&) noexcept = default;
GuardMaps::~GuardMaps() = default;

int GuardMaps::program_fd() const {
  return bpf_program__fd(skeleton_->progs.guard_ingress);
}

Result<GuardMaps> GuardMaps::open(const PinDirectory& pins) {
  GuardMaps maps;
  maps.skeleton_.reset(guard_bpf__open());
  if (!maps.skeleton_) return std::unexpected(load_error(errno));
  std::vector<bpf_map*> fresh;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, maps.skeleton_->obj) {
    const Descriptor pinned = pins.get(bpf_map__name(map));
    if (!pinned) {
      fresh.push_back(map);
    } else if (bpf_map__reuse_fd(map, pinned.get()) != 0) {
      return std::unexpected(failed("cannot take over " + pins.path(bpf_map__name(map))));
    }
  }
  if (const int error = guard_bpf__load(maps.skeleton_.get()); error != 0)
    return std::unexpected(load_error(-error));
  for (bpf_map* made : fresh) {
    if (auto ok = pins.pin(bpf_map__fd(made), bpf_map__name(made)); !ok)
      return std::unexpected(ok.error());
  }
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  constexpr std::size_t kPortBytes = SLUICE_SLOTS * SLUICE_GUARD_PORTS * sizeof(sluice_guard_port);
  if (!maps.state_.map(bpf_map__fd(maps.skeleton_->maps.guard_state), page) ||
      !maps.ports_.map(bpf_map__fd(maps.skeleton_->maps.guard_ports), kPortBytes)) {
    return std::unexpected(failed("cannot map the guard's tables"));
  }
  return maps;
}

std::uint32_t GuardMaps::slot_in_force() const {
  return std::atomic_ref(state_.get()->epoch).load(std::memory_order_acquire) & 1U;
}

// An update of an outer map returns when no program runs that began before it. Afterwards, nobody
// reads the slot that the last switch left.
Result<void> GuardMaps::wait_for_packets() const {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = SLUICE_F_INNER_MAP);
  const Descriptor empty(bpf_map_create(BPF_MAP_TYPE_ARRAY, "guard_classes", sizeof(std::uint32_t),
                                        sizeof(sluice_guard_class), 1, &options));
  const std::uint32_t slot = other_slot();
  const int fd = empty.get();
  if (empty &&
      bpf_map_update_elem(bpf_map__fd(skeleton_->maps.guard_classes), &slot, &fd, BPF_ANY) == 0)
    return {};
  return std::unexpected(failed("cannot empty the guard's other slot"));
}

Result<void> GuardMaps::fill_other_slot(const GuardTables& tables) {
  const std::uint32_t slot = other_slot();
  const auto& maps = skeleton_->maps;
  if (auto ok = wait_for_packets(); !ok) return ok;
  if (bpf_map_update_elem(bpf_map__fd(maps.guard_slots), &slot, &tables.slot, BPF_ANY) != 0) {
    return std::unexpected(failed("cannot write the guard's slot"));
  }
  std::ranges::copy(tables.ports, ports_.get() + std::size_t{slot} * SLUICE_GUARD_PORTS);
  if (auto ok = place_tries(bpf_map__fd(maps.guard_tries4), slot, "guard_trie4", tables.tries4);
      !ok)
    return ok;
  if (auto ok = place_tries(bpf_map__fd(maps.guard_tries6), slot, "guard_trie6", tables.tries6);
      !ok)
    return ok;
  return place_classes(bpf_map__fd(maps.guard_classes), slot, tables.classes);
}

void GuardMaps::switch_slots(std::uint64_t generation) {
  sluice_guard_state* state = state_.get();
  std::atomic_ref(state->generation).store(generation, std::memory_order_relaxed);
  std::atomic_ref(state->epoch).fetch_add(1, std::memory_order_release);
}

Result<void> GuardMaps::set_interfaces(
    std::uint32_t slot, const std::vector<std::pair<unsigned, std::uint64_t>>& groups) {
  const int map = bpf_map__fd(skeleton_->maps.guard_ifaces);
  std::vector<sluice_guard_interface_key> stale;
  sluice_guard_interface_key key{};
  for (const void* at = nullptr; bpf_map_get_next_key(map, at, &key) == 0; at = &key) {
    const bool kept =
        std::ranges::any_of(groups, [&](const auto& entry) { return entry.first == key.index; });
    if (key.slot == slot && !kept) stale.push_back(key);
  }
  for (const auto& gone : stale)
    bpf_map_delete_elem(map, &gone);
  for (const auto& [index, mask] : groups) {
    const sluice_guard_interface_key added{index, slot};
    if (bpf_map_update_elem(map, &added, &mask, BPF_ANY) != 0) {
      return std::unexpected(failed("cannot note the interfaces of protect"));
    }
  }
  return {};
}

}  // namespace sluice::kernel
