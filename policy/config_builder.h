// From a checked tree to the typed configuration. What check() has refused keeps its default here.
#pragma once

#include "policy/config.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

Config build_config(const Node& root, const Reporter& reporter);

// Fills in what a policy may leave out because there is only one answer: the only listener, the
// implicit upstream `original_destination`, names of routes. Runs before cross_check().
void complete(Config& config);

}  // namespace sluice::policy
