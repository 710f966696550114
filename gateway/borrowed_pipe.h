// Bytes on their way from one socket to another through a pipe, never copied: splice(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "gateway/splice_pipe.h"
#include "gateway/transport.h"

namespace sluice::gateway {

// Tells whether a direction carries enough at a time for splice(2) to pay.
class BulkMeter {
 public:
  // Below this a copy through a warm buffer is cheaper than the two more system calls and the page
  // references of splice (by a tenth at 4 KiB) …
  static constexpr std::size_t kSmall = 16 * 1024;
  // … and from this on it is dearer (by a tenth at 60 KiB).
  static constexpr std::size_t kLarge = 32 * 1024;

  bool bulk() const { return bulk_; }
  void copied(std::size_t bytes) { bulk_ = bulk_ || bytes >= kLarge; }
  void spliced(std::size_t bytes) {
    small_ = bytes < kSmall ? static_cast<std::uint8_t>(small_ + 1) : 0;
    if (small_ == kSmallBeforeCopy) reset();
  }
  void reset() {
    bulk_ = false;
    small_ = 0;
  }

 private:
  static constexpr std::uint8_t kSmallBeforeCopy = 4;

  bool bulk_ = false;
  std::uint8_t small_ = 0;  // in a row, while splicing
};

// Holds a pipe of the worker's pool only while there are bytes in it. Both transports must be
// plain().
class BorrowedPipe {
 public:
  // How much one splice(2) may take. Less costs more: 240 ms of CPU per GB with 256 KiB, 190 with 1
  // MiB, 410 by copying.
  static constexpr std::size_t kChunk = 1024 * 1024;
  explicit BorrowedPipe(SplicePipePool& pool) : pool_(&pool) {}
  ~BorrowedPipe() { drop(); }
  BorrowedPipe(const BorrowedPipe&) = delete;
  BorrowedPipe& operator=(const BorrowedPipe&) = delete;

  bool empty() const { return bytes_ == 0; }
  std::size_t bytes() const { return bytes_; }

  // Only while empty: takes up to `most` bytes off the source. `full`: there is no pipe to be had
  // (descriptor limit, too many are lent): copy instead.
  Received fill(Transport& source, std::size_t most);
  // `sent` grows by what the sink took. `failed`: errno says how.
  Flush drain(Transport& sink, std::uint64_t& sent);
  // What is inside is lost.
  void drop();

 private:
  SplicePipePool* pool_;
  std::optional<SplicePipe> pipe_;
  std::size_t bytes_ = 0;
};

}  // namespace sluice::gateway
