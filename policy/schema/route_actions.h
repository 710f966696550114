// The fields of `routes` that say what is done to a request and its answer.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy {

inline constexpr std::array<std::string_view, 5> kRedirectStatusWords{"301", "302", "303", "307",
                                                                      "308"};
inline constexpr std::array<std::string_view, 2> kCodingWords{"br", "gzip"};
inline constexpr std::array<std::string_view, 2> kSchemeWords{"http", "https"};

}  // namespace sluice::policy

namespace sluice::policy::fields {

inline constexpr Field kFieldChanges[] = {
    {.name = "set",
     .type = text,
     .shape = map,
     .example = "{ x-client: \"%client_ip%\" }",
     .doc = "Instead of what came under that name. Variables: see `Variables` in policy/REFERENCE.md."},
    {.name = "add",
     .type = text,
     .shape = map,
     .example = "{ x-route: \"%route%\" }",
     .doc = "Besides what came under that name. Variables: see `Variables` in policy/REFERENCE.md."},
    {.name = "remove",
     .type = token,
     .shape = list,
     .example = "[x-internal]",
     .doc = "Every line under that name."},
};
inline constexpr Field kRewrite[] = {
    {.name = "host",
     .type = text,
     .example = "api.internal",
     .doc = "The Host that the upstream gets; a port may follow."},
    {.name = "prefix",
     .type = path,
     .example = "/v2",
     .excludes = "path",
     .doc = "Instead of the route's path prefix (of the whole path: in front of it)."},
    {.name = "path",
     .type = path,
     .example = "/index",
     .doc = "Instead of the whole path; the query stays."},
};
inline constexpr Field kRedirect[] = {
    {.name = "status",
     .type = word,
     .fallback = "302",
     .example = "308",
     .words = kRedirectStatusWords,
     .doc = "307 and 308 keep method and body."},
    {.name = "scheme",
     .type = word,
     .example = "https",
     .words = kSchemeWords,
     .doc = "Left out: as the request came."},
    {.name = "host",
     .type = host,
     .example = "www.example.com",
     .doc = "Left out: as the request came."},
    {.name = "port",
     .type = port,
     .example = "8443",
     .doc = "Left out: the scheme's own where `scheme` is given, else as the request came."},
    {.name = "prefix",
     .type = path,
     .example = "/v2",
     .excludes = "path",
     .doc = "Instead of the route's path prefix; the rest and the query stay."},
    {.name = "path",
     .type = path,
     .example = "/moved",
     .doc = "Instead of the whole path; the query stays."},
};
inline constexpr Field kDirectResponse[] = {
    {.name = "status",
     .type = integer,
     .fallback = "200",
     .example = "503",
     .min = 200,
     .max = 599,
     .doc = "204 and 304 have no body."},
    {.name = "body",
     .type = text,
     .example = "\"closed for maintenance\"",
     .lines = true,
     .doc = "May have several lines, as a `|` block; ends with a line end, which is added where it "
            "has none. Left out: empty."},
    {.name = "content_type",
     .type = text,
     .fallback = "text/plain; charset=utf-8",
     .example = "application/json",
     .doc = "Of the body."},
};
inline constexpr Field kCors[] = {
    {.name = "allow_origins",
     .type = text,
     .shape = list,
     .example = "[\"https://*.example.com\"]",
     .required = true,
     .doc = "scheme://host, with a port if it is not the scheme's; `*.` in front of the host for "
            "every name below it; `*`: any."},
    {.name = "allow_methods",
     .type = token,
     .shape = list,
     .example = "[GET, POST, PUT]",
     .doc = "Besides GET, HEAD and POST, which need no leave; `*`: any."},
    {.name = "allow_headers",
     .type = token,
     .shape = list,
     .example = "[content-type, x-api-key]",
     .doc = "Request headers that a page may send; `*`: any."},
    {.name = "expose_headers",
     .type = token,
     .shape = list,
     .example = "[x-request-id]",
     .doc = "Response headers that a page may read."},
    {.name = "allow_credentials",
     .type = boolean,
     .fallback = "false",
     .example = "true",
     .doc = "Cookies and Authorization may be sent, by pages of origins that are named; `*` of "
            "methods and headers then means what was asked for."},
    {.name = "max_age",
     .type = duration,
     .fallback = "5s",
     .example = "10m",
     .min = 0,
     .max = kDay,
     .doc = "How long a browser may remember a preflight's answer."},
};

inline constexpr Field kCompression[] = {
    {.name = "algorithms",
     .type = word,
     .shape = list,
     .fallback = "[br, gzip]",
     .example = "[gzip]",
     .words = kCodingWords,
     .doc = "The preferred one first, where the client takes several equally well."},
    {.name = "types",
     .type = text,
     .shape = list,
     .fallback = "[application/javascript, application/json, application/xml, image/svg+xml, "
                 "text/css, text/csv, text/html, text/javascript, text/plain, text/xml]",
     .example = "[text/html, \"application/*\"]",
     .doc = "Of Content-Type; `/*` for all of a kind. Never text/event-stream and gRPC."},
    {.name = "min_size",
     .type = size,
     .fallback = "1KiB",
     .example = "256B",
     .doc = "Smaller answers go as they are, where their length is known."},
    {.name = "level",
     .type = integer,
     .fallback = "5",
     .example = "3",
     .min = 1,
     .max = 9,
     .doc = "From fast to small."},
};
inline constexpr Field kMirror[] = {
    {.name = "upstream",
     .type = name,
     .example = "api",
     .refers = "upstreams",
     .required = true,
     .doc = "Who gets the copies."},
    {.name = "percent",
     .type = percent,
     .fallback = "100%",
     .example = "5%",
     .doc = "Of the route's requests."},
};

}  // namespace sluice::policy::fields
