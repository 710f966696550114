// The reference of the policy file, in Markdown; made from the table that the parser checks
// against, so that the two cannot drift.
#pragma once

#include <string>

namespace sluice::policy {

// What policy/REFERENCE.md holds: every key with its type, range, default, meaning and example.
std::string reference();

}  // namespace sluice::policy
