// Bytes that wait to be sent, as slices of memory that somebody else keeps alive.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <sys/uio.h>

namespace sluice::gateway {

enum class Flush : std::uint8_t {
  done,     // all is with the kernel
  blocked,  // the rest later, when the socket is writable
  failed,   // the connection is broken; errno says how
};

class Outbox {
 public:
  static constexpr std::size_t kMaxSlices = 32;

  bool empty() const { return begin_ == end_; }
  std::size_t room() const { return kMaxSlices - end_; }  // slices
  void clear() { begin_ = end_ = 0; }

  // Room is the caller's to check. What follows directly behind the last slice is joined to it.
  void add(std::string_view bytes);
  void add(std::span<const iovec> slices);

  // One send(2), never blocking. `sent` grows by what the kernel took. `more`: more follows at once,
  // a FIN for example; the kernel may wait for it.
  Flush flush(int fd, std::uint64_t& sent, bool more = false);
  // The first bytes, copied to `room` unless the first slice alone fills it or is all there is. At
  // most room.size(); the outbox keeps them until drop().
  std::span<const char> gather(std::span<char> room) const;
  // The first slice, at most so many bytes of it; not while empty.
  std::span<const char> front(std::size_t most) const {
    const iovec& slice = slices_[begin_];
    return {static_cast<const char*>(slice.iov_base), std::min(slice.iov_len, most)};
  }
  void drop(std::size_t bytes);  // they are on their way

 private:
  static constexpr std::size_t kGathered = 4096;  // bytes

  ssize_t give(int fd, int flags) const;

  std::array<iovec, kMaxSlices> slices_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace sluice::gateway
