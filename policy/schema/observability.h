// The fields of `metrics and logs`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kMetrics[] = {
    {.name = "bind",
     .type = socket_address,
     .example = "127.0.0.1:9464",
     .required = true,
     .doc = "Address of the Prometheus page, /metrics."},
    {.name = "allow",
     .type = prefix,
     .shape = list,
     .example = "[10.0.0.0/8]",
     .doc = "Who may read it; left out: who can reach it."},
};
inline constexpr Field kAccessLog[] = {
    {.name = "format",
     .type = word,
     .fallback = "json",
     .example = "text",
     .words = kLogFormatWords,
     .doc = "One line per request or connection."},
    {.name = "path",
     .type = text,
     .fallback = "stderr",
     .example = "/var/log/sluice/access.log",
     .doc = "A file to append to, `stdout` or `stderr`."},
};
inline constexpr Field kLogs[] = {
    {.name = "access",
     .example = "{ format: text }",
     .children = kAccessLog,
     .doc = "The access log."},
};

}  // namespace sluice::policy::fields
