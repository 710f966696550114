// The fields of `admin`, `metrics`, `tracing` and `logs`.
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
inline constexpr Field kAdmin[] = {
    {.name = "bind",
     .type = socket_address,
     .fallback = "127.0.0.1:9901",
     .example = "127.0.0.1:9902",
     .doc = "Address of the console's page."},
    {.name = "allow",
     .type = prefix,
     .shape = list,
     .example = "[10.0.0.0/8]",
     .doc = "Who may ask; left out: who can reach it."},
    {.name = "token",
     .type = text,
     .example = "\"file:/etc/sluice/console.token\"",
     .doc = "`file:PATH`: its one line, 16 to 512 characters, is what a change (unban, ban, reload) "
            "must bring as `Authorization: Bearer`; mode 0600, read at each change. Left out: look, "
            "change nothing."},
    {.name = "hosts",
     .type = name,
     .shape = list,
     .example = "[console.internal]",
     .doc = "Names that a browser may call it by, beside addresses and localhost."},
};
inline constexpr Field kTracing[] = {
    {.name = "endpoint",
     .type = text,
     .example = "http://127.0.0.1:4318",
     .required = true,
     .doc = "A collector that takes OTLP over HTTP, as OTEL_EXPORTER_OTLP_ENDPOINT names it: "
            "/v1/traces is added. It becomes the upstream `tracing.otlp`, with its health and metrics."},
    {.name = "sample",
     .type = share,
     .fallback = "1%",
     .example = "0.1%",
     .doc = "Share of the traces begun here that are recorded. One that a trusted proxy began is "
            "recorded when that says so."},
    {.name = "service",
     .type = text,
     .fallback = "sluice",
     .example = "edge",
     .doc = "service.name of the spans."},
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
