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

// What of a set is in force is not what its file says, which is bad.
struct StaleSet {
  std::string name;
  policy::Diagnostic why;
};

struct CompiledPolicy {
  // The policy's own first, then those of its sets, then members added at run time and pods.
  std::vector<policy::PolicyFile> files;
  std::shared_ptr<const policy::Snapshot> snapshot;
  policy::Diagnostics warnings;
  std::vector<StaleSet> stale{};

  const policy::Config& config() const { return snapshot->config(); }
  // Without members and pods.
  bool same_files(const std::vector<policy::PolicyFile>& others) const;
};

// What lies on disk: members and pods are kept elsewhere.
std::vector<policy::PolicyFile> without_members(std::vector<policy::PolicyFile> files);
// The pods among them; "": none.
std::string pods_in(const std::vector<policy::PolicyFile>& files);
// The policy's own alone: those of its sets are read again.
std::vector<policy::PolicyFile> policy_files(std::vector<policy::PolicyFile> files);

// All diagnostics when one of them is an error. Files of sets that are not among `files` are asked of
// `read_set`, and are among the result's.
std::expected<CompiledPolicy, policy::Diagnostics> compile_policy(
    std::vector<policy::PolicyFile> files, const policy::SetReader& read_set = {});

// A line each.
std::string to_text(const policy::Diagnostics& diagnostics);

}  // namespace sluice::control
