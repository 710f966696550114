#include "gateway/log_sink.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace sluice::gateway {

namespace {

using Clock = std::chrono::steady_clock;

// How much one call may be given so that it does not block: a pipe that is writable takes PIPE_BUF
// (pipe(7)), a terminal likewise; a file takes all.
std::size_t most_at_once(mode_t mode) {
  return S_ISREG(mode) ? SSIZE_MAX : PIPE_BUF;
}

ssize_t write_some(int fd, bool socket, std::string_view bytes) {
  if (socket) return ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return ::write(fd, bytes.data(), bytes.size());
}

bool wait_for_room(int fd, Clock::time_point until) {
  pollfd wait{fd, POLLOUT, 0};
  int ready = 0;
  do {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    ready = ::poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) errno = EAGAIN;
  return ready > 0;
}

}  // namespace

std::size_t write_patiently(int fd, std::string_view bytes, int patience_ms) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return 0;
  const bool socket = S_ISSOCK(status.st_mode);
  const std::size_t most = most_at_once(status.st_mode);
  const Clock::time_point until = Clock::now() + std::chrono::milliseconds(patience_ms);
  std::size_t done = 0;
  while (done < bytes.size()) {
    if (!S_ISREG(status.st_mode) && !wait_for_room(fd, until)) break;
    const ssize_t written = write_some(fd, socket, bytes.substr(done, most));
    if (written > 0) {
      done += static_cast<std::size_t>(written);
    } else if (errno != EINTR && errno != EAGAIN) {
      break;
    }
  }
  return done;
}

std::expected<LogSink, std::string> LogSink::open(const std::string& path) {
  if (path.empty() || path == "stderr") return LogSink(STDERR_FILENO, false);
  if (path == "stdout") return LogSink(STDOUT_FILENO, false);
  const int fd =
      ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  if (fd >= 0) return LogSink(fd, true);
  const int error = errno;
  if (error == ENXIO) {
    return std::unexpected("access log " + path +
                           ": a pipe or device that nobody reads; start its reader first");
  }
  return std::unexpected("access log " + path + ": " + std::generic_category().message(error) +
                         "; give a file that may be written, \"stdout\" or \"stderr\"");
}

bool LogSink::same_place(const LogSink& other) const {
  struct stat ours {};
  struct stat theirs {};
  return ::fstat(fd_, &ours) == 0 && ::fstat(other.fd_, &theirs) == 0 &&
         ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

LogSink::LogSink(LogSink&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), owned_(other.owned_) {}

LogSink& LogSink::operator=(LogSink&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(owned_, other.owned_);
  return *this;
}

LogSink::~LogSink() {
  if (owned_ && fd_ >= 0) ::close(fd_);
}

}  // namespace sluice::gateway
