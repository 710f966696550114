// Text in, typed configuration out. Pure: reads no file, no clock, no environment.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "policy/config.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// One file of a policy. `name` is what diagnostics show, usually the path as the operator wrote it.
struct PolicyFile {
  enum class Kind : std::uint8_t {
    policy,
    set,      // a file that a set names, by its path
    members,  // what was added to a set at run time: its name, and a prefix a line
    pods,     // this node's, a line each (pods.h)
  };
  std::string name;
  std::string text;
  Kind kind = Kind::policy;
  bool operator==(const PolicyFile&) const = default;
};

// The text of a file that a set names, by its path; the error says in a few words why not. The
// policy itself reads nothing.
using SetReader = std::function<std::expected<std::string, std::string>(const std::string& path)>;

// `config` is there exactly when `diagnostics` holds no error; warnings may come with it.
struct ParseResult {
  std::optional<Config> config;
  Diagnostics diagnostics;  // in the order of the files, then lines
};

// Parses, checks against the schema, merges the files of a directory, and cross-checks. Never
// throws; finds as many errors as it can in one go. Bounded for hostile input: kMaxPolicyBytes in
// all, kMaxPolicyNodes YAML nodes, kMaxPolicyDepth levels, no aliases. Files are merged in the
// order given: maps and lists concatenate, a value or a named entry that two files set is an error.
// `files` holds those of Kind::policy first. Files of sets are looked for among `files`, then asked
// of `read_set`; without it they count as empty.
ParseResult parse(std::span<const PolicyFile> files, const SetReader& read_set = {});

inline constexpr std::size_t kMaxPolicyBytes = 8u << 20;
inline constexpr std::size_t kMaxPolicyNodes = 1'000'000;
inline constexpr int kMaxPolicyDepth = 64;

}  // namespace sluice::policy
