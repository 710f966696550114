#include "gateway/control/state_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <system_error>
#include <unistd.h>

#include "kernel/keeper_protocol.h"

namespace sluice::gateway {
namespace {

using kernel::protocol::OwnedFd;

std::unexpected<std::string> last_error(const std::string& path) {
  return std::unexpected(path + ": " + std::strerror(errno));
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return true;
}

}  // namespace

std::expected<void, std::string> write_state_file(const std::string& path, std::string_view bytes) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  const std::string temporary = path + ".new";
  OwnedFd fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return last_error(temporary);
  const bool written = write_all(fd.get(), bytes) && ::fsync(fd.get()) == 0 &&
                       std::rename(temporary.c_str(), path.c_str()) == 0;
  if (written) {
    // The name as well; what cannot be asked for (some network file systems) is no failure.
    const OwnedFd directory(::open(std::filesystem::path(path).parent_path().c_str(),
                                   O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory) (void)::fsync(directory.get());
    return {};
  }
  const auto why = last_error(path);
  ::unlink(temporary.c_str());
  return why;
}

std::expected<std::optional<std::string>, std::string> read_state_file(const std::string& path,
                                                                       std::size_t limit) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return std::nullopt;
  if (!fd) return last_error(path);
  std::string bytes;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t size = ::read(fd.get(), buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return last_error(path);
    if (size == 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(size));
    if (bytes.size() > limit) return std::unexpected(path + ": too long");
  }
}

}  // namespace sluice::gateway
