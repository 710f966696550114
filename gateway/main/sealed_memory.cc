#include "gateway/main/sealed_memory.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace sluice::control {

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
  struct stat status{};
  if (::fstat(fd, &status) != 0) return std::unexpected(std::strerror(errno));
  std::vector<char> bytes(static_cast<std::size_t>(status.st_size));
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t size = ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (size <= 0) return std::unexpected("cannot be read");
    at += static_cast<std::size_t>(size);
  }
  return gateway::tls::Secret(std::move(bytes));
}

}  // namespace sluice::control
