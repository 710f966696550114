// The fields of `intercept`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kMarks[] = {
    {.name = "mark",
     .type = integer,
     .fallback = "0x100000",
     .example = "0x400000",
     .min = 1,
     .max = kMaxU32,
     .doc = "The lowest bit of `mask`."},
    {.name = "mask",
     .type = integer,
     .fallback = "0x300000",
     .example = "0x700000",
     .min = 1,
     .max = kMaxU32,
     .doc = "Packet mark bits that Sluice may use: adjoining, at least two."},
    {.name = "table",
     .type = integer,
     .fallback = "5177",
     .example = "5178",
     .min = 1,
     .max = kMaxU32,
     .doc = "Routing table that turns marked packets to the node itself."},
    {.name = "priority",
     .type = integer,
     .fallback = "5177",
     .example = "5178",
     .min = 1,
     .max = 32765,
     .doc = "Priority of the first policy routing rule; the next one follows it."},
};
inline constexpr Field kExcept[] = {
    {.name = "from",
     .shape = list,
     .example = "[10.1.2.0/24]",
     .children = kPrefixesAndPods,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Sources not caught: prefixes, or { pods: … }."},
    {.name = "to",
     .type = prefix,
     .shape = list,
     .example = "[10.96.0.0/12]",
     .doc = "Destinations not caught."},
};

// What the three kinds of interception share. `to` and `ports` differ in what may be left out.
#define SLUICE_FIELD_PORTS \
  {.name = "ports",        \
   .type = port_range,     \
   .shape = list,          \
   .example = "[443]",     \
   .required = true,       \
   .doc = "Destination ports and ranges."}
#define SLUICE_FIELD_LISTENER \
  {.name = "listener",        \
   .type = name,              \
   .example = "web",          \
   .refers = "listeners",     \
   .doc = "Who serves what is caught; may be left out where there is one listener."}
#define SLUICE_FIELD_TAKE_OVER \
  {.name = "take_over",        \
   .type = boolean,            \
   .fallback = "false",        \
   .example = "true",          \
   .doc = "Catch it even where the host itself listens on such a port."}
#define SLUICE_FIELD_EXCEPT             \
  {.name = "except",                    \
   .example = "{ to: [10.96.0.0/12] }", \
   .children = kExcept,                 \
   .doc = "Not caught after all: what either of its lists holds."}
#define SLUICE_FIELD_LEASE \
  {.name = "lease",        \
   .type = duration,       \
   .fallback = "3s",       \
   .example = "5s",        \
   .min = 1 * kSecond,     \
   .max = kMinute,         \
   .doc = "With `on_exit: bypass`: how long a dead Sluice still catches new connections."}
#define SLUICE_FIELD_STEERING \
  {.name = "steering",        \
   .type = word,              \
   .fallback = "auto",        \
   .example = "tproxy",       \
   .words = kSteerByWords,    \
   .doc = "Who finds the listener: sk_lookup, nftables' tproxy, or what the kernel has (auto)."}
#define SLUICE_FIELD_STEERING_FORWARD                                                           \
  {.name = "steering",                                                                          \
   .type = word,                                                                                \
   .fallback = "auto",                                                                          \
   .example = "tc",                                                                             \
   .words = kSteerForwardByWords,                                                               \
   .doc =                                                                                       \
       "Who finds the listener: sk_lookup, nftables' tproxy, or what the kernel has (auto); or a " \
       "program where packets come in, for nodes on which they go past netfilter (tc)."}
#define SLUICE_FIELD_ON_CHANGE                                                             \
  {.name = "on_change",                                                                    \
   .type = word,                                                                           \
   .fallback = "keep",                                                                     \
   .example = "reset",                                                                     \
   .words = kOnChangeWords,                                                                \
   .doc =                                                                                  \
       "Open connections that a reload catches, or catches no longer, or that its guard "  \
       "drops: they go on (keep), take no further request (drain) or end at once (reset). " \
       "Access rules of listeners are not asked."}
#define SLUICE_FIELD_QUIC                                                                     \
  {.name = "quic",                                                                            \
   .type = word,                                                                              \
   .fallback = "pass",                                                                        \
   .example = "block",                                                                        \
   .words = kQuicWords,                                                                       \
   .doc =                                                                                     \
       "UDP to port 443 of what is caught: flows past (pass) or is refused by ICMP, so that " \
       "clients fall back to TCP (block)."}

inline constexpr Field kInterceptLocal[] = {
    {.name = "to",
     .type = prefix,
     .shape = list,
     .example = "[203.0.113.0/24]",
     .required = true,
     .doc = "Destinations; they need not exist on the host."},
    SLUICE_FIELD_PORTS,
    SLUICE_FIELD_LISTENER,
    SLUICE_FIELD_EXCEPT,
    SLUICE_FIELD_TAKE_OVER,
    SLUICE_FIELD_STEERING,
    SLUICE_FIELD_ON_CHANGE,
};
inline constexpr Field kInterceptForward[] = {
    {.name = "from",
     .shape = list,
     .example = "[10.1.0.0/16]",
     .children = kPrefixesAndPods,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Sources: prefixes, or { pods: … }; left out: any."},
    {.name = "to",
     .type = prefix,
     .shape = list,
     .fallback = "[0.0.0.0/0, \"::/0\"]",
     .example = "[192.0.2.0/24]",
     .doc = "Destinations."},
    SLUICE_FIELD_PORTS,
    SLUICE_FIELD_LISTENER,
    SLUICE_FIELD_EXCEPT,
    {.name = "on_exit",
     .type = word,
     .fallback = "closed",
     .example = "bypass",
     .words = kOnExitWords,
     .doc = "When Sluice is gone: new connections wait (closed) or flow past it (bypass)."},
    SLUICE_FIELD_LEASE,
    SLUICE_FIELD_STEERING_FORWARD,
    SLUICE_FIELD_ON_CHANGE,
    SLUICE_FIELD_QUIC,
};
inline constexpr Field kInterceptOutput[] = {
    {.name = "cgroups",
     .type = cgroup,
     .shape = list,
     .example = "[/system.slice/app.service]",
     .doc = "Only processes in these cgroups; left out: every process."},
    {.name = "to",
     .type = prefix,
     .shape = list,
     .fallback = "[0.0.0.0/0, \"::/0\"]",
     .example = "[192.0.2.0/24]",
     .doc = "Destinations."},
    SLUICE_FIELD_PORTS,
    SLUICE_FIELD_LISTENER,
    SLUICE_FIELD_EXCEPT,
    {.name = "on_exit",
     .type = word,
     .fallback = "bypass",
     .example = "closed",
     .words = kOnExitWords,
     .doc = "When Sluice is gone: new connections wait (closed) or flow past it (bypass)."},
    SLUICE_FIELD_LEASE,
    SLUICE_FIELD_STEERING,
    SLUICE_FIELD_ON_CHANGE,
    SLUICE_FIELD_QUIC,
};
inline constexpr Field kInterceptTc[] = {
    {.name = "interfaces",
     .type = text,
     .shape = list,
     .example = "[\"lxc*\"]",
     .doc = "Names and globs, followed as interfaces come and go; left out: all but lo."},
};
inline constexpr Field kIntercept[] = {
    {.name = "marks",
     .example = "{ table: 5178 }",
     .children = kMarks,
     .doc = "Packet marks and routing table that interception uses."},
    {.name = "tc",
     .example = "{ interfaces: [\"lxc*\"] }",
     .children = kInterceptTc,
     .doc = "Where `steering: tc` takes connections: before other programs of TC ingress."},
    {.name = "local",
     .shape = list,
     .example = "[{ to: [203.0.113.0/24], ports: [80] }]",
     .children = kInterceptLocal,
     .doc = "Connections to this node, or to addresses routed to it."},
    {.name = "forward",
     .shape = list,
     .example = "[{ ports: [443] }]",
     .children = kInterceptForward,
     .doc = "Connections that pass through this node."},
    {.name = "output",
     .shape = list,
     .example = "[{ ports: [443] }]",
     .children = kInterceptOutput,
     .doc = "Connections that this node's processes open."},
};

}  // namespace sluice::policy::fields
