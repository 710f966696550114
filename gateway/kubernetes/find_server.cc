#include "gateway/kubernetes/find_server.h"

#include <cstdlib>

#include "gateway/log.h"

namespace sluice::gateway::kubernetes {
namespace {

// What Kubernetes puts into every container's environment.
std::string url_of(const policy::KubernetesConfig& kubernetes) {
  if (!kubernetes.server.empty()) return kubernetes.server;
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || *host == '\0') return {};
  const std::string name(host);
  const bool v6 = name.find(':') != std::string::npos;
  return "https://" + (v6 ? "[" + name + "]" : name) + ":" + (port != nullptr ? port : "443");
}

}  // namespace

std::optional<ApiServer> find_server(const policy::Config& config, tls::ClientContextPtr tls,
                                     const tls::Material* material, std::uint32_t own_mark) {
  if (!config.kubernetes) return std::nullopt;
  const auto where = policy::parse_kubernetes_server(url_of(*config.kubernetes));
  if (!where) {
    log_error("kubernetes",
              "no API server is known: KUBERNETES_SERVICE_HOST is not in the environment, as it is "
              "in a pod; name it by kubernetes.server",
              {{"where", config.kubernetes->where.to_string()}});
    return std::nullopt;
  }
  ApiServer server{.where = *where, .tls = std::move(tls), .token = {}, .own_mark = own_mark};
  if (where->tls && material != nullptr) server.token = material->secret(config.kubernetes->token);
  return server;
}

std::optional<std::string> from_environment(const std::string& text) {
  if (!text.starts_with("${") || !text.ends_with('}')) return text;
  const char* value = std::getenv(text.substr(2, text.size() - 3).c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

}  // namespace sluice::gateway::kubernetes
