// Fixed blocks of memory for bytes on their way, recycled by the worker that uses them.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace sluice::gateway {

struct Buffer {
  static constexpr std::size_t kSize = 64 * 1024;
  char bytes[kSize];
};
using BufferPtr = std::unique_ptr<Buffer>;

// One per worker; not thread safe. Last in, first out: the block that is handed out is the one that
// the caches hold.
class BufferPool {
 public:
  static constexpr std::size_t kKeep = 64;  // unused blocks; more are given back to the system

  BufferPtr take() {
    if (unused_.empty()) return std::make_unique_for_overwrite<Buffer>();
    BufferPtr buffer = std::move(unused_.back());
    unused_.pop_back();
    return buffer;
  }
  void give_back(BufferPtr buffer) {
    if (buffer && unused_.size() < kKeep) unused_.push_back(std::move(buffer));
  }

 private:
  std::vector<BufferPtr> unused_;
};

}  // namespace sluice::gateway
