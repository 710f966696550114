// A shared, writable view of a BPF map's values.
#pragma once

#include <cstddef>
#include <sys/mman.h>
#include <utility>

namespace sluice::kernel {

template <typename T>
class MappedMap {
 public:
  MappedMap() = default;
  MappedMap(MappedMap&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedMap& operator=(MappedMap&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  MappedMap(const MappedMap&) = delete;
  MappedMap& operator=(const MappedMap&) = delete;
  ~MappedMap() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }

  // Of the map's first values. False: errno says why.
  bool map(int fd, std::size_t bytes) {
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return false;
    data_ = static_cast<T*>(at);
    bytes_ = bytes;
    return true;
  }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace sluice::kernel
