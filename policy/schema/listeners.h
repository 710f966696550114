// The fields of `listeners`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kListenerTimeouts[] = {
    {.name = "detect",
     .type = duration,
     .fallback = "200ms",
     .example = "300ms",
     .min = 10 * kMs,
     .max = 10 * kSecond,
     .doc = "With `protocol: auto`: a client silent for so long is taken as plain TCP."},
    {.name = "head",
     .type = duration,
     .fallback = "10s",
     .example = "5s",
     .min = 100 * kMs,
     .max = kHour,
     .doc = "For the whole head of a request."},
    {.name = "body_idle",
     .type = duration,
     .fallback = "30s",
     .example = "20s",
     .min = 100 * kMs,
     .max = kHour,
     .doc = "Between two pieces of a request's body."},
    {.name = "idle",
     .type = duration,
     .fallback = "60s",
     .example = "90s",
     .min = 100 * kMs,
     .max = kDay,
     .doc = "Kept alive without a request; plain TCP: without a byte either way."},
    {.name = "drain",
     .type = duration,
     .fallback = "30s",
     .example = "10s",
     .min = 0,
     .max = kDay,
     .doc = "How long open connections may finish after a stop."},
};
inline constexpr Field kListener[] = {
    {.name = "bind",
     .type = socket_address,
     .example = "127.0.0.1:8080",
     .doc = "Address to listen on; left out: only steered connections."},
    {.name = "protocol",
     .type = word,
     .fallback = "http",
     .example = "tcp",
     .words = kListenerProtocolWords,
     .doc = "What clients speak; auto looks at the first bytes."},
    {.name = "max_connections",
     .type = integer,
     .fallback = "20000",
     .example = "1000",
     .min = 1,
     .max = 1'000'000,
     .doc = "Open connections of this listener, over all workers."},
    {.name = "timeouts",
     .example = "{ idle: 90s }",
     .children = kListenerTimeouts,
     .doc = "Towards clients."},
};

}  // namespace sluice::policy::fields
