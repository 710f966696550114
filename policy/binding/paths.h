// Paths that a policy names.
#pragma once

#include <string>

#include "policy/yaml_tree.h"

namespace sluice::policy::binding {

// As the process sees it: a relative path starts at the directory of the policy file that says it.
inline std::string beside_policy(const Node& said, const Reporter& reporter, std::string path) {
  if (path.empty() || path.starts_with('/')) return path;
  const std::string file = reporter.locate(said.at).file;
  if (const auto slash = file.rfind('/'); slash != std::string::npos)
    path.insert(0, file, 0, slash + 1);
  return path;
}

}  // namespace sluice::policy::binding
