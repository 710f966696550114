// Text in, typed configuration out. Pure: reads no file, no clock, no environment.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "policy/config.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// One file of a policy. `name` is what diagnostics show, usually the path as the operator wrote it.
struct PolicyFile {
  std::string name;
  std::string text;
};

// `config` is there exactly when `diagnostics` holds no error; warnings may come with it.
struct ParseResult {
  std::optional<Config> config;
  Diagnostics diagnostics;  // in the order of the files, then lines
};

// Parses, checks against the schema, merges the files of a directory, and cross-checks. Never
// throws; finds as many errors as it can in one go. Bounded for hostile input: kMaxPolicyBytes in
// all, kMaxPolicyNodes YAML nodes, kMaxPolicyDepth levels, no aliases. Files are merged in the
// order given: maps and lists concatenate, a value or a named entry that two files set is an error.
ParseResult parse(std::span<const PolicyFile> files);

inline constexpr std::size_t kMaxPolicyBytes = 8u << 20;
inline constexpr std::size_t kMaxPolicyNodes = 1'000'000;
inline constexpr int kMaxPolicyDepth = 64;

}  // namespace sluice::policy
