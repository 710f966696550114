#include "policy/bans_diverted.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>

namespace sluice::policy {

// The upstream is written before the tag, and an entry that changes hands has no end meanwhile.
struct DivertedSources::Entry {
  std::atomic<std::uint64_t> tag{0};
  std::atomic<std::uint64_t> upstream{0};
  std::atomic<std::uint64_t> until{0};
};

DivertedSources::DivertedSources(HashKey hash_key, std::size_t entries) : hash_key_(hash_key) {
  const std::size_t sets =
      std::bit_ceil(std::max<std::size_t>((entries + kPerSet - 1) / kPerSet, 1));
  mask_ = sets - 1;
  entries_ = std::make_unique<Entry[]>(sets * kPerSet);
}

DivertedSources::~DivertedSources() = default;

std::uint64_t DivertedSources::tag_of(const Prefix& source) const noexcept {
  std::array<std::uint8_t, 17> input{};
  std::ranges::copy(source.address.bytes(), input.begin());
  input[16] = source.length;
  return std::max<std::uint64_t>(siphash(hash_key_, input), 1);
}

std::optional<std::uint64_t> DivertedSources::find(const IpAddress& source,
                                                   std::uint64_t now_ns) const noexcept {
  if (empty()) return std::nullopt;
  const bool v4 = source.is_v4();
  std::uint32_t lengths = v4 ? 32 : lengths6_.load(std::memory_order_acquire);
  for (; lengths != 0; lengths >>= 8) {
    const auto length = static_cast<std::uint8_t>(lengths);
    const std::uint64_t tag = tag_of({source.masked(length), length});
    for (const Entry& entry : std::span(&entries_[(tag & mask_) * kPerSet], kPerSet)) {
      if (entry.tag.load(std::memory_order_acquire) != tag) continue;
      if (entry.until.load(std::memory_order_acquire) <= now_ns) continue;
      return entry.upstream.load(std::memory_order_relaxed);
    }
  }
  return std::nullopt;
}

bool DivertedSources::use_length(std::uint8_t length) {
  const std::uint32_t lengths = lengths6_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < kLengths; ++i) {
    const auto used = static_cast<std::uint8_t>(lengths >> (8 * i));
    if (used == length) return true;
    if (used != 0) continue;
    lengths6_.store(lengths | std::uint32_t{length} << (8 * i), std::memory_order_release);
    return true;
  }
  return false;
}

bool DivertedSources::add(const Prefix& source, std::uint64_t upstream, std::uint64_t until_ns,
                          std::uint64_t now_ns, std::string reason) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t tag = tag_of(source);
  const std::span set(&entries_[(tag & mask_) * kPerSet], kPerSet);
  auto place = std::ranges::find_if(
      set, [&](const Entry& entry) { return entry.tag.load(std::memory_order_relaxed) == tag; });
  if (place == set.end()) {
    place = std::ranges::find_if(set, [&](const Entry& entry) {
      return entry.until.load(std::memory_order_relaxed) <= now_ns;
    });
  }
  const bool wide_v4 = source.is_v4() && source.length != 32;
  if (place == set.end() || wide_v4 || (!source.is_v4() && !use_length(source.length))) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  place->until.store(0, std::memory_order_release);
  place->upstream.store(upstream, std::memory_order_relaxed);
  place->tag.store(tag, std::memory_order_release);
  place->until.store(until_ns, std::memory_order_release);
  count_.fetch_add(1, std::memory_order_release);
  std::erase_if(listed_, [&](const DivertedSource& listed) {
    return listed.source == source || listed.until_ns <= now_ns;
  });
  listed_.push_back({source, upstream, until_ns, std::move(reason)});
  return true;
}

bool DivertedSources::remove(const Prefix& source) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t tag = tag_of(source);
  for (Entry& entry : std::span(&entries_[(tag & mask_) * kPerSet], kPerSet)) {
    if (entry.tag.load(std::memory_order_relaxed) == tag) {
      entry.until.store(0, std::memory_order_release);
    }
  }
  return std::erase_if(listed_,
                       [&](const DivertedSource& listed) { return listed.source == source; }) > 0;
}

std::vector<DivertedSource> DivertedSources::list(std::uint64_t now_ns) const {
  const std::lock_guard lock(mutex_);
  std::vector<DivertedSource> left;
  std::ranges::copy_if(listed_, std::back_inserter(left),
                       [&](const DivertedSource& listed) { return listed.until_ns > now_ns; });
  return left;
}

}  // namespace sluice::policy
