// The fields of `access`, which listeners and routes have.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kClaimMatch[] = {
    {.name = "name",
     .type = text,
     .example = "sub",
     .required = true,
     .doc = "A token's claim, an API key's attribute, or a field of an external service's answer."},
    {.name = "exact",
     .type = text,
     .example = "batch",
     .excludes = "has regex",
     .doc = "The whole value."},
    {.name = "has",
     .type = text,
     .example = "admins",
     .excludes = "regex",
     .doc = "An element of a list, or a word of a text, as a token's `groups` and `scope`."},
    {.name = "regex",
     .type = regex,
     .example = "\"team-.*\"",
     .doc = "The whole value, by a regular expression (RE2). Of these three none: it is there."},
};
// As kAddresses, and by what a client has proved to be.
inline constexpr Field kAccessSource[] = {
    {.name = "cidr",
     .type = prefix,
     .example = "198.51.100.0/24",
     .excludes = "set pods identity claim",
     .doc = "An address or prefix."},
    {.name = "set",
     .type = name,
     .example = "blocklist",
     .refers = "sets",
     .excludes = "pods identity claim",
     .doc = "All that a set holds."},
    {.name = "pods",
     .example = "{ namespace: shop, labels: { app: agent } }",
     .children = kPods,
     .excludes = "identity claim",
     .doc = "This node's Pods with these labels."},
    {.name = "identity",
     .type = text,
     .example = "spiffe://example.org/batch",
     .excludes = "claim",
     .doc =
         "A name in the client's certificate (DNS and URI alternative names, common name); a `*` "
         "at one end stands for anything."},
    {.name = "claim",
     .example = "{ name: groups, has: admins }",
     .children = kClaimMatch,
     .shorthand = "name",
     .doc = "What `auth` knows of the caller."},
};
// Before TLS, all that is known is an address.
inline constexpr Field kAccess[] = {
    {.name = "allow",
     .shape = list,
     .example = "[10.0.0.0/8]",
     .children = kAddresses,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Where it has entries, only who one of them names may come in: prefixes, or { set: "
            "NAME }."},
    {.name = "deny",
     .shape = list,
     .example = "[198.51.100.0/24]",
     .children = kAddresses,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Who one of these names may not, whatever `allow` says."},
};
inline constexpr Field kRouteAccess[] = {
    {.name = "allow",
     .shape = list,
     .example = "[10.0.0.0/8]",
     .children = kAccessSource,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Where it has entries, only who one of them names may come in: prefixes, { set: NAME }, "
            "{ identity: NAME } or { claim: … }."},
    {.name = "deny",
     .shape = list,
     .example = "[198.51.100.0/24]",
     .children = kAccessSource,
     .shorthand = "cidr",
     .choice = true,
     .doc = "Who one of these names may not, whatever `allow` says."},
};

}  // namespace sluice::policy::fields
