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
#include "kernel/keeper_protocol.h"

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

std::expected<void, std::string> write_through(const std::string& path, std::string_view bytes,
                                               mode_t mode) {
  const OwnedFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return failure(path);
  ::fchmod(fd.get(), mode);
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd.get(), bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failure(path);
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  if (::fsync(fd.get()) != 0) return failure(path);
  return {};
}

// A link (a ConfigMap's key, configuration management) is followed: its target is replaced.
std::string resolved(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real.string();
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
    const std::string target = resolved(file.name);
    const fs::path parts(target);
    const std::string hidden =
        (parts.parent_path() / (".sluice-new-" + parts.filename().string())).string();
    if (auto written = write_through(hidden, file.text, mode_of(target)); !written)
      return std::unexpected(written.error());
    writer.moves_.emplace_back(hidden, target);
  }
  if (!directory) return writer;
  if (const auto there = read_policy(path)) {
    for (const auto& file : *there) {
      if (std::ranges::find(placed, file.name, &policy::PolicyFile::name) == placed.end())
        writer.gone_.push_back(file.name);
    }
  }
  return writer;
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
  for (const auto& path : gone_)
    ::unlink(path.c_str());
  return {};
}

}  // namespace sluice::gateway
