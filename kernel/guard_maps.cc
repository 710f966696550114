#include "kernel/guard_maps.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <guard.skel.h>
#include <tuple>
#include <unistd.h>
#include <unordered_set>

#include "kernel/guard_bans.h"
#include "kernel/guard_placing.h"
#include "kernel/message.h"
#include "kernel/uninterrupted.h"

namespace sluice::kernel {

namespace {

Error failed(const std::string& what) {
  return Error{message("{}: {}", what, std::strerror(errno))};
}

std::uint32_t words_index(std::uint32_t slot, std::uint32_t field, std::uint32_t kind) {
  return (slot * SLUICE_GUARD_FIELDS + field) * SLUICE_GUARD_WORDS_KINDS + kind;
}
std::uint32_t lines_index(std::uint32_t slot, std::uint32_t field, std::uint32_t kind) {
  return (slot * SLUICE_GUARD_FIELDS + field) * SLUICE_GUARD_LINES_KINDS + kind;
}

// A table of one value, or, if it is not needed, none.
void put_whole(int outer, std::uint32_t index, const char* name, const char* shown,
               std::size_t bytes, bool needed, const std::function<void(void*)>& write,
               Placing& to) {
  if (needed) {
    to.put(outer, index, shown, make_mapped_array(name, bytes, 1, true, write));
  } else {
    to.take_away(outer, index);
  }
}

// Entries of `slot` become `entries`; those that stay are never missing.
template <typename Key, typename Value>
Result<void> replace(int map, std::uint32_t slot, const std::vector<std::pair<Key, Value>>& entries,
                     const char* what) {
  const auto bytes = [](const Key& key) {
    return std::string_view(reinterpret_cast<const char*>(&key), sizeof(key));
  };
  std::unordered_set<std::string_view> kept;
  for (const auto& entry : entries)
    kept.insert(bytes(entry.first));
  std::vector<Key> stale;
  Key key{};
  for (const void* at = nullptr; bpf_map_get_next_key(map, at, &key) == 0; at = &key) {
    if (key.slot == slot && !kept.contains(bytes(key))) stale.push_back(key);
  }
  for (const Key& gone : stale)
    bpf_map_delete_elem(map, &gone);
  for (const auto& [added, value] : entries) {
    if (bpf_map_update_elem(map, &added, &value, BPF_ANY) != 0)
      return std::unexpected(failed(message("cannot note {}", what)));
  }
  return {};
}

// The kernel has no call for it: the keys are walked, in batches where it can.
double count_entries(int map, std::size_t key_size, std::size_t value_size) {
  constexpr std::uint32_t kBatch = 4096;
  std::vector<char> keys(kBatch * key_size);
  std::vector<char> values(kBatch * value_size);
  std::uint64_t cursor = 0;
  double out = 0;
  for (bool first = true;; first = false) {
    std::uint32_t count = kBatch;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int error = bpf_map_lookup_batch(map, first ? nullptr : &cursor, &cursor, keys.data(),
                                           values.data(), &count, &options);
    if (error != 0 && errno != ENOENT) return out;
    out += count;
    if (error != 0) return out;
  }
}

std::vector<MapUse> use_of(const GuardTables& tables) {
  const auto sum = [&](auto member) {
    double out = 0;
    for (const PrefixTables& prefixes : tables.prefixes)
      out += static_cast<double>(member(prefixes));
    return out;
  };
  return {
      {"guard_rules", static_cast<double>(tables.slot.rules), SLUICE_GUARD_MAX_RULES, {}},
      {"guard_classes", static_cast<double>(tables.classes.size()), SLUICE_GUARD_MAX_CLASSES, {}},
      {"guard_prefixes4", sum([](const PrefixTables& p) { return p.prefixes4; }), 0, {}},
      // What IPv4 prefixes take: a /24 that one touches, in either field.
      {"guard_leaves4",
       sum([](const PrefixTables& p) { return p.leaves.size(); }),
       static_cast<double>(SLUICE_GUARD_FIELDS << 24),
       {}},
      {"guard_protect",
       static_cast<double>(tables.protect4.size() + tables.protect6.size()),
       0,
       {}},
      {"guard_prefixes6",
       sum([](const PrefixTables& p) { return p.prefixes6; }),
       sum([](const PrefixTables& p) { return p.buckets.size() * 3; }),
       {}},
  };
}

Error load_error(int error) {
  std::string hint;
  if (error == EPERM) hint = "; CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed";
  return Error{message("the kernel refuses the guard's program: {}{}", std::strerror(error), hint)};
}

}  // namespace

void GuardMaps::CloseSkeleton::operator()(guard_bpf* skeleton) const {
  guard_bpf__destroy(skeleton);
}
GuardMaps::GuardMaps(GuardMaps&&) noexcept = default;
GuardMaps::~GuardMaps() = default;

Result<Descriptor> GuardMaps::load(GuardEntry entry) const {
  const std::unique_ptr<guard_bpf, CloseSkeleton> again(guard_bpf__open());
  if (!again) return std::unexpected(load_error(errno));
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, again->obj) {
    if (bpf_map__is_internal(map)) continue;  // constants, which each program may have of its own
    const bpf_map* ours = bpf_object__find_map_by_name(skeleton_->obj, bpf_map__name(map));
    if (bpf_map__reuse_fd(map, bpf_map__fd(ours)) != 0)
      return std::unexpected(failed("cannot share the guard's maps"));
  }
  const std::array<bpf_program*, 3> programs{again->progs.guard_ingress, again->progs.guard_egress,
                                             again->progs.guard_xdp};
  for (bpf_program* program : programs)
    bpf_program__set_autoload(program, program == programs[static_cast<std::size_t>(entry)]);
  const Uninterrupted loading;
  if (const int error = guard_bpf__load(again.get()); error != 0)
    return std::unexpected(load_error(-error));
  Descriptor out(
      ::fcntl(bpf_program__fd(programs[static_cast<std::size_t>(entry)]), F_DUPFD_CLOEXEC, 3));
  if (!out) return std::unexpected(failed("cannot keep the guard's program"));
  return out;
}

