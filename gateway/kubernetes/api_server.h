// Where the Kubernetes API server is, and how one is known to it.
#pragma once

#include <cstdint>

#include "gateway/tls/client_context.h"
#include "gateway/tls/secret.h"
#include "policy/config/kubernetes.h"

namespace sluice::gateway::kubernetes {

struct ApiServer {
  policy::KubernetesServer where;
  tls::ClientContextPtr tls;  // null where it is http://
  tls::SecretPtr token;       // sent under TLS alone; null: none
  std::uint32_t own_mark = 0;  // SO_MARK of the connections; 0: none

  bool operator==(const ApiServer& other) const {
    const bool same_token =
        token == other.token || (token && other.token && *token == *other.token);
    return where == other.where && tls == other.tls && same_token && own_mark == other.own_mark;
  }
};

}  // namespace sluice::gateway::kubernetes
