// Paths that a policy names.
#pragma once

#include <string>
#include <string_view>

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

// `file:PATH`, the path as above; anything else as it is.
inline std::string secret_beside_policy(const Node& said, const Reporter& reporter) {
  constexpr std::string_view kFile = "file:";
  if (!said.text.starts_with(kFile)) return said.text;
  return std::string(kFile) + beside_policy(said, reporter, said.text.substr(kFile.size()));
}

}  // namespace sluice::policy::binding
