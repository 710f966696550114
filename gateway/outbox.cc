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

Flush Outbox::flush(int fd, std::uint64_t& sent) {
  msghdr message{};
  while (!empty()) {
    message.msg_iov = &slices_[begin_];
    message.msg_iovlen = end_ - begin_;
    const ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
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
