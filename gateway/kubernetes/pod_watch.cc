#include "gateway/kubernetes/pod_watch.h"

#include <utility>

#include <boost/asio/post.hpp>

namespace sluice::gateway::kubernetes {

PodWatch::PodWatch(boost::asio::io_context& io, std::function<void(std::string)> heard)
    : io_(io), heard_(std::move(heard)) {}

void PodWatch::follow(const std::string& node, const ApiServer& server) {
  if (watch_ && node == node_) return watch_->use(server);
  node_ = node;
  watch_ = std::make_unique<Watch>(
      io_,
      WatchOptions{.path = "/api/v1/pods",
                   .selector = "fieldSelector=" + percent_encoded("spec.nodeName=" + node),
                   .name = "pods of node " + node},
      server,
      Watch::Events{.listed =
                        [this](const boost::json::array& items) {
                          pods_.replace(items);
                          changed();
                        },
                    .put =
                        [this](const boost::json::object& item) {
                          pods_.put(item);
                          changed();
                        },
                    .removed =
                        [this](const boost::json::object& item) {
                          pods_.remove(item);
                          changed();
                        }});
}

void PodWatch::stop() {
  watch_.reset();
  told_.reset();
}

// Events that come together are one change.
void PodWatch::changed() {
  if (std::exchange(change_posted_, true)) return;
  boost::asio::post(io_, [this, alive = alive_] {
    if (!*alive) return;
    change_posted_ = false;
    std::string text = policy::to_text(pods_.addressed());
    if (!watch_ || told_ == text) return;
    told_ = text;
    heard_(std::move(text));
  });
}

}  // namespace sluice::gateway::kubernetes
