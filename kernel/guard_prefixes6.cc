// IPv6: two bitmaps and a table of whole keys, all hashed.
#include <algorithm>
#include <bit>

#include "kernel/guard_prefixes.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

constexpr std::uint64_t kSeed = 0x5bd1e9955bd1e995ULL;
constexpr std::uint64_t kMaxGateBits = SLUICE_GUARD_GATE_WORDS * 64ULL;
constexpr std::uint64_t kMaxBits = SLUICE_GUARD_BITS_WORDS * 64ULL;
constexpr std::uint64_t kMaxBuckets = 1ULL << 24;
constexpr unsigned kGateLength = 32;

struct Entry {
  std::uint64_t high;
  std::uint64_t low;
  std::uint32_t length;
  std::uint32_t klass;
};

bool covers(const Entry& outer, const TaggedPrefix6& inner) {
  const auto same = [](std::uint64_t a, std::uint64_t b, unsigned bits) {
    return bits == 0 || (a ^ b) >> (64 - bits) == 0;
  };
  return same(outer.high, inner.high, std::min(outer.length, 64U)) &&
         (outer.length <= 64 || same(outer.low, inner.low, outer.length - 64));
}

// One entry a prefix; it carries what all that cover it say. Prefix ::/0 becomes the default.
std::vector<Entry> add_up(const std::vector<TaggedPrefix6>& keys, CoveringSets& sets,
                          std::uint32_t& default_class, std::size_t& different) {
  struct Open {
    Entry entry;
    std::uint32_t set;
  };
  std::vector<Open> open;
  std::vector<Entry> out;
  std::uint32_t base = CoveringSets::kBase;
  for (std::size_t at = 0; at < keys.size(); ++different) {
    const TaggedPrefix6& first = keys[at];
    while (!open.empty() && !covers(open.back().entry, first))
      open.pop_back();
    std::uint32_t set = open.empty() ? base : open.back().set;
    for (; at < keys.size() && keys[at].high == first.high && keys[at].low == first.low &&
           keys[at].order >> 16 == first.order >> 16;
         ++at)
      set = sets.with(set, static_cast<PrefixTag>(keys[at].order));
    const std::uint32_t length = first.order >> 16;
    if (length == 0) {
      base = set;
      continue;
    }
    const Entry entry{first.high, first.low, length, sets.class_of(set)};
    open.push_back({entry, set});
    out.push_back(entry);
  }
  default_class = sets.class_of(base);
  return out;
}

// Parts of neighbours are sorted each for itself, in the cache: for a million prefixes that is a
// third of the time of one sort.
void sort_keys(std::vector<TaggedPrefix6>& keys) {
  if (keys.size() < 4096) {
    std::ranges::sort(keys);
    return;
  }
  const auto [least, most] = std::ranges::minmax(keys, {}, &TaggedPrefix6::high);
  const std::uint64_t base = least.high;
  const int bits = std::min(static_cast<int>(std::bit_width(keys.size() / 64)), 14);
  const int shift = std::max(static_cast<int>(std::bit_width(most.high - base)) - bits, 0);
  std::vector<std::uint32_t> ends((std::size_t{1} << bits) + 1);
  for (const TaggedPrefix6& key : keys)
    ++ends[((key.high - base) >> shift) + 1];
  for (std::size_t i = 1; i < ends.size(); ++i)
    ends[i] += ends[i - 1];
  std::vector<TaggedPrefix6> parts(keys.size());
  for (const TaggedPrefix6& key : keys)
    parts[ends[(key.high - base) >> shift]++] = key;
  std::uint32_t begin = 0;
  for (std::size_t i = 0; i + 1 < ends.size(); begin = ends[i++])
    std::sort(parts.begin() + begin, parts.begin() + ends[i]);
  keys.swap(parts);
}

std::uint32_t home_of(const Entry& entry) {
  return static_cast<std::uint32_t>(
      sluice_guard_hash6(kSeed, entry.high, entry.low, entry.length) >> 32);
}

// In the order of their buckets, roughly: so that filling does not miss the cache each time.
std::vector<Entry> by_bucket(const std::vector<Entry>& entries, std::uint32_t mask) {
  constexpr int kParts = 9;  // 512
  const int shift = std::max(static_cast<int>(std::bit_width(mask)) - kParts, 0);
  std::vector<std::uint32_t> places((std::size_t{1} << kParts) + 1);
  for (const Entry& entry : entries)
    ++places[((home_of(entry) & mask) >> shift) + 1];
  for (std::size_t i = 1; i < places.size(); ++i)
    places[i] += places[i - 1];
  std::vector<Entry> out(entries.size());
  for (const Entry& entry : entries)
    out[places[(home_of(entry) & mask) >> shift]++] = entry;
  return out;
}

// False: no bucket within the probes.
bool place(const Entry& entry, std::vector<sluice_guard_line>& buckets) {
  const std::uint64_t mask = buckets.size() - 1;
  const std::uint64_t home = home_of(entry);
  for (std::uint64_t probe = 0; probe < SLUICE_GUARD_MAX_PROBES; ++probe) {
    auto& bucket = buckets[(home + probe) & mask].bucket;
    const auto* free = std::ranges::find(bucket.tag, 0U);
    if (free == std::end(bucket.tag)) {
      bucket.more = 1;
      continue;
    }
    const auto i = free - bucket.tag;
    bucket.high[i] = entry.high;
    bucket.low[i] = entry.low;
    bucket.tag[i] = entry.length | entry.klass << 8;
    return true;
  }
  return false;
}

