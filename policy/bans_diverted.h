// Sources whose requests go to another upstream for a while (bans of action `route`), and those
// that the gateway refuses, since the kernel cannot: a proxy says who they are.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/siphash.h"

namespace sluice::policy {

// Instead of an upstream_id(): its requests are refused.
inline constexpr std::uint64_t kRefuseSource = 0;

struct DivertedSource {
  Prefix source;
  std::uint64_t upstream = 0;  // upstream_id(), or kRefuseSource
  std::uint64_t until_ns = 0;
  std::string reason;
};

// find() may be called by any thread for every request: one load while nobody is diverted, else a
// hash and two cache lines for each prefix length in use; no lock. Memory is fixed.
class DivertedSources {
 public:
  // `hash_key` random, per process.
  explicit DivertedSources(HashKey hash_key, std::size_t entries = 16384);
  ~DivertedSources();

  bool empty() const noexcept { return count_.load(std::memory_order_relaxed) == 0; }
  // The upstream_id() where the source's requests go, or kRefuseSource.
  std::optional<std::uint64_t> find(const IpAddress& source, std::uint64_t now_ns) const noexcept;

  // False: there is no room, or too many prefix lengths are in use; counted.
  bool add(const Prefix& source, std::uint64_t upstream, std::uint64_t until_ns,
           std::uint64_t now_ns, std::string reason);
  bool remove(const Prefix& source);
  std::vector<DivertedSource> list(std::uint64_t now_ns) const;
  std::uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kLengths = 4;
  static constexpr std::size_t kPerSet = 8;
  struct Entry;

  std::uint64_t tag_of(const Prefix& source) const noexcept;
  bool use_length(std::uint8_t length);

  HashKey hash_key_;
  std::uint64_t mask_ = 0;
  std::unique_ptr<Entry[]> entries_;
  std::atomic<std::uint32_t> count_{0};  // that were ever added
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint32_t> lengths6_{0};  // a byte each, of IPv6; 0: free
  mutable std::mutex mutex_;                // of what follows, and of changes
  std::vector<DivertedSource> listed_;
};

}  // namespace sluice::policy
