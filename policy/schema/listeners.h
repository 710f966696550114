// The fields of `listeners`.
#pragma once

#include "policy/schema/access.h"
#include "policy/schema/common.h"
#include "policy/schema/tls.h"

namespace sluice::policy::fields {

inline constexpr Field kListenerTimeouts[] = {
    {.name = "detect",
     .type = duration,
     .fallback = "200ms",
     .example = "300ms",
     .min = 10 * kMs,
     .max = 10 * kSecond,
     .doc = "With `protocol: auto`: a client silent for so long is taken as plain TCP."},
    {.name = "handshake",
     .type = duration,
     .fallback = "10s",
     .example = "5s",
     .min = 100 * kMs,
     .max = kMinute,
     .doc = "For the whole TLS handshake, or the whole ClientHello of what is passed through."},
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
     .doc = "Between two pieces of a request's body, and of an answer that the client does not take."},
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
     .doc = "What clients speak, inside of TLS where there is `tls`. tls: passed through unread, "
            "routed by "
            "the name that the client asks for. auto looks at the first bytes: TLS is ended here "
            "where there is `tls`, else passed through."},
    {.name = "max_connections",
     .type = integer,
     .fallback = "20000",
     .example = "1000",
     .min = 1,
     .max = 1'000'000,
     .doc = "Open connections of this listener, over all workers."},
    {.name = "access",
     .example = "{ allow: [10.0.0.0/8] }",
     .children = kAccess,
     .doc = "Who may connect, by address; others are closed at once, before TLS. Behind a PROXY "
            "protocol header it is the client that this names."},
    {.name = "limits",
     .type = name,
     .shape = list,
     .example = "[new-connections]",
     .refers = "limits",
     .doc = "Limits of unit connections or concurrency, checked as a connection is accepted."},
    {.name = "accept_proxy_protocol",
     .type = word,
     .fallback = "none",
     .example = "v2",
     .words = kAcceptProxyProtocolWords,
     .doc = "Connections from `trusted_proxies` begin with a PROXY protocol header, which says who "
            "the client is; without it they are closed. Others have none."},
    {.name = "cancel_on_close",
     .type = boolean,
     .fallback = "false",
     .example = "true",
     .doc =
         "A client of HTTP/1.1 that closes its side of the connection while its request is served "
         "is taken for gone: the request is given up, at the origin too. Without it only a reset "
         "is, since a client may close its side and go on to wait; few do. Of HTTP/2 each request "
         "is cancelled by itself, and calls of models are always given up."},
    {.name = "client_from",
     .type = word,
     .fallback = "x_forwarded_for",
     .example = "forwarded",
     .words = kClientFromWords,
     .doc = "Which field of `trusted_proxies` says who the client is. The other kind is removed: a "
            "proxy that writes one may pass on the other as its own client sent it."},
    {.name = "forwarded",
     .type = word,
     .fallback = "x_forwarded",
     .example = "both",
     .words = kForwardedWords,
     .doc = "What upstreams are told of the client: X-Forwarded-For and -Proto, Forwarded (RFC "
            "7239), or both. What trusted proxies have said stays before it."},
    {.name = "request_id",
     .type = word,
     .fallback = "forward",
     .example = "return",
     .words = kRequestIdWords,
     .doc = "X-Request-Id: forward takes a trusted proxy's, makes one otherwise, logs it and gives "
            "it to the upstream; return gives it to the client too; none leaves the field alone."},
    {.name = "express",
     .type = word,
     .fallback = "none",
     .example = "both",
     .words = kExpressWords,
     .doc = "The express lane: bytes between this node's sockets pass by TCP (docs/express.md). "
            "upstream: to the upstreams that its requests go to; both: to its clients too. Not "
            "together with `tls`."},
    {.name = "trace_context",
     .type = word,
     .fallback = "pass",
     .example = "start",
     .words = kTraceContextWords,
     .doc =
         "W3C traceparent and tracestate: pass leaves them alone; start goes on with a trusted "
         "proxy's trace and begins a new one otherwise, with an id of its own for the upstream's "
         "part."},
    {.name = "trace_sample",
     .type = percent,
     .fallback = "1%",
     .example = "100%",
     .doc = "Share of the traces begun here that are marked as sampled."},
    {.name = "verify_authority",
     .type = word,
     .fallback = "none",
     .example = "strict",
     .words = kVerifyAuthorityWords,
     .doc =
         "Of connections caught on their way elsewhere: whether the name that a client gives "
         "(Host, SNI) must resolve to the address that it dialled, wherever the name decides: on "
         "routes with `host`, or to upstreams other than the original destination. strict "
         "answers 421 or closes; audit only counts and logs; none believes it."},
    {.name = "tls",
     .example = "{ certificates: [{ cert: a.pem, key: a.key }] }",
     .children = kListenerTls,
     .doc = "TLS that ends here; left out: none."},
    {.name = "timeouts",
     .example = "{ idle: 90s }",
     .children = kListenerTimeouts,
     .doc = "Towards clients."},
};

}  // namespace sluice::policy::fields