Result<GuardMaps> GuardMaps::open(const PinDirectory& pins) {
  GuardMaps maps(pins);
  maps.skeleton_.reset(guard_bpf__open());
  if (!maps.skeleton_) return std::unexpected(load_error(errno));
  std::vector<bpf_map*> fresh;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, maps.skeleton_->obj) {
    if (bpf_map__is_internal(map)) continue;
    const Descriptor pinned = pins.get(bpf_map__name(map));
    if (!pinned) {
      fresh.push_back(map);
    } else if (bpf_map__reuse_fd(map, pinned.get()) != 0) {
      return std::unexpected(failed("cannot take over " + pins.path(bpf_map__name(map))));
    }
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, maps.skeleton_->obj) {
    bpf_program__set_autoload(program, false);
  }
  const Uninterrupted loading;
  if (const int error = guard_bpf__load(maps.skeleton_.get()); error != 0)
    return std::unexpected(load_error(-error));
  for (bpf_map* made : fresh) {
    if (auto ok = pins.pin(bpf_map__fd(made), bpf_map__name(made)); !ok)
      return std::unexpected(ok.error());
  }
  for (const LazyTable& kind : kLazyTables)
    maps.tables_[kind.table] = pins.get(kind.pin);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  constexpr std::size_t kPortBytes = SLUICE_SLOTS * SLUICE_GUARD_PORTS * sizeof(sluice_guard_port);
  if (!maps.state_.map(bpf_map__fd(maps.skeleton_->maps.guard_state), page) ||
      !maps.ports_.map(bpf_map__fd(maps.skeleton_->maps.guard_ports), kPortBytes) ||
      !maps.ban_gate_.map(bpf_map__fd(maps.skeleton_->maps.guard_ban_gate),
                          SLUICE_GUARD_BAN_GATE_WORDS * sizeof(std::uint64_t))) {
    return std::unexpected(failed("cannot map the guard's tables"));
  }
  return maps;
}

