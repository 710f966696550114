// The Pods of this node, watched.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>

#include "gateway/kubernetes/node_pods.h"
#include "gateway/kubernetes/watch.h"

namespace sluice::gateway::kubernetes {

// One thread.
class PodWatch {
 public:
  // `heard`: the pods that have addresses, as policy::to_text() writes them; when that is another
  // text than before, also the first time. Not from inside of follow().
  PodWatch(boost::asio::io_context& io, std::function<void(std::string pods)> heard);
  ~PodWatch() { *alive_ = false; }

  // Those of `node` from now on; of the same one and the same server it goes on.
  void follow(const std::string& node, const ApiServer& server);
  void stop();
  bool running() const { return watch_ != nullptr; }
  WatchCounts counts() const { return watch_ ? watch_->counts() : WatchCounts{}; }

 private:
  void changed();

  boost::asio::io_context& io_;
  std::function<void(std::string)> heard_;
  std::string node_;
  NodePods pods_;
  std::unique_ptr<Watch> watch_;
  std::optional<std::string> told_;
  bool change_posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sluice::gateway::kubernetes
