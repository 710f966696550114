// Notices that the policy may have changed on disk.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

namespace sluice::gateway {

// Watches the file or directory by inotify: writes, editors that rename a new file over the old
// one, files that come and go, and the swap of a ConfigMap's `..data`. Where inotify cannot help
// (the path is gone, no watches left), it looks once a second.
class PolicyWatcher {
 public:
  // `changed` is called on `io`'s thread, about 50 ms after the first sign of a change. It may be
  // called when nothing that matters has changed: compare what you read.
  PolicyWatcher(boost::asio::io_context& io, std::string path, std::function<void()> changed);
  ~PolicyWatcher();
  PolicyWatcher(const PolicyWatcher&) = delete;
  PolicyWatcher& operator=(const PolicyWatcher&) = delete;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
