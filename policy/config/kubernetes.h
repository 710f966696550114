// The typed form of `kubernetes`: where the API server is, and how one is known to it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "policy/address.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// What Kubernetes mounts into every pod that has a service account.
inline constexpr std::string_view kServiceAccountToken =
    "file:/var/run/secrets/kubernetes.io/serviceaccount/token";
inline constexpr std::string_view kServiceAccountCa =
    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

struct KubernetesConfig {
  std::string server;  // a URL; "": KUBERNETES_SERVICE_HOST and _PORT of the environment
  std::string token = std::string(kServiceAccountToken);  // `file:PATH` or `${NAME}`
  std::string ca = std::string(kServiceAccountCa);        // a file, or kSystemCa
  std::string node = "${NODE_NAME}";                      // or its name
  Location where;

  // Neither token nor authority is of use without TLS.
  bool clear_text() const { return server.starts_with("http://"); }
};

// A server's URL in parts.
struct KubernetesServer {
  bool tls = true;
  std::string name;       // "": the address is known
  SocketAddress address;  // at least its port
  std::string authority;  // as the Host field has it
  bool operator==(const KubernetesServer&) const = default;
};

// https://HOST[:PORT] or http://HOST[:PORT], perhaps with a `/` at its end; nullopt: it is neither.
std::optional<KubernetesServer> parse_kubernetes_server(std::string_view url);

// A Service whose EndpointSlices say where the origins are.
struct KubernetesService {
  std::string service;  // "": none
  std::string name_space;
  std::string port;  // a port's name or number; "": the only one
  bool operator==(const KubernetesService&) const = default;
};

}  // namespace sluice::policy