std::uint32_t GuardMaps::slot_in_force() const {
  const std::uint64_t epoch = std::atomic_ref(state_.get()->epoch).load(std::memory_order_acquire);
  return (epoch ^ (has_reverted() ? 1U : 0U)) & 1U;
}

bool GuardMaps::revert_armed() const {
  const sluice_guard_state* state = state_.get();
  return state->revert_at != 0 && (state->revert_at & 1) == (state->epoch & 1);
}

// As guard.bpf.c has it.
bool GuardMaps::has_reverted() const {
  return revert_armed() && monotonic_ns() >= state_.get()->revert_at;
}

void GuardMaps::revert_at(std::uint64_t when_ns) {
  const std::uint64_t bit = state_.get()->epoch & 1;
  std::atomic_ref(state_.get()->revert_at)
      .store((when_ns & ~1ULL) | bit, std::memory_order_relaxed);
}

// With the next epoch the mark belongs to another one, and the slot that it names is the one that
// packets go by already, or at once.
void GuardMaps::settle_reversal(bool reverted) {
  sluice_guard_state* state = state_.get();
  if (reverted && revert_armed())
    std::atomic_ref(state->epoch).fetch_add(1, std::memory_order_release);
  std::atomic_ref(state->revert_at).store(0, std::memory_order_release);
}

void GuardMaps::put_prefixes(std::uint32_t slot, const GuardTables& tables, Placing& to) const {
  const auto& maps = skeleton_->maps;
  const int words = bpf_map__fd(maps.guard_words);
  const int lines = bpf_map__fd(maps.guard_lines);
  for (std::uint32_t field = 0; field < SLUICE_GUARD_FIELDS; ++field) {
    const PrefixTables& prefixes = tables.prefixes[field];
    for (const auto& [kind, shown, values] :
         {std::tuple{SLUICE_GUARD_LEAVES4, "guard_leaves4", &prefixes.leaves},
          std::tuple{SLUICE_GUARD_RUNS4, "guard_leaves4", &prefixes.runs}})
      to.put(words, words_index(slot, field, kind), shown, make_array("guard_words", *values));
    for (const auto& [kind, shown, values] :
         {std::tuple{SLUICE_GUARD_STARTS4, "guard_leaves4", &prefixes.starts},
          std::tuple{SLUICE_GUARD_BUCKETS6, "guard_prefixes6", &prefixes.buckets}})
      to.put(lines, lines_index(slot, field, kind), shown, make_array("guard_lines", *values));
    const std::uint32_t index = slot * SLUICE_GUARD_FIELDS + field;
    put_whole(
        bpf_map__fd(maps.guard_top4), index, "guard_top4", "guard_leaves4",
        sizeof(sluice_guard_top4), !prefixes.top.empty() || !prefixes.coarse.empty(),
        [&](void* at) {
          auto* out = static_cast<sluice_guard_top4*>(at);
          std::ranges::copy(prefixes.top, out->top);
          std::ranges::copy(prefixes.coarse, out->coarse);
        },
        to);
    put_whole(
        bpf_map__fd(maps.guard_gate6), index, "guard_gate6", "guard_prefixes6",
        sizeof(sluice_guard_gate6), !prefixes.bits.empty(),
        [&](void* at) {
          auto* out = static_cast<sluice_guard_gate6*>(at);
          std::ranges::copy(prefixes.gate, out->gate);
          std::ranges::copy(prefixes.bits, out->bits);
        },
        to);
  }
}

// An update of an outer map returns when no program runs that began before it. So afterwards nobody
// reads the slot that the last switch left.
Result<void> GuardMaps::empty_other_slot() {
  if (other_is_empty_) return {};
  const std::uint32_t slot = other_slot();
  slot_use_[slot].clear();
  Placing empty;
  put_prefixes(slot, {}, empty);
  empty.put(bpf_map__fd(skeleton_->maps.guard_classes), slot, "guard_classes", make_classes({}));
  if (auto ok = empty.place(); !ok) return ok;
  other_is_empty_ = true;
  return {};
}