// As guard_prefix.bpf.h finds it; null: it is not there.
std::uint32_t* find_tag(const Entry& entry, std::vector<sluice_guard_line>& buckets) {
  const std::uint64_t mask = buckets.size() - 1;
  const std::uint64_t home = home_of(entry);
  for (std::uint64_t probe = 0; probe < SLUICE_GUARD_MAX_PROBES; ++probe) {
    auto& bucket = buckets[(home + probe) & mask].bucket;
    for (std::size_t i = 0; i < std::size(bucket.tag); ++i) {
      if ((bucket.tag[i] & 0xff) == entry.length && bucket.high[i] == entry.high &&
          bucket.low[i] == entry.low)
        return &bucket.tag[i];
    }
    if (bucket.more == 0) break;
  }
  return nullptr;
}

// False: some key found no bucket within the probes; a larger table will do.
bool fill_buckets(const std::vector<Entry>& entries, std::vector<sluice_guard_line>& buckets) {
  return std::ranges::all_of(by_bucket(entries, static_cast<std::uint32_t>(buckets.size() - 1)),
                             [&](const Entry& entry) { return place(entry, buckets); });
}

Entry entry_of(const Prefix& prefix, std::uint32_t klass) {
  return {big_endian(prefix.address.data()), big_endian(prefix.address.data() + 8), prefix.length,
          klass};
}

void set_bit(std::vector<std::uint64_t>& words, std::uint64_t bit) {
  words[bit >> 6] |= 1ULL << (bit & 63);
}

void set_bits(const Entry& entry, PrefixTables& out) {
  if (entry.length >= kGateLength)
    set_bit(out.gate, sluice_guard_gate6_bit(kSeed, entry.high) & out.config.gate_mask);
  const std::uint64_t hash = sluice_guard_hash6(kSeed, entry.high, entry.low, entry.length);
  set_bit(out.bits, hash & out.config.bits_mask);
}

void fill_bits(const std::vector<Entry>& entries, PrefixTables& out) {
  sluice_guard_prefixes& config = out.config;
  std::size_t gated = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const bool same_gate = i > 0 && entries[i - 1].high >> 32 == entries[i].high >> 32;
    if (entries[i].length >= kGateLength && !same_gate) ++gated;
  }
  const auto size = [](std::size_t wanted, std::uint64_t most) {
    return std::clamp<std::uint64_t>(std::bit_ceil(wanted), 64, most);
  };
  const std::uint64_t gate_bits = size(gated * 64, kMaxGateBits);
  const std::uint64_t bits = size(entries.size() * 32, kMaxBits);
  if (gated > 0) out.gate.assign(gate_bits / 64, 0);
  out.bits.assign(bits / 64, 0);
  config.gate_mask = static_cast<std::uint32_t>(gate_bits - 1);
  config.bits_mask = static_cast<std::uint32_t>(bits - 1);
  for (const Entry& entry : entries)
    set_bits(entry, out);
}

void note_length(std::uint32_t length, sluice_guard_prefixes& config) {
  auto* const end = config.length + config.lengths;
  auto* const at =
      std::find_if(config.length, end, [&](std::uint8_t one) { return one <= length; });
  if (at != end && *at == length) return;
  std::copy_backward(at, end, end + 1);
  *at = static_cast<std::uint8_t>(length);
  ++config.lengths;
  if (length >= kGateLength) ++config.gated;
}

void note_lengths(const std::vector<Entry>& entries, sluice_guard_prefixes& config) {
  std::array<bool, 129> used{};
  for (const Entry& entry : entries)
    used[entry.length] = true;
  for (unsigned length = 128; length > 0; --length) {
    if (used[length]) note_length(length, config);
  }
}

}  // namespace

Result<void> compile_prefixes6(std::vector<TaggedPrefix6> keys, CoveringSets& sets,
                               PrefixTables& out) {
  sort_keys(keys);
  const std::vector<Entry> entries = add_up(keys, sets, out.config.default6, out.prefixes6);
  out.config.seed = kSeed;
  if (entries.empty()) return {};
  note_lengths(entries, out.config);
  fill_bits(entries, out);
  std::uint64_t size = std::bit_ceil(entries.size() / 2 + 1);
  for (;; size *= 2) {
    if (size > kMaxBuckets) {
      return std::unexpected(Error{
          message("guard.rules name {} IPv6 prefixes, more than a table takes", entries.size())});
    }
    out.buckets.assign(size, {});
    if (fill_buckets(entries, out.buckets)) break;
  }
  out.config.bucket_mask = static_cast<std::uint32_t>(size - 1);
  return {};
}

bool put_prefix6(const Prefix& prefix, std::uint32_t klass, PrefixTables& tables) {
  const Entry entry = entry_of(prefix, klass);
  if (std::uint32_t* tag = find_tag(entry, tables.buckets)) {
    *tag = entry.length | klass << 8;
    return true;
  }
  const bool full = tables.prefixes6 >= tables.buckets.size() * 2;  // as compiled, at most
  if (full || (entry.length >= kGateLength && tables.gate.empty())) return false;
  if (!place(entry, tables.buckets)) return false;
  set_bits(entry, tables);
  note_length(entry.length, tables.config);
  ++tables.prefixes6;
  return true;
}

// Its bits may be others' as well.
void remove_prefix6(const Prefix& prefix, PrefixTables& tables) {
  std::uint32_t* tag = find_tag(entry_of(prefix, 0), tables.buckets);
  if (tag == nullptr) return;
  *tag = 0;
  --tables.prefixes6;
  ++tables.left_behind6;
}

}  // namespace sluice::kernel
