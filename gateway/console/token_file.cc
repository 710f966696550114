#include "gateway/console/token_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/keeper_protocol.h"

namespace sluice::gateway {

std::expected<std::string, std::string> read_token_file(const std::string& path) {
  constexpr std::size_t kLeast = 16;  // characters
  constexpr std::size_t kMost = 512;
  const kernel::protocol::OwnedFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return std::unexpected(std::strerror(errno));
  struct stat status {};
  std::string token(kMost + 2, '\0');
  const bool known = ::fstat(file.get(), &status) == 0;
  const ssize_t size = ::read(file.get(), token.data(), token.size());
  if (!known || size < 0) return std::unexpected("it cannot be read");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return std::unexpected("others may read it; chmod 600 it");
  token.resize(static_cast<std::size_t>(size));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r'))
    token.pop_back();
  if (token.size() < kLeast || token.size() > kMost)
    return std::unexpected("a token has 16 to 512 characters; `openssl rand -hex 16` makes one");
  return token;
}

}  // namespace sluice::gateway
