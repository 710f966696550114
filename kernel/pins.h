// The directory of bpffs that holds one network namespace's maps and links, across restarts and
// crashes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/abi.h"
#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"

namespace sluice::kernel {

using Descriptor = protocol::OwnedFd;

// False: opening a directory below `root` will have to mount one.
bool on_bpf_file_system(const std::string& root);

// <pin_root>/<ABI version>/<network namespace inode>. Holding it locks it: one keeper per
// namespace.
class PinDirectory {
 public:
  // Creates the directory; mounts bpffs at /sys/fs/bpf when the root lies there and nothing is
  // mounted. Errors: bpffs missing, no permission, or another keeper lives.
  // `held`: a descriptor that holds the lock since before an upgrade; this one keeps it.
  static Result<PinDirectory> open(const std::string& pin_root,
                                   std::uint32_t version = SLUICE_ABI_VERSION, int held = -1);

  const std::string& path() const { return path_; }
  int lock() const { return lock_.get(); }
  // Whoever has a duplicate of the descriptor keeps it locked.
  void unlock() { lock_.reset(); }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::uint64_t netns_inode() const { return netns_inode_; }
  // False once `cleanup` took the directory away: what runs is then no longer repaired.
  bool exists() const;

  // bpf_obj_get; an invalid descriptor when there is no such pin.
  Descriptor get(const std::string& name) const;
  Result<void> pin(int fd, const std::string& name) const;  // replaces an older pin of that name
  bool remove(const std::string& name) const;               // true: was there
  // The pins of that name of other ABI versions, which an upgrade has not taken away yet.
  std::vector<Descriptor> of_other_versions(const std::string& name) const;

 private:
  std::string path_;
  std::uint64_t netns_inode_ = 0;
  Descriptor lock_;
};

// Inode of the calling thread's network namespace.
std::uint64_t netns_inode();

// The directory that PinDirectory::open would use; touches nothing.
std::string pin_directory_path(const std::string& pin_root,
                               std::uint32_t version = SLUICE_ABI_VERSION);

// Removes this namespace's directories of ABI versions other than `version`, and with the pins what
// they hold in the kernel; one that a keeper has locked stays. Each line says what was removed.
std::vector<std::string> remove_other_versions(const std::string& pin_root,
                                               std::uint32_t version = SLUICE_ABI_VERSION);

// Removes the pins whose names begin with `name_prefix` ("steer_", "guard_"; "": all) from this
// namespace's directory, and the directories themselves once empty. Each line says what was
// removed.
std::vector<std::string> remove_pins(const std::string& pin_root, const std::string& name_prefix);

// Removes the directories of network namespaces that are gone (their steer_link is severed).
void remove_stale_namespaces(const std::string& pin_root);

}  // namespace sluice::kernel
