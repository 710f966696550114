// The fields of `sets`.
#pragma once

#include "policy/schema/common.h"

namespace sluice::policy::fields {

inline constexpr Field kSet[] = {
    {.name = "elements",
     .type = prefix,
     .shape = list,
     .example = "[198.51.100.0/24]",
     .doc = "Addresses and prefixes, written here."},
    {.name = "pods",
     .example = "{ namespace: shop, labels: { app: agent } }",
     .children = kPods,
     .doc = "This node's Pods with these labels, as they come and go."},
    {.name = "file",
     .type = text,
     .example = "lists/blocklist.netset",
     .doc = "A file with one a line, followed when it changes; relative to the directory of this "
            "policy file."},
    {.name = "format",
     .type = word,
     .fallback = "cidr",
     .example = "netset",
     .words = kSetFormatWords,
     .doc = "Of the file. cidr: `#` begins a comment; netset (FireHOL, ipset): host bits are "
            "cleared; spamhaus-drop: `;` begins a comment, or a JSON object with `cidr` a line."},
};

}  // namespace sluice::policy::fields
