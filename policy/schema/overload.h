// The fields of `overload`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kOverload[] = {
    {.name = "max_connections",
     .type = integer,
     .example = "50000",
     .min = 1,
     .max = 10'000'000,
     .doc = "Of clients, over all listeners: beyond, new ones wait in the backlog. Left out: only "
            "each listener's own."},
    {.name = "max_memory",
     .type = size,
     .example = "2GiB",
     .min = 16 << 20,
     .doc = "Resident memory of the gateway, looked at four times a second. Left out: any."},
    {.name = "shed_at",
     .type = percent,
     .fallback = "95%",
     .example = "80%",
     .doc = "Of max_memory: new requests get 503 with Retry-After. Of max_connections, here or of a "
            "listener: the first request of a new connection does, and others are the last ones of "
            "theirs. What runs is never cut."},
    {.name = "retry_after",
     .type = duration,
     .fallback = "1s",
     .example = "5s",
     .min = kSecond,
     .max = kHour,
     .doc = "What Retry-After says, in whole seconds."},
};

}  // namespace sluice::policy::fields