Result<void> GuardMaps::make_table(const LazyTable& kind) {
  Descriptor& table = tables_[kind.table];
  if (!table) {
    table = Descriptor(
        bpf_map_create(kind.type, kind.pin, kind.key_size, kind.value_size, kind.size, nullptr));
    if (!table)
      return std::unexpected(
          failed(message("cannot create {} of {} entries", kind.pin, kind.size)));
    if (auto ok = pins_->pin(table.get(), kind.pin); !ok) return ok;
  }
  const int outer = bpf_object__find_map_fd_by_name(skeleton_->obj, kind.outer);
  const int fd = table.get();
  if (bpf_map_update_elem(outer, &kind.index, &fd, BPF_ANY) == 0) return {};
  return std::unexpected(failed(message("cannot put {} in place", kind.pin)));
}

Result<void> GuardMaps::make_tables(std::uint32_t flags) {
  for (const LazyTable& kind : kLazyTables) {
    if ((flags & kind.flag) == 0) continue;
    if (auto ok = make_table(kind); !ok) return ok;
  }
  return {};
}

Result<void> GuardMaps::fill_other_slot(const GuardTables& tables) {
  const std::uint32_t slot = other_slot();
  const auto& maps = skeleton_->maps;
  if (auto ok = empty_other_slot(); !ok) return ok;
  other_is_empty_ = false;
  if (bpf_map_update_elem(bpf_map__fd(maps.guard_slots), &slot, &tables.slot, BPF_ANY) != 0) {
    return std::unexpected(failed("cannot write the guard's slot"));
  }
  std::ranges::copy(tables.ports, ports_.get() + std::size_t{slot} * SLUICE_GUARD_PORTS);
  if (!tables.rates.empty()) {
    std::vector<std::uint32_t> keys(tables.rates.size());
    for (std::uint32_t i = 0; i < keys.size(); ++i)
      keys[i] = slot * SLUICE_GUARD_MAX_RULES + i;
    if (auto ok = fill_map(bpf_map__fd(maps.guard_rates), keys, tables.rates); !ok) return ok;
  }
  if (auto ok = make_tables(tables.slot.flags); !ok) return ok;
  Placing inner;
  inner.put(bpf_map__fd(maps.guard_tries4), slot, "guard_protect",
            make_trie("guard_trie4", tables.protect4));
  inner.put(bpf_map__fd(maps.guard_tries6), slot, "guard_protect",
            make_trie("guard_trie6", tables.protect6));
  inner.put(bpf_map__fd(maps.guard_classes), slot, "guard_classes", make_classes(tables.classes));
  put_prefixes(slot, tables, inner);
  if (auto ok = inner.place(); !ok) {
    if (inner.refused() != nullptr) note_failure(inner.refused());
    return ok;
  }
  slot_use_[slot] = use_of(tables);
  return {};
}

Result<bool> GuardMaps::spares(const Prefix& source) const {
  const auto& maps = skeleton_->maps;
  const std::uint32_t slot = slot_in_force();
  const int outer = bpf_map__fd(source.v4 ? maps.guard_tries4 : maps.guard_tries6);
  std::uint32_t id = 0;
  if (bpf_map_lookup_elem(outer, &slot, &id) != 0) return false;  // no plan was in force yet
  const Descriptor trie(bpf_map_get_fd_by_id(id));
  if (trie.get() < 0) return std::unexpected(failed("cannot read what is protected"));
  sluice_guard_slot rules{};
  if (bpf_map_lookup_elem(bpf_map__fd(maps.guard_slots), &slot, &rules) != 0)
    return std::unexpected(failed("cannot read the guard's slot"));
  const sluice_guard_key4 v4 = source.v4 ? key4(source) : sluice_guard_key4{};
  const sluice_guard_key6 v6 = key6(source);
  std::uint64_t groups = 0;
  const void* key = source.v4 ? static_cast<const void*>(&v4) : &v6;
  if (bpf_map_lookup_elem(trie.get(), key, &groups) != 0) return false;
  return (groups & rules.protect_any_port & rules.protect_any_interface) != 0;
}

