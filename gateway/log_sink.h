// Where log lines go: a file, a pipe or a socket that somebody else may share, read slowly, or not
// at all.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>

namespace sluice::gateway {

// Writes as much as `fd` takes without blocking, and waits for room for `patience_ms` altogether;
// returns how many bytes went. errno says why when not all did (EAGAIN: nobody reads). The
// descriptor may be blocking: its flags are its owner's, and shared with other processes.
std::size_t write_patiently(int fd, std::string_view bytes, int patience_ms);

// Closes what it opened.
class LogSink {
 public:
  // "" and "stderr", "stdout", or a file. A named pipe that nobody reads is refused, not waited for.
  static std::expected<LogSink, std::string> open(const std::string& path);
  LogSink() = default;
  LogSink(LogSink&& other) noexcept;
  LogSink& operator=(LogSink&& other) noexcept;
  ~LogSink();

  std::size_t write(std::string_view bytes, int patience_ms) const {
    return write_patiently(fd_, bytes, patience_ms);
  }
  // Whether both write to one file or pipe.
  bool same_place(const LogSink& other) const;

 private:
  LogSink(int fd, bool owned) : fd_(fd), owned_(owned) {}
  int fd_ = -1;
  bool owned_ = false;
};

}  // namespace sluice::gateway
