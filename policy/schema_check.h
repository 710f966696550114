// Holds a tree against the schema: unknown and repeated keys, types, units, ranges. Knows no field
// by name.
#pragma once

#include "policy/schema.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

// Adds what `more` says to `into`: objects and named entries are merged, lists are appended. What
// two files set both stays there twice, for check() to refuse.
void merge(Node& into, Node&& more, const Field& field);

// Reports everything that is wrong under `root`.
void check(const Node& root, const Field& field, Reporter& reporter);

}  // namespace sluice::policy
