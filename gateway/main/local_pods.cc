#include "gateway/main/local_pods.h"

#include "gateway/kubernetes/find_server.h"
#include "gateway/log.h"

namespace sluice::control {

using gateway::log_error;

void LocalPods::follow(const policy::KubernetesConfig& kubernetes,
                       const gateway::tls::MaterialPtr& material, std::uint32_t own_mark) {
  const auto node = gateway::kubernetes::from_environment(kubernetes.node);
  if (!node) {
    log_error("kubernetes",
              "no node is known, so none of its pods: kubernetes.node is a variable that is not in "
              "the environment",
              {{"node", kubernetes.node}, {"where", kubernetes.where.to_string()}});
    return watch_.stop();
  }
  policy::Config config;
  config.kubernetes = kubernetes;
  static const gateway::tls::Material kNone;
  auto contexts = gateway::tls::Contexts::build(config, material ? *material : kNone, tickets_,
                                                contexts_.get());
  if (!contexts) {
    for (const auto& problem : contexts.error())
      log_error("kubernetes", problem.message);
    return;
  }
  contexts_ = std::move(*contexts);
  const auto server = gateway::kubernetes::find_server(config, contexts_->kubernetes(),
                                                       material.get(), own_mark);
  server ? watch_.follow(*node, *server) : watch_.stop();
}

}  // namespace sluice::control