// The end's lowest bit is that of the epoch to come: it means nothing before the switch, so that no
// packet sees the new rules without their end.
void GuardMaps::switch_slots(std::uint64_t generation, std::uint64_t revert_at_ns) {
  sluice_guard_state* state = state_.get();
  const std::uint64_t next_bit = ~state->epoch & 1;
  std::atomic_ref(state->revert_at)
      .store(revert_at_ns == 0 ? 0 : (revert_at_ns & ~1ULL) | next_bit, std::memory_order_release);
  std::atomic_ref(state->generation).store(generation, std::memory_order_relaxed);
  std::atomic_ref(state->epoch).fetch_add(1, std::memory_order_release);
  other_is_empty_ = false;
}

Result<void> GuardMaps::set_interfaces(
    std::uint32_t slot, const std::vector<std::pair<unsigned, std::uint64_t>>& groups) {
  std::vector<std::pair<sluice_guard_interface_key, std::uint64_t>> entries;
  for (const auto& [index, mask] : groups)
    entries.push_back({{index, slot}, mask});
  auto done = replace(bpf_map__fd(skeleton_->maps.guard_ifaces), slot, entries,
                      "the interfaces of protect");
  if (!done) note_failure("guard_interfaces");
  return done;
}

Result<void> GuardMaps::set_places(std::uint32_t slot,
                                   const std::vector<GuardPlaces::Entry>& given) {
  std::vector<GuardPlaces::Entry> entries = given;
  for (auto& [key, value] : entries)
    key.slot = static_cast<std::uint16_t>(slot);
  auto done =
      replace(bpf_map__fd(skeleton_->maps.guard_places), slot, entries, "the interfaces of rules");
  if (!done) note_failure("guard_places");
  return done;
}

std::vector<MapUse> GuardMaps::use() const {
  std::vector<MapUse> out = slot_use_[slot_in_force()];
  const auto& maps = skeleton_->maps;
  const auto walk = [&](const char* name, int map, std::size_t key_size, std::size_t value_size,
                        double capacity) {
    if (map >= 0) out.push_back({name, count_entries(map, key_size, value_size), capacity, {}});
  };
  walk("guard_own_addresses", bpf_map__fd(maps.guard_own), 16, sizeof(std::uint32_t),
       SLUICE_GUARD_MAX_OWN_ADDRESSES);
  walk("guard_interfaces", bpf_map__fd(maps.guard_ifaces), sizeof(sluice_guard_interface_key),
       sizeof(std::uint64_t), SLUICE_GUARD_MAX_INTERFACES);
  walk("guard_places", bpf_map__fd(maps.guard_places), sizeof(sluice_guard_place_key),
       sizeof(sluice_guard_class), SLUICE_GUARD_MAX_INTERFACES);
  const int cpus = libbpf_num_possible_cpus();
  for (const LazyTable& kind : kLazyTables) {
    const std::size_t copies =
        kind.type == BPF_MAP_TYPE_LRU_PERCPU_HASH && cpus > 0 ? static_cast<std::size_t>(cpus) : 1;
    walk(kind.shown, table(kind.table), kind.key_size, kind.value_size * copies, kind.size);
  }
  for (const char* shown :
       {"guard_rules", "guard_classes", "guard_leaves4", "guard_prefixes6", "guard_protect",
        "guard_own_addresses", "guard_interfaces", "guard_places"}) {
    const auto use = std::ranges::find(out, shown, &MapUse::map);
    const auto failed = failures_.find(shown);
    if (use != out.end()) use->failures = failed == failures_.end() ? 0 : failed->second;
  }
  return out;
}

}  // namespace sluice::kernel
