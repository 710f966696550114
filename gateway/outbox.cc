#include "gateway/outbox.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

namespace sluice::gateway {

void Outbox::add(std::string_view bytes) {
  if (bytes.empty()) return;
  if (end_ > begin_) {
    iovec& last = slices_[end_ - 1];
    if (static_cast<const char*>(last.iov_base) + last.iov_len == bytes.data()) {
      last.iov_len += bytes.size();
      return;
    }
  }
  slices_[end_++] = {const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT: sendmsg only reads
}

void Outbox::add(std::span<const iovec> slices) {
  for (const iovec& slice : slices)
    slices_[end_++] = slice;
}

Flush Outbox::flush(int fd, std::uint64_t& sent, bool more) {
  const int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0);
  while (!empty()) {
    const ssize_t n = give(fd, flags);
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? Flush::blocked : Flush::failed;
    }
    sent += static_cast<std::uint64_t>(n);
    drop(static_cast<std::size_t>(n));
    // A short write means that the socket's memory is full: the next one would only say so again.
    if (!empty()) return Flush::blocked;
  }
  return Flush::done;
}

// A copy of little is cheaper than the slices are to the kernel: 0.6 to 1.0 us less for a head and
// a body of 1.2 KB in six.
ssize_t Outbox::give(int fd, int flags) const {
  const std::span<const iovec> slices(&slices_[begin_], end_ - begin_);
  std::size_t size = 0;
  for (const iovec& slice : slices)
    size += slice.iov_len;
  if (slices.size() == 1 || size <= kGathered) {
    std::array<char, kGathered> room;
    const std::span<const char> bytes = slices.size() == 1 ? front(size) : gather(room);
    return ::send(fd, bytes.data(), bytes.size(), flags);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(slices.data());  // NOLINT: sendmsg only reads
  message.msg_iovlen = slices.size();
  return ::sendmsg(fd, &message, flags);
}

std::span<const char> Outbox::gather(std::span<char> room) const {
  const iovec& first = slices_[begin_];
  if (end_ - begin_ == 1 || first.iov_len >= room.size()) {
    return {static_cast<const char*>(first.iov_base), std::min(first.iov_len, room.size())};
  }
  std::size_t filled = 0;
  for (std::size_t i = begin_; i < end_ && filled < room.size(); ++i) {
    const std::size_t part = std::min(slices_[i].iov_len, room.size() - filled);
    std::memcpy(room.data() + filled, slices_[i].iov_base, part);
    filled += part;
  }
  return room.first(filled);
}

void Outbox::drop(std::size_t bytes) {
  while (bytes > 0) {
    iovec& slice = slices_[begin_];
    if (bytes < slice.iov_len) {
      slice.iov_base = static_cast<char*>(slice.iov_base) + bytes;
      slice.iov_len -= bytes;
      return;
    }
    bytes -= slice.iov_len;
    ++begin_;
  }
  if (empty()) clear();
}

}  // namespace sluice::gateway
