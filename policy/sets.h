// Named sets of a policy: read, filled, and put where rules name them. Pure: whoever reads files
// is handed in.
#pragma once

#include <span>

#include "policy/config.h"
#include "policy/document.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

// Fills SetConfig::declared and ::members of every set, as parse() says; then every rule's
// reference holds what its set does.
void load_sets(Config& config, std::span<const PolicyFile> files, const SetReader& reader,
               Reporter& reporter);

}  // namespace sluice::policy
