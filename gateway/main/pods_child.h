// Who watches this node's Pods for the keeper: a process of its own. It reads from the network, so it
// is not the keeper; and it is not the gateway, which strangers talk to, and which once broken into
// could call whom it likes a pod.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/kubernetes/watch.h"
#include "gateway/main/gateway_child.h"
#include "gateway/metrics_samples.h"
#include "gateway/tls/material.h"
#include "policy/config.h"

namespace sluice::control {

// Some set of the policy is of pods.
bool names_pods(const policy::Config& config);

// The policy's `kubernetes`, on its way to that process.
struct PodsQuestion {
  policy::KubernetesConfig kubernetes;
  std::uint32_t own_mark = 0;
};
std::string to_json(const PodsQuestion& question);
std::optional<PodsQuestion> read_pods_question(std::string_view json);

std::string to_json(const gateway::kubernetes::WatchCounts& counts);
std::optional<gateway::kubernetes::WatchCounts> read_watch_counts(std::string_view json);

// One thread.
class PodsChild {
 public:
  static constexpr std::size_t kMaxText = 16UL << 20;
  // What its Reply messages answer.
  static constexpr std::uint64_t kPods = 1;
  static constexpr std::uint64_t kCounts = 2;

  // `heard`: pods as policy::to_text() writes them.
  PodsChild(boost::asio::io_context& io, std::string user, std::function<void(std::string)> heard);
  ~PodsChild();

  // The policy in force. Where it names no pods, nobody runs.
  void follow(const policy::Config& config, gateway::tls::MaterialPtr material,
              std::uint32_t own_mark);
  void child_signal();  // call on SIGCHLD
  // Ends it, because another program may take this one's place; where that does not happen, the next
  // one is started soon.
  void rest();
  void stop();
  std::vector<gateway::MetricSample> samples() const;

 private:
  void start();
  void start_after(std::chrono::milliseconds pause);
  void ask();
  void received(kernel::protocol::Received message);

  boost::asio::io_context& io_;
  std::string user_;
  std::function<void(std::string)> heard_;
  std::optional<PodsQuestion> question_;
  gateway::tls::MaterialPtr material_;
  std::unique_ptr<GatewayChild> child_;
  std::string pieces_;
  gateway::kubernetes::WatchCounts counts_;
  std::chrono::milliseconds pause_;
  boost::asio::steady_timer timer_;
};

}  // namespace sluice::control
