#include "kernel/pins.h"

#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/abi.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

namespace fs = std::filesystem;
constexpr const char* kBpffs = "/sys/fs/bpf";

bool on_bpffs(const fs::path& path) {
  struct statfs info{};
  return ::statfs(path.c_str(), &info) == 0 &&
         static_cast<unsigned long>(info.f_type) == static_cast<unsigned long>(BPF_FS_MAGIC);
}

fs::path deepest_existing(fs::path path) {
  std::error_code ignored;
  while (!path.empty() && path != path.root_path() && !fs::exists(path, ignored))
    path = path.parent_path();
  return path;
}

}  // namespace

bool on_bpf_file_system(const std::string& root) {
  return on_bpffs(deepest_existing(root));
}

namespace {

Result<void> need_bpffs(const fs::path& root) {
  if (on_bpffs(deepest_existing(root))) return {};
  const bool ours_to_mount = root.string().starts_with(kBpffs);
  if (!ours_to_mount) {
    return std::unexpected(
        Error{message("{} is not on a bpf file system, where maps and rules are kept over "
                      "restarts; mount one there (mount -t bpf "
                      "bpf {}) or use a directory below {}",
                      root.string(), root.string(), kBpffs)});
  }
  if (::mount("bpf", kBpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0) return {};
  return std::unexpected(
      Error{message("no bpf file system is mounted at {}, and mounting it failed ({}); run "
                    "`mount -t bpf bpf {}` as root",
                    kBpffs, std::strerror(errno), kBpffs)});
}

// bpffs may be writable for everyone: whoever owns a directory above the pins could swap them.
Result<void> need_ours(const fs::path& directory, const fs::path& root) {
  for (fs::path path = directory; path.string().size() >= root.string().size();
       path = path.parent_path()) {
    struct stat info{};
    const bool known = ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    if (known && (info.st_uid == 0 || info.st_uid == ::geteuid()) &&
        ((info.st_mode & S_IWOTH) == 0 || (info.st_mode & S_ISVTX) != 0))
      continue;
    return std::unexpected(Error{
        message("{} is not a directory that only root or this user can write to; remove it, so "
                "that maps and rules cannot be exchanged by somebody else",
                path.string())});
  }
  return {};
}

bool is_same_file(int fd, const std::string& path) {
  struct stat opened{}, named{};
  return fd >= 0 && ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

// Takes the lock for as long as it works there.
bool remove_unlocked(const fs::path& directory) {
  Descriptor lock(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return false;
  std::error_code error;
  std::vector<fs::path> pins;
  for (const auto& pin : fs::directory_iterator(directory, error))
    pins.push_back(pin.path());
  for (const auto& pin : pins)
    ::unlink(pin.c_str());
  return ::rmdir(directory.c_str()) == 0;
}

std::uint64_t severed_or_inode(const fs::path& link) {
  Descriptor fd(bpf_obj_get(link.c_str()));
  if (!fd) return 1;  // not a link that we can judge: leave it
  bpf_link_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0 || info.type != BPF_LINK_TYPE_NETNS)
    return 1;
  return info.netns.netns_ino;
}

}  // namespace

std::uint64_t netns_inode() {
  struct stat info{};
  return ::stat("/proc/thread-self/ns/net", &info) == 0 ? info.st_ino : 0;
}

std::string pin_directory_path(const std::string& pin_root, std::uint32_t version) {
  return message("{}/{}/{}", pin_root, version, netns_inode());
}

Result<PinDirectory> PinDirectory::open(const std::string& pin_root, std::uint32_t version,
                                        int held) {
  if (auto ok = need_bpffs(pin_root); !ok) return std::unexpected(ok.error());
  PinDirectory directory;
  directory.netns_inode_ = kernel::netns_inode();
  directory.path_ = pin_directory_path(pin_root, version);
  std::error_code error;
  fs::create_directories(directory.path_, error);
  if (error) {
    return std::unexpected(Error{
        message("cannot create {}: {} (the user that runs sluice needs write permission there)",
                directory.path_, error.message())});
  }
  if (auto ok = need_ours(directory.path_, pin_root); !ok) return std::unexpected(ok.error());
  if (is_same_file(held, directory.path_)) {
    directory.lock_ = Descriptor(::fcntl(held, F_DUPFD_CLOEXEC, 0));
    if (directory.lock_) return directory;
  }
  directory.lock_ = Descriptor(::open(directory.path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.lock_) {
    return std::unexpected(
        Error{message("cannot open {}: {}", directory.path_, std::strerror(errno))});
  }
  if (::flock(directory.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return std::unexpected(
        Error{message("another sluice serves this network namespace ({} is locked); stop it "
                      "first, use `sluice reload`, or start both with the same --take-over",
                      directory.path_)});
  }
  return directory;
}

bool PinDirectory::exists() const {
  struct stat info{};
  return ::stat(path_.c_str(), &info) == 0;
}

Descriptor PinDirectory::get(const std::string& name) const {
  return Descriptor(bpf_obj_get(path(name).c_str()));
}

Result<void> PinDirectory::pin(int fd, const std::string& name) const {
  ::unlink(path(name).c_str());
  if (bpf_obj_pin(fd, path(name).c_str()) == 0) return {};
  return std::unexpected(Error{message("cannot pin {}: {}", path(name), std::strerror(errno))});
}

bool PinDirectory::remove(const std::string& name) const {
  return ::unlink(path(name).c_str()) == 0;
}

std::vector<Descriptor> PinDirectory::of_other_versions(const std::string& name) const {
  const fs::path here(path_);
  const fs::path version = here.parent_path();
  std::vector<Descriptor> found;
  std::error_code error;
  for (const auto& other : fs::directory_iterator(version.parent_path(), error)) {
    if (other.path() == version) continue;
    const fs::path pin = other.path() / here.filename() / name;
    if (Descriptor fd(bpf_obj_get(pin.c_str())); fd) found.push_back(std::move(fd));
  }
  return found;
}

std::vector<std::string> remove_pins(const std::string& pin_root, const std::string& name_prefix) {
  std::vector<std::string> removed;
  const fs::path directory = pin_directory_path(pin_root);
  std::error_code error;
  std::vector<fs::path> pins;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().filename().string().starts_with(name_prefix)) pins.push_back(entry.path());
  }
  for (const auto& pin : pins) {
    if (::unlink(pin.c_str()) == 0) removed.push_back("pin " + pin.string());
  }
  // rmdir takes empty directories only, so what others keep there stays.
  for (fs::path path = directory; ::rmdir(path.c_str()) == 0; path = path.parent_path()) {
    removed.push_back("directory " + path.string());
    if (path == fs::path(pin_root)) break;
  }
  return removed;
}

std::vector<std::string> remove_other_versions(const std::string& pin_root, std::uint32_t version) {
  std::vector<std::string> removed;
  std::error_code error;
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(pin_root, error)) {
    const fs::path directory = entry.path() / std::to_string(netns_inode());
    if (entry.path().filename() != std::to_string(version) && fs::is_directory(directory, error))
      others.push_back(directory);
  }
  for (const auto& directory : others) {
    if (!remove_unlocked(directory)) continue;
    removed.push_back("directory " + directory.string());
    ::rmdir(directory.parent_path().c_str());
  }
  return removed;
}

void remove_stale_namespaces(const std::string& pin_root) {
  const fs::path version = fs::path(pin_directory_path(pin_root)).parent_path();
  std::error_code error;
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(version, error)) {
    const fs::path link = entry.path() / "steer_link";
    if (fs::exists(link, error) && severed_or_inode(link) == 0) stale.push_back(entry.path());
  }
  for (const auto& path : stale)
    remove_unlocked(path);
}

}  // namespace sluice::kernel
