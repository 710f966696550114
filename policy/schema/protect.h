// The fields of `protect`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kProtectFrom[] = {
    {.name = "cidr",
     .type = prefix,
     .example = "10.9.0.0/24",
     .required = true,
     .doc =
         "Peers that are never steered, dropped, limited or banned (with `to_ports` or "
         "`interfaces`: packets of theirs; limits of the gateway apply). Keep it narrow: a source "
         "can be forged."},
    {.name = "to_ports",
     .type = port_range,
     .shape = list,
     .example = "[22]",
     .doc = "Only for packets to these ports; left out: all."},
    {.name = "interfaces",
     .type = text,
     .shape = list,
     .example = "[eth0]",
     .doc = "Only on these interfaces; left out: all."},
};
inline constexpr Field kProtect[] = {
    {.name = "from",
     .shape = list,
     .example = "[10.9.0.0/24, { cidr: 10.8.0.0/24, to_ports: [22] }]",
     .children = kProtectFrom,
     .shorthand = "cidr",
     .doc = "Peers above every rule, limit and ban."},
    {.name = "host_ports",
     .type = port,
     .shape = list,
     .fallback = "[22]",
     .example = "[22, 6443]",
     .doc = "Ports of the node's own addresses that are never intercepted or dropped."},
};

}  // namespace sluice::policy::fields
