#include "policy/schema.h"

#include "policy/schema/ai.h"
#include "policy/schema/auth.h"
#include "policy/schema/cluster.h"
#include "policy/schema/guard.h"
#include "policy/schema/intercept.h"
#include "policy/schema/kubernetes.h"
#include "policy/schema/limits.h"
#include "policy/schema/listeners.h"
#include "policy/schema/observability.h"
#include "policy/schema/overload.h"
#include "policy/schema/protect.h"
#include "policy/schema/routes.h"
#include "policy/schema/sets.h"
#include "policy/schema/upstreams.h"

namespace sluice::policy::fields {

constexpr Field kPolicy[] = {
    {.name = "version",
     .type = integer,
     .example = "1",
     .min = 1,
     .max = 1,
     .required = true,
     .doc = "Of this format."},
    {.name = "state_dir",
     .type = text,
     .fallback = "/var/lib/sluice",
     .example = "/tmp/sluice",
     .doc = "Where the last good policy is kept."},
    {.name = "workers",
     .type = integer,
     .fallback = "auto",
     .example = "2",
     .min = 1,
     .max = 64,
     .words = kAuto,
     .doc = "Threads that serve; auto: what cores, affinity and the cgroup's quota allow."},
    {.name = "protect",
     .example = "{ host_ports: [22, 6443] }",
     .children = kProtect,
     .doc = "What no rule, limit or ban may touch."},
    {.name = "trusted_proxies",
     .type = prefix,
     .shape = list,
     .example = "[192.0.2.0/28]",
     .doc = "Proxies in front of Sluice that are believed about the client: PROXY protocol, "
            "X-Forwarded-For and -Proto, Forwarded. From anybody else such fields are removed."},
    {.name = "admin",
     .example = "{ bind: \"127.0.0.1:9901\" }",
     .children = kAdmin,
     .doc = "The console, a live page for a browser, as a process of its own beside this one; left "
            "out: none, but for `sluice console`. Another address, or who may ask, changes by "
            "reload; an address that is taken refuses the policy."},
    {.name = "metrics",
     .example = "{ bind: \"127.0.0.1:9464\" }",
     .children = kMetrics,
     .doc = "The Prometheus page; left out: none."},
    {.name = "tracing",
     .example = "{ endpoint: \"http://127.0.0.1:4318\" }",
     .children = kTracing,
     .doc = "Spans of OpenTelemetry by OTLP/HTTP: of requests, of policy decisions and of tries at "
            "upstreams. Every listener then does as `trace_context: start`, and `sample` counts "
            "instead of its `trace_sample`. Left out: none."},
    {.name = "logs",
     .example = "{ access: { format: text } }",
     .children = kLogs,
     .doc = "What is written where."},
    {.name = "intercept",
     .example = "{ forward: [{ ports: [443] }] }",
     .children = kIntercept,
     .doc = "Connections to catch that were not made to Sluice."},
    {.name = "listeners",
     .shape = map,
     .example = "{ web: { bind: \"127.0.0.1:8080\" } }",
     .children = kListener,
     .doc = "Where connections are served, by name."},
    {.name = "upstreams",
     .shape = map,
     .example = "{ api: { endpoints: [\"192.0.2.10:8080\"] } }",
     .children = kUpstream,
     .doc = "Groups of origins, by name."},
    {.name = "routes",
     .shape = list,
     .example = "[{ upstream: api }]",
     .children = kRoute,
     .doc = "The most specific one wins: host, path, method, header, query, original destination."},
    {.name = "default_route",
     .example = "{ local: 503 }",
     .children = kDefaultRoute,
     .doc = "For what no route claims, by the way it came."},
    {.name = "cluster",
     .example = "{ redis: { url: \"redis://192.0.2.6:6379\" } }",
     .children = kCluster,
     .doc = "What several gateways share; left out: nothing."},
    {.name = "kubernetes",
     .example = "{ node: worker-1 }",
     .children = kKubernetes,
     .doc = "Where the API server is, for upstreams that name Services and rules that "
            "name Pods; left out: as in a pod."},
    {.name = "limits",
     .shape = map,
     .example = "{ per-client: { rate: 100/s } }",
     .children = kLimit,
     .doc = "Rate limits, by name."},
    {.name = "bans",
     .example = "{ max: 5000 }",
     .children = kBans,
     .doc = "From repeated refusals to dropped packets."},
    {.name = "guard",
     .example = "{ rules: [{ to_ports: [23] }] }",
     .children = kGuard,
     .doc = "Packets dropped before they cost anything; left out: none."},
    {.name = "auth",
     .shape = map,
     .example = "{ partners: { jwt: { jwks: { file: jwks.json } } } }",
     .children = kAuth,
     .doc = "Who may call, by name; routes say which they ask for."},
    {.name = "ai",
     .example = "{ providers: { llama: { base_url: \"http://127.0.0.1:11434\" } } }",
     .children = kAi,
     .doc = "Large language models: who answers for which, on routes that say `ai: true`."},
    {.name = "overload",
     .example = "{ max_memory: 2GiB }",
     .children = kOverload,
     .doc = "When new work is refused, so that what runs can go on."},
    {.name = "sets",
     .shape = map,
     .example = "{ blocklist: { elements: [198.51.100.0/24] } }",
     .children = kSet,
     .doc = "Addresses by name, for rules to refer to: `from: { set: NAME }`. Members can be added "
            "at run time (`sluice set add`)."},
};

constexpr Field kSchema{.name = "", .children = kPolicy, .doc = "The policy file."};

}  // namespace sluice::policy::fields

namespace sluice::policy {

const Field& schema() {
  return fields::kSchema;
}

}  // namespace sluice::policy
