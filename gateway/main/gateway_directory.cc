#include "gateway/main/gateway_directory.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/main/sandbox.h"
#include "kernel/keeper_protocol.h"
#include "policy/ai_providers.h"

namespace sluice::control {
namespace {

constexpr mode_t kStateMode = 0711;  // files in it say for themselves who may read them
constexpr mode_t kSharedMode = 0770;
constexpr mode_t kOwnMode = 0700;

// What this thread makes is of the group, and may be given to it, which takes no CAP_CHOWN: a node
// is kept safer by a keeper that cannot give its files away.
class AsGroup {
 public:
  explicit AsGroup(gid_t group) : before_(static_cast<gid_t>(::setfsgid(group))) {}
  ~AsGroup() { ::setfsgid(before_); }
  AsGroup(const AsGroup&) = delete;
  AsGroup& operator=(const AsGroup&) = delete;

 private:
  gid_t before_;
};

std::unexpected<std::string> no_directory(const std::string& path) {
  return std::unexpected(path + ": " + std::strerror(errno));
}

std::expected<void, std::string> make_state_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  if (::mkdir(path.c_str(), kStateMode) == 0) {
    if (::chmod(path.c_str(), kStateMode) != 0) return no_directory(path);  // whatever the umask
  } else if (errno != EEXIST) {
    return no_directory(path);
  }
  return {};
}

// By its descriptor, so that what is changed is a directory and no link to elsewhere.
std::expected<void, std::string> make_group_directory(const std::string& path, gid_t group,
                                                      mode_t mode) {
  if (::mkdir(path.c_str(), kOwnMode) != 0 && errno != EEXIST) return no_directory(path);
  const kernel::protocol::OwnedFd fd(
      ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return no_directory(path);
  if (status.st_gid != group && ::fchown(fd.get(), static_cast<uid_t>(-1), group) != 0)
    return no_directory(path);
  if ((status.st_mode & 07777) != mode && ::fchmod(fd.get(), mode) != 0) return no_directory(path);
  return {};
}

}  // namespace

std::expected<void, std::string> make_gateway_directory(const std::string& state_dir,
                                                        const std::string& user) {
  if (auto made = make_state_directory(state_dir); !made) return made;
  const std::string path = policy::gateway_directory(state_dir);
  if (user.empty()) return make_group_directory(path, ::getegid(), kOwnMode);
  const auto group = group_of(user);
  if (!group) return std::unexpected(group.error());
  const AsGroup as_group(*group);
  return make_group_directory(path, *group, kSharedMode);
}

}  // namespace sluice::control
