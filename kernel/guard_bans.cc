#include "kernel/guard_bans.h"

#include <atomic>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <endian.h>
#include <stdio.h>
#include <time.h>
#include <utility>

#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr const char* kPin = "guard_bans";
constexpr const char* kNewPin = "guard_bans_new";
constexpr std::uint32_t kFirstSize = 1024;
constexpr auto kLongest = std::chrono::hours(24 * 3660);

sluice_guard_ban_key key_of(const Prefix& source) {
  sluice_guard_ban_key key{};
  std::memcpy(&key.high, source.address.data(), 8);
  std::memcpy(&key.low, source.address.data() + 8, 8);
  key.length = source.length;
  return key;
}

std::uint32_t gate_bit(const Prefix& source) {
  const sluice_guard_ban_key key = key_of(source);
  return sluice_guard_ban_bit(be64toh(key.high), be64toh(key.low), key.length);
}

Prefix prefix_of(const sluice_guard_ban_key& key) {
  Prefix prefix;
  std::memcpy(prefix.address.data(), &key.high, 8);
  std::memcpy(prefix.address.data() + 8, &key.low, 8);
  prefix.length = static_cast<std::uint8_t>(key.length);
  prefix.v4 = key.length >= 96 && covers(all_of_v4(), {prefix.address, prefix.length, true});
  return prefix;
}

Descriptor create_table(std::uint32_t size) {
  LIBBPF_OPTS(bpf_map_create_opts, options);
  return Descriptor(bpf_map_create(BPF_MAP_TYPE_HASH, kPin, sizeof(sluice_guard_ban_key),
                                   sizeof(sluice_guard_ban), size, &options));
}

template <typename Visit>
void for_each(int table, Visit visit) {
  sluice_guard_ban_key key{};
  sluice_guard_ban_key next{};
  for (const sluice_guard_ban_key* at = nullptr; bpf_map_get_next_key(table, at, &next) == 0;
       at = &key) {
    key = next;
    sluice_guard_ban ban{};
    if (bpf_map_lookup_elem(table, &key, &ban) == 0) visit(key, ban);
  }
}

Error failed(const std::string& what) {
  return Error{message("{}: {}", what, std::strerror(errno))};
}

}  // namespace

std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000ULL +
         static_cast<std::uint64_t>(now.tv_nsec);
}

Result<GuardBans> GuardBans::open(const PinDirectory& pins, int outer_map,
                                  sluice_guard_state* state, std::uint64_t* gate) {
  GuardBans bans(pins, outer_map, state, gate);
  Descriptor pinned = pins.get(kPin);
  const bool adopted = static_cast<bool>(pinned);
  if (!adopted) pinned = create_table(kFirstSize);
  if (!pinned) return std::unexpected(failed("cannot create the table of bans"));
  if (auto ok = bans.use(std::move(pinned), !adopted); !ok) return std::unexpected(ok.error());
  bans.capacity_ = bans.table_size_;
  bans.load();
  return bans;
}

// The pin first, by a rename, then the outer map: a crash in between leaves bans that an adoption
// puts in force.
Result<void> GuardBans::use(Descriptor table, bool pin) {
  bpf_map_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(table.get(), &info, &length) != 0 ||
      info.key_size != sizeof(sluice_guard_ban_key) ||
      info.value_size != sizeof(sluice_guard_ban)) {
    return std::unexpected(
        Error{pins_->path(kPin) + " is not a table of bans; run `sluice cleanup`"});
  }
  if (pin) {
    if (auto ok = pins_->pin(table.get(), kNewPin); !ok) return ok;
    if (::rename(pins_->path(kNewPin).c_str(), pins_->path(kPin).c_str()) != 0) {
      const Error error = failed("cannot pin the table of bans");
      pins_->remove(kNewPin);
      return std::unexpected(error);
    }
  }
  const std::uint32_t zero = 0;
  const int fd = table.get();
  if (bpf_map_update_elem(outer_map_, &zero, &fd, BPF_ANY) != 0) {
    return std::unexpected(failed("cannot put the table of bans in place"));
  }
  table_ = std::move(table);
  table_size_ = info.max_entries;
  return {};
}

void GuardBans::load() {
  expiry_.clear();
  by_expiry_.clear();
  lengths_.clear();
  for_each(table_.get(), [this](const sluice_guard_ban_key& key, const sluice_guard_ban& ban) {
    const Prefix source = prefix_of(key);
    open_gate(source);
    remember(source, ban.expires);
  });
  publish_lengths();
  sweep();
}

Result<void> GuardBans::set_capacity(std::uint32_t capacity) {
  // Since this one was opened the keeper before it may have changed the table.
  if (!std::exchange(in_force_, true)) load();
  if (capacity > table_size_) {
    Descriptor larger = create_table(capacity);
    if (!larger)
      return std::unexpected(failed(message("cannot create a table of {} bans", capacity)));
    for_each(table_.get(), [&](const sluice_guard_ban_key& key, const sluice_guard_ban& ban) {
      bpf_map_update_elem(larger.get(), &key, &ban, BPF_ANY);
    });
    if (auto ok = use(std::move(larger), true); !ok) return ok;
  }
  capacity_ = capacity;
  return {};
}

void GuardBans::remember(const Prefix& source, std::uint64_t expires) {
  const auto [at, added] = expiry_.try_emplace(source, expires);
  if (added) {
    ++lengths_[{source.v4, source.length}];
  } else {
    by_expiry_.erase({at->second, source});
    at->second = expires;
  }
  by_expiry_.emplace(expires, source);
}

void GuardBans::forget(const Prefix& source) {
  const auto at = expiry_.find(source);
  if (at == expiry_.end()) return;
  by_expiry_.erase({at->second, source});
  expiry_.erase(at);
  const auto length = lengths_.find({source.v4, source.length});
  if (--length->second == 0) lengths_.erase(length);
  ++gone_;
}

