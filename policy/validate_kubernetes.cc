// What `kubernetes` cannot mean.
#include <algorithm>
#include <utility>

#include "policy/ai_providers.h"
#include "policy/pods.h"
#include "policy/schema.h"
#include "policy/validate.h"

namespace sluice::policy {
namespace {

// RFC 1123, as Kubernetes wants names of namespaces and Services.
bool is_dns_label(const std::string& text) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= 63 && plain(text.front()) && plain(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return plain(c) || c == '-'; });
}

void check_service(const Upstream& upstream, const Endpoint& endpoint, Reporter& reporter) {
  const KubernetesService& service = endpoint.kubernetes;
  for (const auto& [what, name] : {std::pair("service", &service.service),
                                   std::pair("namespace", &service.name_space)}) {
    if (name->empty() || is_dns_label(*name)) continue;
    reporter.error(endpoint.where,
                   "upstream `" + upstream.name + "`: `" + *name + "` is not the name of a " + what,
                   "small letters, digits and `-`, beginning and ending with a letter or digit");
  }
}

void check_pods(const SetConfig& set, Reporter& reporter) {
  const PodSelector& pods = *set.pods;
  if (!pods.name_space.empty() && !is_dns_label(pods.name_space))
    reporter.error(set.where, "pods: `" + pods.name_space + "` is not the name of a namespace",
                   "small letters, digits and `-`, beginning and ending with a letter or digit");
  if (pods.labels.empty())
    reporter.error(set.where, "pods without labels would be all that there are",
                   "labels: { app: agent }: a pod asks for it by its label");
  for (const auto& [key, value] : pods.labels) {
    if (is_label_key(key) && is_label_value(value)) continue;
    reporter.error(set.where, "pods: `" + key + ": " + value + "` is not a label",
                   "a key such as app or example.com/app, and a value of at most 63 letters, digits, "
                   "`-`, `_` and `.`");
  }
}

}  // namespace

void check_kubernetes(const Config& config, Reporter& reporter) {
  for (const SetConfig& set : config.sets)
    if (set.pods) check_pods(set, reporter);
  for (const Upstream& upstream : config.upstreams) {
    for (const Endpoint& endpoint : upstream.endpoints)
      if (endpoint.is_service()) check_service(upstream, endpoint, reporter);
  }
  if (!config.kubernetes) return;
  const KubernetesConfig& kubernetes = *config.kubernetes;
  if (!kubernetes.server.empty() && !parse_kubernetes_server(kubernetes.server))
    reporter.error(kubernetes.where,
                   "kubernetes.server: `" + kubernetes.server + "` is not https://HOST:PORT",
                   "such as https://192.0.2.1:6443; left out in a pod");
  if (!is_secret_reference(kubernetes.token))
    reporter.error(kubernetes.where, "kubernetes.token is not in the policy, it is pointed to",
                   "`file:/run/secrets/NAME` or `${NAME}`");
}

}  // namespace sluice::policy
