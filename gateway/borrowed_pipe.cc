#include "gateway/borrowed_pipe.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>

namespace sluice::gateway {
namespace {

constexpr unsigned kFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

}  // namespace

Received BorrowedPipe::fill(Transport& source, std::size_t most) {
  if (!pipe_) pipe_ = pool_->borrow();
  if (!pipe_) return {ReadResult::full};
  const ssize_t got =
      ::splice(source.fd(), nullptr, pipe_->write_end(), nullptr, std::min(most, kChunk), kFlags);
  if (got > 0) {
    bytes_ = static_cast<std::size_t>(got);
    return {ReadResult::data, bytes_};
  }
  const int error = errno;
  drop();
  errno = error;
  if (got == 0) return {ReadResult::eof};
  // The pipe was empty, so it is the source that has nothing.
  return {would_block() ? ReadResult::again : ReadResult::failed};
}

Flush BorrowedPipe::drain(Transport& sink, std::uint64_t& sent) {
  while (bytes_ != 0) {
    if (!sink.may_say()) return Flush::blocked;
    const ssize_t moved = ::splice(pipe_->read_end(), nullptr, sink.fd(), nullptr, bytes_, kFlags);
    if (moved < 0 && sink.turns_to_tcp()) continue;
    if (moved < 0) return would_block() ? Flush::blocked : Flush::failed;
    bytes_ -= static_cast<std::size_t>(moved);
    sink.said(static_cast<std::size_t>(moved));
    sent += static_cast<std::uint64_t>(moved);
  }
  drop();
  return Flush::done;
}

void BorrowedPipe::drop() {
  if (!pipe_) return;
  if (bytes_ == 0) {
    pool_->give_back(std::move(*pipe_));
  } else {
    pool_->discard(std::move(*pipe_));
  }
  pipe_.reset();
  bytes_ = 0;
}

}  // namespace sluice::gateway
