// The last policy that was in force, kept for a start with a broken one.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/document.h"

namespace sluice::gateway {

// A policy's files as one run of bytes: for the state directory and for the way to the gateway
// process.
std::string bundle_policy(const std::vector<policy::PolicyFile>& files);
// Bounds-checked; nullopt for anything that bundle_policy() did not write.
std::optional<std::vector<policy::PolicyFile>> unbundle_policy(std::string_view bytes);

class LastGood {
 public:
  explicit LastGood(const std::string& state_dir);

  // Replaces the file atomically, mode 0600; makes the state directory if it is missing.
  std::expected<void, std::string> save(const std::vector<policy::PolicyFile>& files) const;
  std::expected<std::vector<policy::PolicyFile>, std::string> load() const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace sluice::gateway
