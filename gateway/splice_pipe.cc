#include "gateway/splice_pipe.h"

#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace sluice::gateway {

namespace {
constexpr int kWantedCapacity = 1024 * 1024;
}

std::optional<SplicePipe> SplicePipe::create() {
  int ends[2];
  if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return std::nullopt;
  // EPERM above the user's soft limit of pipe pages: the pipe stays as small as the kernel made it,
  // and works.
  ::fcntl(ends[1], F_SETPIPE_SZ, kWantedCapacity);
  const int capacity = ::fcntl(ends[1], F_GETPIPE_SZ);
  return SplicePipe(ends[0], ends[1], capacity > 0 ? static_cast<std::size_t>(capacity) : 4096);
}

SplicePipe::SplicePipe(SplicePipe&& other) noexcept
    : read_end_(std::exchange(other.read_end_, -1)),
      write_end_(std::exchange(other.write_end_, -1)),
      capacity_(other.capacity_) {}

SplicePipe& SplicePipe::operator=(SplicePipe&& other) noexcept {
  std::swap(read_end_, other.read_end_);
  std::swap(write_end_, other.write_end_);
  std::swap(capacity_, other.capacity_);
  return *this;
}

SplicePipe::~SplicePipe() {
  if (read_end_ >= 0) ::close(read_end_);
  if (write_end_ >= 0) ::close(write_end_);
}

SplicePipePool::SplicePipePool(std::size_t keep) : keep_(keep) {
  unused_.reserve(keep);
}

std::optional<SplicePipe> SplicePipePool::borrow() {
  std::optional<SplicePipe> pipe;
  if (lent_ == kMostLent) return pipe;
  if (unused_.empty()) {
    pipe = SplicePipe::create();
  } else {
    pipe.emplace(std::move(unused_.back()));
    unused_.pop_back();
  }
  if (pipe) ++lent_;
  return pipe;
}

void SplicePipePool::give_back(SplicePipe pipe) {
  --lent_;
  if (unused_.size() < keep_) unused_.push_back(std::move(pipe));
}

void SplicePipePool::discard(SplicePipe pipe) {
  --lent_;
  const SplicePipe closed = std::move(pipe);
}

}  // namespace sluice::gateway
