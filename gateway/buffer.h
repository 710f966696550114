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

// What of a head is new on its way out, until it is with the kernel (http1/forward.h).
struct HeadRoom {
  static constexpr std::size_t kSize = 2048;
  char bytes[kSize];
};
using HeadRoomPtr = std::unique_ptr<HeadRoom>;

// One per worker; not thread safe. Last in, first out: the block that is handed out is the one that
// the caches hold.
template <typename Block>
class BlockPool {
 public:
  static constexpr std::size_t kKeep = 64;  // unused blocks; more are given back to the system

  std::unique_ptr<Block> take() {
    if (unused_.empty()) return std::make_unique_for_overwrite<Block>();
    std::unique_ptr<Block> block = std::move(unused_.back());
    unused_.pop_back();
    return block;
  }
  void give_back(std::unique_ptr<Block> block) {
    if (block && unused_.size() < kKeep) unused_.push_back(std::move(block));
  }

 private:
  std::vector<std::unique_ptr<Block>> unused_;
};
using BufferPool = BlockPool<Buffer>;
using HeadRoomPool = BlockPool<HeadRoom>;

}  // namespace sluice::gateway
