#include "gateway/main/sealed_memory.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <span>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace sluice::control {
namespace {

std::optional<std::size_t> size_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return std::nullopt;
  return static_cast<std::size_t>(status.st_size);
}

bool read_into(int fd, std::span<char> bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t size = ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (size <= 0) return false;
    at += static_cast<std::size_t>(size);
  }
  return true;
}

}  // namespace

std::expected<kernel::protocol::OwnedFd, std::string> sealed_memory(const char* name,
                                                                    std::string_view bytes) {
  kernel::protocol::OwnedFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return std::unexpected(std::string("memfd_create: ") + std::strerror(errno));
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd.get(), bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(std::string("memfd: ") + std::strerror(errno));
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  return fd;
}

std::expected<gateway::tls::Secret, std::string> read_memory(int fd) {
  const auto size = size_of(fd);
  if (!size) return std::unexpected(std::strerror(errno));
  std::vector<char> bytes(*size);
  if (!read_into(fd, bytes)) return std::unexpected("cannot be read");
  return gateway::tls::Secret(std::move(bytes));
}

std::string read_memory_text(int fd, std::size_t limit) {
  const auto size = size_of(fd);
  if (!size || *size > limit) return {};
  std::string bytes(*size, '\0');
  return read_into(fd, bytes) ? bytes : std::string();
}

}  // namespace sluice::control
