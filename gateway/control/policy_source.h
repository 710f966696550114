// Where the policy comes from: one file, or a directory of *.yaml (conf.d style, or a mounted
// ConfigMap).
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <vector>

#include "policy/document.h"

namespace sluice::gateway {

// Beyond these a policy is refused unread: it is a mistake or an attack.
inline constexpr std::size_t kMaxPolicyBytes = 32UL << 20;  // all files together
inline constexpr std::size_t kMaxPolicyFiles = 1024;

// Reads a file, or every *.yaml and *.yml of a directory in the order of their names (hidden ones
// left out, which skips a ConfigMap's `..data` and its timestamped directories). The error is one
// line that says which path and why.
std::expected<std::vector<policy::PolicyFile>, std::string> read_policy(const std::string& path);

inline constexpr std::size_t kMaxSetFileBytes = 128UL << 20;

// A file that a set names, as policy::SetReader wants it: the error says why not, without the path.
std::expected<std::string, std::string> read_set_file(const std::string& path);

}  // namespace sluice::gateway
