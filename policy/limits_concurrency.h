// How many at a time: counts per key over a table of bounded memory that all workers share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "policy/limits_key.h"
#include "policy/limits_rate.h"

namespace sluice::policy {

// Any thread. acquire() takes a short spin lock of the key's two buckets; release is one atomic
// subtraction. Memory is fixed at construction, about 18 bytes an entry.
//
// The error: none, never more than `max` at a time per key. Entries whose count is 0 are reused.
// When all that a new key may use are held, it shares a place with its network.
class ConcurrencyTable {
 public:
  using Count = std::atomic<std::uint32_t>;

  explicit ConcurrencyTable(std::size_t entries);
  ~ConcurrencyTable();
  ConcurrencyTable(const ConcurrencyTable&) = delete;
  ConcurrencyTable& operator=(const ConcurrencyTable&) = delete;

  // The count that one was added to; null: `max` were there. Subtract one from it in the end.
  Count* acquire(const LimitKeys& keys, std::uint32_t max) noexcept;
  // How many there are of this key.
  std::uint32_t held(const LimitKeys& keys) const noexcept;
  LimitTableStats stats() const noexcept;

 private:
  struct Entry;
  struct Bucket;
  Count* find_or_claim(Bucket& first, Bucket& second, std::uint64_t tag) noexcept;

  std::unique_ptr<Bucket[]> buckets_;
  std::uint64_t mask_ = 0;
  std::unique_ptr<Count[]> overflow_cells_;
  std::atomic<std::uint64_t> overflow_count_{0};
};

// A place in a table, given back when it goes. One owner, any thread.
class ConcurrencyLease {
 public:
  ConcurrencyLease() = default;
  ConcurrencyLease(std::shared_ptr<ConcurrencyTable> table, ConcurrencyTable::Count* count)
      : table_(std::move(table)), count_(count) {}
  ConcurrencyLease(ConcurrencyLease&& other) noexcept
      : table_(std::move(other.table_)), count_(std::exchange(other.count_, nullptr)) {}
  ConcurrencyLease& operator=(ConcurrencyLease&& other) noexcept {
    std::swap(table_, other.table_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~ConcurrencyLease() {
    if (count_ != nullptr) count_->fetch_sub(1, std::memory_order_release);
  }

 private:
  std::shared_ptr<ConcurrencyTable> table_;
  ConcurrencyTable::Count* count_ = nullptr;
};

}  // namespace sluice::policy
