#include "gateway/control/policy_watcher.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/log.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kDebounce = 50ms;  // an editor's save and a ConfigMap's swap are several events
constexpr auto kPoll = 1s;

constexpr std::uint32_t kDirectoryEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM |
                                           IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF;
// The file itself too: a bind-mounted file's directory, as we see it, is not the one it is written
// in.
constexpr std::uint32_t kFileEvents = IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Every place where a change of the policy would show: the path, its directory, and behind each
// symlink the same again.
std::set<std::string> places(const std::string& policy) {
  std::set<std::string> out;
  fs::path path = fs::path(policy).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "dir/"
  for (int links = 0; links < 8; ++links) {
    out.insert(directory_of(path).string());
    out.insert(path.string());
    std::error_code error;
    if (!fs::is_symlink(path, error)) break;
    const fs::path target = fs::read_symlink(path, error);
    if (error) break;
    path = (target.is_absolute() ? target : directory_of(path) / target).lexically_normal();
  }
  return out;
}

// What a stat can tell, for what inotify does not: a directory of the path that is a symlink and
// points elsewhere now, a mount over it, another machine's write.
std::string fingerprint_of(const std::string& path) {
  struct stat s{};
  if (::stat(path.c_str(), &s) != 0) return "";
  return std::to_string(s.st_dev) + ':' + std::to_string(s.st_ino) + ':' +
         std::to_string(s.st_mtim.tv_sec) + '.' + std::to_string(s.st_mtim.tv_nsec);
}

std::set<std::string> places(const std::vector<std::string>& paths) {
  std::set<std::string> out;
  for (const std::string& path : paths)
    out.merge(places(path));
  return out;
}

std::string fingerprint_of(const std::vector<std::string>& paths) {
  std::string out;
  for (const std::string& path : paths)
    out += fingerprint_of(path) + ' ';
  return out;
}

}  // namespace

struct PolicyWatcher::State : std::enable_shared_from_this<PolicyWatcher::State> {
  State(asio::io_context& context, std::vector<std::string> watched, std::function<void()> callback)
      : paths(std::move(watched)),
        changed(std::move(callback)),
        events(context),
        timer(context),
        poll(context) {}

  void start();
  void watch_places();
  void wait();
  void read_events();
  void note_change();
  void schedule_poll();

  std::vector<std::string> paths;
  std::function<void()> changed;
  asio::posix::stream_descriptor events;
  asio::steady_timer timer;
  asio::steady_timer poll;
  std::set<int> watches;
  bool pending = false;
  bool complete = false;  // every place is watched
  std::string seen;
};

void PolicyWatcher::State::start() {
  const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd >= 0) {
    events.assign(fd);
    watch_places();
    wait();
  } else {
    log_warn("policy", "no inotify, looking at the policy once a second",
             {{"reason", std::strerror(errno)}});
  }
  seen = fingerprint_of(paths);
  schedule_poll();
}

void PolicyWatcher::State::watch_places() {
  if (!events.is_open()) return;
  std::set<int> now;
  complete = true;
  for (const auto& place : places(paths)) {
    std::error_code error;
    const bool directory = fs::is_directory(place, error);
    const int wd = ::inotify_add_watch(events.native_handle(), place.c_str(),
                                       directory ? kDirectoryEvents : kFileEvents);
    if (wd >= 0) {
      now.insert(wd);
    } else {
      complete = false;
    }
  }
  for (const int wd : watches) {
    if (!now.contains(wd)) ::inotify_rm_watch(events.native_handle(), wd);
  }
  watches = std::move(now);
}

void PolicyWatcher::State::wait() {
  events.async_wait(asio::posix::descriptor_base::wait_read,
                    [weak = weak_from_this()](const boost::system::error_code& error) {
                      const auto self = weak.lock();
                      if (error || !self) return;
                      self->read_events();
                      self->wait();
                    });
}

void PolicyWatcher::State::read_events() {
  alignas(inotify_event) std::array<char, 16 * 1024> buffer;
  bool any = false;
  for (;;) {
    const ssize_t size = ::read(events.native_handle(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    const char* at = buffer.data();
    while (at < buffer.data() + size) {
      inotify_event event{};
      std::memcpy(&event, at, sizeof event);
      // IN_IGNORED is the echo of a watch that we took away ourselves.
      if ((event.mask & IN_IGNORED) == 0) any = true;
      at += sizeof event + event.len;
    }
  }
  if (any) note_change();
}

void PolicyWatcher::State::note_change() {
  if (pending) return;
  pending = true;
  timer.expires_after(kDebounce);
  timer.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    self->pending = false;
    self->watch_places();  // before the policy is read: what changes later is an event again
    self->seen = fingerprint_of(self->paths);
    self->changed();
  });
}

void PolicyWatcher::State::schedule_poll() {
  poll.expires_after(kPoll);
  poll.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    if (!self->complete) self->watch_places();
    if (fingerprint_of(self->paths) != self->seen) self->note_change();
    self->schedule_poll();
  });
}

PolicyWatcher::PolicyWatcher(asio::io_context& io, std::string path, std::function<void()> changed)
    : PolicyWatcher(io, std::vector{std::move(path)}, std::move(changed)) {}

PolicyWatcher::PolicyWatcher(asio::io_context& io, std::vector<std::string> paths,
                             std::function<void()> changed)
    : state_(std::make_shared<State>(io, std::move(paths), std::move(changed))) {
  state_->start();
}

PolicyWatcher::~PolicyWatcher() = default;

}  // namespace sluice::gateway
