#include "gateway/control/policy_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "kernel/keeper_protocol.h"

namespace sluice::gateway {
namespace {

using kernel::protocol::OwnedFd;

std::unexpected<std::string> file_failure(const std::string& path, const std::string& what) {
  return std::unexpected(path + ": " + what);
}

std::string too_long() {
  return "the policy is longer than " + std::to_string(kMaxPolicyBytes >> 20) + " MiB";
}

// Reads at most `limit` bytes; regular files only, so that a FIFO or a device cannot hang the
// reload. The error is without the path.
std::expected<std::string, std::string> read_file(const std::string& path, std::size_t limit,
                                                  const std::string& too_long) {
  const auto last_error = [] { return std::unexpected(std::string(std::strerror(errno))); };
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return last_error();
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return last_error();
  if (!S_ISREG(status.st_mode)) return std::unexpected("not a regular file");

  std::string text;
  text.reserve(std::min(static_cast<std::size_t>(status.st_size), limit));
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t size = ::read(fd.get(), buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return last_error();
    if (size == 0) return text;
    text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > limit) return std::unexpected(too_long);
  }
}

bool is_policy_name(const std::string& name) {
  return !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
}

std::expected<std::vector<std::string>, std::string> list_directory(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end;
       it.increment(error)) {
    std::string name = it->path().filename().string();
    if (!is_policy_name(name)) continue;
    names.push_back(std::move(name));
    if (names.size() > kMaxPolicyFiles)
      return file_failure(path, "more than " + std::to_string(kMaxPolicyFiles) + " policy files");
  }
  if (error) return file_failure(path, error.message());
  if (names.empty()) return file_failure(path, "no *.yaml file in this directory");
  std::ranges::sort(names);
  return names;
}

}  // namespace

std::expected<std::vector<policy::PolicyFile>, std::string> read_policy(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return file_failure(path, std::strerror(errno));

  std::vector<std::string> paths{path};
  if (S_ISDIR(status.st_mode)) {
    auto names = list_directory(path);
    if (!names) return std::unexpected(names.error());
    paths.clear();
    for (const auto& name : *names)
      paths.push_back((std::filesystem::path(path) / name).string());
  }

  std::vector<policy::PolicyFile> files;
  std::size_t left = kMaxPolicyBytes;
  for (auto& file : paths) {
    auto text = read_file(file, left, too_long());
    if (!text) return file_failure(file, text.error());
    left -= text->size();
    files.push_back({file, std::move(*text)});
  }
  return files;
}

std::expected<std::string, std::string> read_set_file(const std::string& path) {
  return read_file(path, kMaxSetFileBytes,
                   "longer than " + std::to_string(kMaxSetFileBytes >> 20) + " MiB");
}

}  // namespace sluice::gateway
