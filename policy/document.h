// Policy text to typed configuration: every error located, all of them at once. Pure; never throws.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "policy/config.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct PolicyFile {
  std::string name;  // as it is to be shown in messages
  std::string text;
};

struct ParseResult {
  std::optional<Config> config;  // present when no diagnostic is an error
  Diagnostics diagnostics;
};

// Several files are one policy: lists concatenate, maps of names merge, the same key twice is an error.
// Bounds: 8 MiB in all, a million nodes, 64 levels, no aliases.
ParseResult parse(std::span<const PolicyFile> files);

}  // namespace sluice::policy
