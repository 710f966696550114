// This node's Pods, watched by this process: the one that there is, or the keeper's helper.
#pragma once

#include <functional>
#include <string>

#include <boost/asio/io_context.hpp>

#include "gateway/kubernetes/pod_watch.h"
#include "gateway/tls/contexts.h"
#include "gateway/tls/material.h"
#include "policy/config/kubernetes.h"

namespace sluice::control {

// One thread.
class LocalPods {
 public:
  // `heard`: as PodWatch.
  LocalPods(boost::asio::io_context& io, std::function<void(std::string)> heard)
      : watch_(io, std::move(heard)) {}

  // `material`: with the token and the authority; may be null. What cannot be is logged.
  void follow(const policy::KubernetesConfig& kubernetes,
              const gateway::tls::MaterialPtr& material, std::uint32_t own_mark);
  void stop() { watch_.stop(); }
  bool running() const { return watch_.running(); }
  gateway::kubernetes::WatchCounts counts() const { return watch_.counts(); }

 private:
  gateway::tls::TicketKeys tickets_;
  gateway::tls::ContextsPtr contexts_;
  gateway::kubernetes::PodWatch watch_;
};

}  // namespace sluice::control
