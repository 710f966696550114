// What the sections of the table share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "policy/schema.h"

namespace sluice::policy::fields {

using enum Type;
using enum Shape;

inline constexpr std::int64_t kMs = 1'000'000;
inline constexpr std::int64_t kSecond = 1'000 * kMs;
inline constexpr std::int64_t kMinute = 60 * kSecond;
inline constexpr std::int64_t kHour = 60 * kMinute;
inline constexpr std::int64_t kDay = 24 * kHour;
inline constexpr std::int64_t kMaxU32 = 0xffffffff;

// Workloads of this node; see kubernetes.
inline constexpr Field kPods[] = {
    {.name = "namespace",
     .type = name,
     .example = "shop",
     .doc = "Theirs; left out: any but kube-system."},
    {.name = "labels",
     .type = text,
     .shape = map,
     .example = "{ app: agent }",
     .free_names = true,
     .required = true,
     .doc = "What they are labelled with, all of it."},
};
// Where addresses are named: prefixes, sets, pods.
inline constexpr Field kAddresses[] = {
    {.name = "cidr",
     .type = prefix,
     .example = "198.51.100.0/24",
     .excludes = "set pods",
     .doc = "An address or prefix."},
    {.name = "set",
     .type = name,
     .example = "blocklist",
     .refers = "sets",
     .excludes = "cidr pods",
     .doc = "All that a set holds."},
    {.name = "pods",
     .example = "{ namespace: shop, labels: { app: agent } }",
     .children = kPods,
     .doc = "The addresses of this node's Pods with these labels, as they come and go."},
};
inline constexpr Field kPrefixesAndPods[] = {
    {.name = "cidr",
     .type = prefix,
     .example = "10.1.0.0/16",
     .excludes = "pods",
     .doc = "An address or prefix."},
    {.name = "pods",
     .example = "{ namespace: shop, labels: { app: agent } }",
     .children = kPods,
     .doc = "The addresses of this node's Pods with these labels, as they come and go: caught is "
            "who asked for it by its label, and nobody while there is none."},
};

inline constexpr std::array<std::string_view, 1> kAuto{"auto"};
inline constexpr std::array<std::string_view, 1> kOriginalDestinationWord{kOriginalDestination};

}  // namespace sluice::policy::fields
