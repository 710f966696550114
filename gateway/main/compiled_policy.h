// A policy on its way into force: the bytes it came from and what they mean.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "policy/diagnostic.h"
#include "policy/document.h"
#include "policy/snapshot.h"

namespace sluice::control {

struct CompiledPolicy {
  std::vector<policy::PolicyFile> files;
  std::shared_ptr<const policy::Snapshot> snapshot;
  policy::Diagnostics warnings;

  const policy::Config& config() const { return snapshot->config(); }
  bool same_files(const std::vector<policy::PolicyFile>& others) const;
};

// All diagnostics when one of them is an error.
std::expected<CompiledPolicy, policy::Diagnostics> compile_policy(
    std::vector<policy::PolicyFile> files);

// A line each.
std::string to_text(const policy::Diagnostics& diagnostics);

}  // namespace sluice::control
