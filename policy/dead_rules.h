// Entries that can never match, or never decide anything: seldom meant.
#pragma once

#include "policy/config.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// Warnings, each at the entry. Finds what can be told from addresses, ports and protocols alone:
// fields that no packet can have together, an `except` that leaves nothing, guard rules behind one
// that drops all of theirs, intercept entries whose destinations belong to intercept.local, and those
// behind one that catches all of theirs.
// Shadowed routes are find_shadows()'s.
Diagnostics find_dead_rules(const Config& config);

}  // namespace sluice::policy
