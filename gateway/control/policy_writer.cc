#include "gateway/control/policy_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/control/policy_source.h"

namespace sluice::gateway {
namespace {

namespace fs = std::filesystem;
using kernel::protocol::OwnedFd;

std::unexpected<std::string> failure(const std::string& path) {
  const char* hint = errno == EROFS || errno == EACCES
                         ? "; change the policy where it comes from, `sluice reload` does the rest"
                         : "";
  return std::unexpected(path + ": " + std::strerror(errno) + hint);
}

std::expected<void, std::string> write_all(int fd, const std::string& path,
                                           std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failure(path);
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

std::expected<void, std::string> write_through(const std::string& path, std::string_view bytes,
                                               mode_t mode) {
  const OwnedFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return failure(path);
  ::fchmod(fd.get(), mode);
  if (auto written = write_all(fd.get(), path, bytes); !written) return written;
  if (::fsync(fd.get()) != 0) return failure(path);
  return {};
}

// A link (a ConfigMap's key, configuration management) is followed: its target is replaced.
std::string resolved(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real.string();
}

// What keeps another file from taking this one's place.
struct Hold {
  bool mount = false;
  bool immutable = false;
};

Hold hold_of(const std::string& path) {
  struct statx status {};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) != 0) return {};
  return {.mount = (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0,
          .immutable = (status.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0};
}

std::unexpected<std::string> is_immutable(const std::string& path) {
  return std::unexpected(path +
                         " is immutable (chattr); change the policy where it comes from, "
                         "`sluice reload` does the rest");
}

mode_t mode_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0600;
}

}  // namespace

std::expected<std::vector<policy::PolicyFile>, std::string> placed_at(
    const std::string& path, std::vector<policy::PolicyFile> files) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (files.size() != 1)
      return std::unexpected(path + " is one file, and the new policy has " +
                             std::to_string(files.size()));
    files.front().name = path;
    return files;
  }
  for (auto& file : files)
    file.name = (fs::path(path) / fs::path(file.name).filename()).string();
  std::ranges::sort(files, {}, &policy::PolicyFile::name);
  const auto twice = std::ranges::adjacent_find(files, {}, &policy::PolicyFile::name);
  if (twice != files.end()) return std::unexpected(twice->name + ": two files of this name");
  return files;
}

std::expected<PolicyWriter, std::string> PolicyWriter::prepare(
    const std::string& path, const std::vector<policy::PolicyFile>& placed) {
  std::error_code error;
  const bool directory = fs::is_directory(path, error);
  if (directory && fs::exists(fs::path(path) / "..data", error))
    return std::unexpected(path + " is a ConfigMap's mount: change the ConfigMap");
  PolicyWriter writer;
  for (const auto& file : placed) {
    if (auto added = writer.add(resolved(file.name), file.text); !added)
      return std::unexpected(added.error());
  }
  if (!directory) return writer;
  if (const auto there = read_policy(path)) {
    for (const auto& file : *there) {
      if (std::ranges::find(placed, file.name, &policy::PolicyFile::name) != placed.end()) continue;
      const Hold hold = hold_of(file.name);
      if (hold.immutable) return is_immutable(file.name);
      if (hold.mount)
        return std::unexpected(file.name + " is a mount of its own and cannot be taken away");
      writer.gone_.push_back(file.name);
    }
  }
  return writer;
}

std::expected<void, std::string> PolicyWriter::add(const std::string& target,
                                                   const std::string& text) {
  const Hold hold = hold_of(target);
  if (hold.immutable) return is_immutable(target);
  if (hold.mount) {
    OwnedFd file(::open(target.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return failure(target);
    // Its room is taken now: what is there is overwritten later.
    const auto size = static_cast<off_t>(text.size());
    if (::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, size) != 0 && errno == ENOSPC)
      return failure(target);
    in_place_.push_back({std::move(file), target, text});
    return {};
  }
  const fs::path parts(target);
  const std::string hidden =
      (parts.parent_path() / (".sluice-new-" + parts.filename().string())).string();
  if (auto written = write_through(hidden, text, mode_of(target)); !written) return written;
  moves_.emplace_back(hidden, target);
  return {};
}

PolicyWriter::~PolicyWriter() {
  for (const auto& [from, to] : moves_)
    ::unlink(from.c_str());
}

std::expected<void, std::string> PolicyWriter::commit() {
  for (const auto& [from, to] : moves_) {
    if (std::rename(from.c_str(), to.c_str()) != 0) return failure(to);
  }
  moves_.clear();
  for (const auto& [file, path, text] : in_place_) {
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return failure(path);
    if (auto written = write_all(file.get(), path, text); !written) return written;
    if (::ftruncate(file.get(), static_cast<off_t>(text.size())) != 0) return failure(path);
    if (::fsync(file.get()) != 0) return failure(path);
  }
  in_place_.clear();
  for (const auto& path : gone_)
    ::unlink(path.c_str());
  return {};
}

}  // namespace sluice::gateway
