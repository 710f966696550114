// Notices that the policy, or a file that it names, may have changed on disk.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

namespace sluice::gateway {

// Watches files or directories by inotify: writes, editors that rename a new file over the old
// one, files that come and go, and the swap of a ConfigMap's `..data`. What inotify does not tell
// (a symlinked directory of the path is swapped, no watches left), it sees once a second by stat.
class PolicyWatcher {
 public:
  // `changed` is called on `io`'s thread, about 50 ms after the first sign of a change. It may be
  // called when nothing that matters has changed: compare what you read.
  PolicyWatcher(boost::asio::io_context& io, std::string path, std::function<void()> changed);
  PolicyWatcher(boost::asio::io_context& io, std::vector<std::string> paths,
                std::function<void()> changed);
  ~PolicyWatcher();
  PolicyWatcher(const PolicyWatcher&) = delete;
  PolicyWatcher& operator=(const PolicyWatcher&) = delete;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
