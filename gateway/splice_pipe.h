// Pipes for splice(2), borrowed from a worker's pool while bytes are in flight, so that an idle
// connection holds none.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace sluice::gateway {

// Both ends of a non-blocking pipe; closes them. Move only.
class SplicePipe {
 public:
  // Nullopt when no pipe can be had (descriptor limit, memory): the caller then copies instead.
  // Raises the capacity to 1 MiB where /proc/sys/fs/pipe-max-size and pipe-user-pages-soft
  // (pipe(7)) allow it.
  static std::optional<SplicePipe> create();

  SplicePipe(SplicePipe&& other) noexcept;
  SplicePipe& operator=(SplicePipe&& other) noexcept;
  ~SplicePipe();

  int read_end() const { return read_end_; }
  int write_end() const { return write_end_; }
  std::size_t capacity() const { return capacity_; }  // bytes, as F_GETPIPE_SZ says

 private:
  SplicePipe(int read_end, int write_end, std::size_t capacity)
      : read_end_(read_end), write_end_(write_end), capacity_(capacity) {}

  int read_end_ = -1;
  int write_end_ = -1;
  std::size_t capacity_ = 0;
};

// One per worker; not thread safe. Keeps at most `keep` unused pipes open (two descriptors each),
// and lends at most kMostLent: peers that do not read must not use up the descriptors.
class SplicePipePool {
 public:
  static constexpr std::size_t kMostLent = 256;

  explicit SplicePipePool(std::size_t keep = 16);

  std::optional<SplicePipe> borrow();
  void give_back(
      SplicePipe pipe);           // must be empty: bytes left in it would reach another connection
  void discard(SplicePipe pipe);  // one with bytes in it: closes it

  std::size_t lent() const { return lent_; }
  std::size_t unused() const { return unused_.size(); }

 private:
  std::vector<SplicePipe> unused_;
  std::size_t keep_;
  std::size_t lent_ = 0;
};

}  // namespace sluice::gateway
