#include "gateway/control/last_good.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "gateway/control/policy_source.h"
#include "kernel/keeper_protocol.h"

namespace sluice::gateway {
namespace {

using kernel::protocol::OwnedFd;

constexpr std::string_view kMagic = "sluice-policy-bundle 1\n";

void append_size(std::string& out, std::size_t size) {
  for (int shift = 0; shift < 32; shift += 8)
    out.push_back(static_cast<char>((size >> shift) & 0xff));
}

std::optional<std::string_view> take(std::string_view& bytes) {
  if (bytes.size() < 4) return std::nullopt;
  std::uint32_t size = 0;
  for (int i = 0; i < 4; ++i)
    size |=
        static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]))
        << (8 * i);
  bytes.remove_prefix(4);
  if (size > bytes.size()) return std::nullopt;
  const std::string_view value = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return value;
}

std::expected<void, std::string> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(std::string(std::strerror(errno)));
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

}  // namespace

std::string bundle_policy(const std::vector<policy::PolicyFile>& files) {
  std::string out(kMagic);
  for (const auto& file : files) {
    append_size(out, file.name.size());
    out += file.name;
    append_size(out, file.text.size());
    out += file.text;
  }
  return out;
}

std::optional<std::vector<policy::PolicyFile>> unbundle_policy(std::string_view bytes) {
  if (!bytes.starts_with(kMagic)) return std::nullopt;
  bytes.remove_prefix(kMagic.size());
  std::vector<policy::PolicyFile> files;
  while (!bytes.empty()) {
    const auto path = take(bytes);
    if (!path) return std::nullopt;
    const auto text = take(bytes);
    if (!text || files.size() == kMaxPolicyFiles) return std::nullopt;
    files.push_back({std::string(*path), std::string(*text)});
  }
  if (files.empty()) return std::nullopt;
  return files;
}

LastGood::LastGood(const std::string& state_dir)
    : directory_(state_dir),
      path_((std::filesystem::path(state_dir) / "last-good.policy").string()) {}

std::expected<void, std::string> LastGood::save(
    const std::vector<policy::PolicyFile>& files) const {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  const std::string temporary = path_ + ".new";
  OwnedFd fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return std::unexpected(temporary + ": " + std::strerror(errno));
  auto written = write_all(fd.get(), bundle_policy(files));
  // Written through before it takes the old one's place: after a power cut one of the two is whole.
  if (written && ::fsync(fd.get()) != 0)
    written = std::unexpected(std::string(std::strerror(errno)));
  fd.reset();
  if (written && std::rename(temporary.c_str(), path_.c_str()) != 0)
    written = std::unexpected(std::string(std::strerror(errno)));
  if (written) return {};
  ::unlink(temporary.c_str());
  return std::unexpected(path_ + ": " + written.error());
}

std::expected<std::vector<policy::PolicyFile>, std::string> LastGood::load() const {
  const OwnedFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return std::unexpected(path_ + ": " + std::strerror(errno));
  std::string bytes;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t size = ::read(fd.get(), buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(path_ + ": " + std::strerror(errno));
    if (size == 0) break;
    bytes.append(buffer, static_cast<std::size_t>(size));
    if (bytes.size() > 2 * kMaxPolicyBytes) return std::unexpected(path_ + ": too long");
  }
  auto files = unbundle_policy(bytes);
  if (!files) return std::unexpected(path_ + ": not a policy that sluice kept, or damaged");
  return std::move(*files);
}

}  // namespace sluice::gateway
