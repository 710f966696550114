// Storage for one Asio operation inside the object that it belongs to, so that starting one
// allocates nothing.
#pragma once

#include <array>
#include <cstddef>
#include <new>

namespace sluice::gateway {

// Holds one operation at a time; a second one, or a larger one, gets memory from the heap.
class HandlerMemory {
 public:
  HandlerMemory() = default;
  HandlerMemory(const HandlerMemory&) = delete;
  HandlerMemory& operator=(const HandlerMemory&) = delete;

  void* allocate(std::size_t bytes) {
    if (used_ || bytes > storage_.size()) return ::operator new(bytes);
    used_ = true;
    return storage_.data();
  }
  void deallocate(void* memory) {
    if (memory != storage_.data()) return ::operator delete(memory);
    used_ = false;
  }

 private:
  alignas(std::max_align_t) std::array<std::byte, 192> storage_;
  bool used_ = false;
};

// For boost::asio::bind_allocator. The memory must outlive the operation.
template <typename T>
class HandlerAllocator {
 public:
  using value_type = T;

  explicit HandlerAllocator(HandlerMemory& memory) : memory_(&memory) {}
  template <typename U>
  HandlerAllocator(const HandlerAllocator<U>& other) : memory_(other.memory()) {}

  T* allocate(std::size_t n) { return static_cast<T*>(memory_->allocate(n * sizeof(T))); }
  void deallocate(T* object, std::size_t) { memory_->deallocate(object); }
  HandlerMemory* memory() const { return memory_; }
  template <typename U>
  bool operator==(const HandlerAllocator<U>& other) const {
    return memory_ == other.memory();
  }

 private:
  HandlerMemory* memory_;
};

}  // namespace sluice::gateway
