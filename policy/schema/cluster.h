// The fields of `cluster`.
#pragma once

#include "policy/schema/common.h"
#include "policy/schema/tls.h"

namespace sluice::policy::fields {

inline constexpr Field kRedis[] = {
    {.name = "url",
     .type = text,
     .example = "\"redis://192.0.2.6:6379/1\"",
     .required = true,
     .doc = "redis://HOST:PORT, and perhaps a database: /0 to /15; rediss:// is under TLS. HOST: an "
            "address, or a name, which is resolved as each connection is made."},
    {.name = "tls",
     .example = "{ ca: /etc/sluice/redis-ca.pem }",
     .children = kUpstreamTls,
     .doc = "How rediss:// is under TLS; `sni: auto` is the URL's name."},
    {.name = "username",
     .type = text,
     .example = "sluice",
     .doc = "For AUTH, where Redis has users (ACL)."},
    {.name = "password",
     .type = text,
     .example = "\"file:/run/secrets/redis\"",
     .doc = "For AUTH; `file:` and a path is followed, and counts from the next connection on."},
    {.name = "prefix",
     .type = name,
     .fallback = "sluice",
     .example = "edge",
     .doc = "Begins every key in Redis; gateways with one prefix share limits."},
    {.name = "on_loss",
     .type = word,
     .fallback = "share",
     .example = "deny",
     .words = kOnLossWords,
     .doc = "While Redis cannot be asked: share allows the rate divided by the gateways last "
            "known, deny nothing, per_node the whole rate on each. With share the sum holds while "
            "all have lost it. Those that alone are cut off have their shares beside the whole "
            "rate of the others, as long as that lasts: k of n gateways make it 1 + k/n of the "
            "rate, never twice. With deny it holds always."},
    {.name = "deadline",
     .type = duration,
     .fallback = "50ms",
     .example = "100ms",
     .min = 10 * kMs,
     .max = 10 * kSecond,
     .doc = "How long a request may wait for Redis where a limit's rate is below 10/s."},
};
inline constexpr Field kCluster[] = {
    {.name = "redis",
     .example = "{ url: \"redis://192.0.2.6:6379\" }",
     .children = kRedis,
     .doc = "Where limits of `scope: cluster` are counted."},
};

}  // namespace sluice::policy::fields