void GuardBans::open_gate(const Prefix& source) const {
  const std::uint32_t bit = gate_bit(source);
  std::atomic_ref(gate_[bit / 64]).fetch_or(1ULL << (bit % 64), std::memory_order_release);
}

// A bit may stand for several bans, so it is not taken away with one of them. Word by word: none
// that a ban needs is ever missing.
void GuardBans::close_gates() {
  if (gone_ <= 1024 && gone_ <= expiry_.size() && !expiry_.empty()) return;
  gone_ = 0;
  std::vector<std::uint64_t> words(SLUICE_GUARD_BAN_GATE_WORDS);
  for (const auto& [source, expires] : expiry_) {
    const std::uint32_t bit = gate_bit(source);
    words[bit / 64] |= 1ULL << (bit % 64);
  }
  for (std::size_t i = 0; i < words.size(); ++i)
    std::atomic_ref(gate_[i]).store(words[i], std::memory_order_relaxed);
}

// Longest first; one store each, so that the program sees the old list or the new one.
void GuardBans::publish_lengths() const {
  std::array<std::uint64_t, 2> packed{};
  for (const auto& [kind, count] : lengths_) {
    auto& list = packed[kind.first];
    list = list << 8 | kind.second;
  }
  std::atomic_ref(state_->ban_lengths4).store(packed[1], std::memory_order_release);
  std::atomic_ref(state_->ban_lengths6).store(packed[0], std::memory_order_release);
}

Result<void> GuardBans::check_room(const Prefix& source) const {
  if (expiry_.contains(source)) return {};
  if (expiry_.size() >= capacity_) {
    return std::unexpected(Error{message(
        "the table of bans is full ({} of bans.max {}); raise bans.max, or ban wider prefixes",
        expiry_.size(), capacity_)});
  }
  if (lengths_.contains({source.v4, source.length})) return {};
  std::string used;
  int count = 0;
  for (const auto& [kind, bans] : lengths_) {
    if (kind.first != source.v4) continue;
    used += message("{}/{}", count == 0 ? "" : ", ", own_length({{}, kind.second, kind.first}));
    ++count;
  }
  if (count < SLUICE_GUARD_BAN_LENGTHS) return {};
  return std::unexpected(Error{
      message("bans of {} different prefix lengths are the most for one IP version, and {} are "
              "in use; ban {} as prefixes of one of these lengths",
              SLUICE_GUARD_BAN_LENGTHS, used, to_text(source))});
}

Result<void> GuardBans::add(const Prefix& source, std::chrono::nanoseconds duration,
                            const std::string& reason) {
  if (duration.count() <= 0 || duration > kLongest) {
    return std::unexpected(Error{message(
        "a ban of {} must last longer than nothing and at most 10 years", to_text(source))});
  }
  sweep();
  if (auto ok = check_room(source); !ok) {
    ++state_->refused_bans;
    ++not_inserted_;
    return ok;
  }
  const sluice_guard_ban_key key = key_of(source);
  sluice_guard_ban ban{};
  bpf_map_lookup_elem(table_.get(), &key, &ban);  // keeps the counters of a ban that is renewed
  open_gate(source);
  ban.expires = monotonic_ns() + static_cast<std::uint64_t>(duration.count());
  std::memset(ban.reason, 0, sizeof(ban.reason));
  reason.copy(ban.reason, sizeof(ban.reason) - 1);
  if (bpf_map_update_elem(table_.get(), &key, &ban, BPF_ANY) != 0) {
    ++state_->refused_bans;
    ++not_inserted_;
    return std::unexpected(failed("cannot ban " + to_text(source)));
  }
  remember(source, ban.expires);
  publish_lengths();
  return {};
}

Result<bool> GuardBans::remove(const Prefix& source) {
  sweep();
  if (!expiry_.contains(source)) return false;
  const sluice_guard_ban_key key = key_of(source);
  if (bpf_map_delete_elem(table_.get(), &key) != 0 && errno != ENOENT) {
    return std::unexpected(failed("cannot end the ban of " + to_text(source)));
  }
  forget(source);
  publish_lengths();
  close_gates();
  return true;
}

bool GuardBans::lasts(const Prefix& source, std::chrono::nanoseconds duration) const {
  const auto known = expiry_.find(source);
  return known != expiry_.end() &&
         known->second >= monotonic_ns() + static_cast<std::uint64_t>(duration.count());
}

void GuardBans::sweep() {
  const std::uint64_t now = monotonic_ns();
  bool any = false;
  while (!by_expiry_.empty() && by_expiry_.begin()->first <= now) {
    const Prefix source = by_expiry_.begin()->second;
    const sluice_guard_ban_key key = key_of(source);
    bpf_map_delete_elem(table_.get(), &key);
    forget(source);
    any = true;
  }
  if (!any) return;
  publish_lengths();
  close_gates();
}

std::vector<Ban> GuardBans::list() const {
  std::vector<Ban> out;
  const std::uint64_t now = monotonic_ns();
  for (const auto& [source, expires] : expiry_) {
    const sluice_guard_ban_key key = key_of(source);
    sluice_guard_ban ban{};
    if (expires <= now || bpf_map_lookup_elem(table_.get(), &key, &ban) != 0) continue;
    ban.reason[sizeof(ban.reason) - 1] = 0;
    // Rounded up, so that a ban in force never has 0 s left.
    const std::chrono::nanoseconds left(expires - now);
    out.push_back({source, std::chrono::ceil<std::chrono::seconds>(left), ban.packets, ban.bytes,
                   ban.reason});
  }
  return out;
}

}  // namespace sluice::kernel
