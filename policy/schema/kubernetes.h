// The fields of `kubernetes`.
#pragma once

#include "policy/config/kubernetes.h"
#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kKubernetes[] = {
    {.name = "server",
     .type = text,
     .example = "\"https://192.0.2.1:6443\"",
     .doc = "The API server: https://HOST:PORT; left out: what Kubernetes puts into a pod's "
            "environment (KUBERNETES_SERVICE_HOST and _PORT). http://: without token and authority, "
            "such as `kubectl proxy` on the loopback."},
    {.name = "token",
     .type = text,
     .fallback = "\"file:/var/run/secrets/kubernetes.io/serviceaccount/token\"",
     .example = "\"file:/etc/sluice/token\"",
     .doc = "Who one is to it: `file:` and a path, which is read again when it changes, or a "
            "variable of the environment."},
    {.name = "ca",
     .type = text,
     .fallback = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
     .example = "/etc/sluice/kubernetes-ca.pem",
     .doc = "PEM file: who signs its certificate; followed. system: the node's own list."},
    {.name = "node",
     .type = text,
     .fallback = "\"${NODE_NAME}\"",
     .example = "worker-1",
     .doc = "The name of this node, whose Pods are watched where the policy names some: itself, or a "
            "variable of the environment (`spec.nodeName` by the downward API)."},
};

inline constexpr Field kKubernetesService[] = {
    {.name = "service", .type = name, .example = "api", .required = true, .doc = "Its name."},
    {.name = "namespace",
     .type = name,
     .example = "shop",
     .required = true,
     .doc = "The namespace that it is in."},
    {.name = "port",
     .type = name,
     .example = "http",
     .doc = "The name of one of the Service's ports, or the number of the port on the Pods; left "
            "out: the only one."},
};

}  // namespace sluice::policy::fields
