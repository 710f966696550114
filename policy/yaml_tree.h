// YAML text as a tree of our own: with the place of every key and value, duplicates kept (to be
// refused later), bounded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/diagnostic.h"
#include "policy/document.h"

namespace sluice::policy {

// A Location without its strings: there is one per node.
struct Place {
  std::uint32_t file = 0;  // index of the PolicyFile
  std::uint32_t line = 0;  // from 1; 0: nowhere in the file
  std::uint32_t column = 0;
};

struct Node {
  enum class Kind : std::uint8_t { null, scalar, list, map };
  Kind kind = Kind::null;
  Place at;
  Place key_at;                // in a map: of its key
  std::string key;             // in a map
  std::string text;            // scalar
  std::vector<Node> children;  // list, map

  const Node* find(std::string_view name) const;
  // What to underline when the whole entry is meant: its key, or the value in a list.
  Place where() const { return key_at.line != 0 ? key_at : at; }
};

// Collects diagnostics; stops growing at kMostDiagnostics so that a hostile file cannot flood the
// log.
class Reporter {
 public:
  static constexpr std::size_t kMostDiagnostics = 200;

  explicit Reporter(std::span<const PolicyFile> files) : files_(files) {}

  void error(Place at, std::string message, std::string hint = "");
  void error(Location at, std::string message, std::string hint = "");
  void warning(Location at, std::string message, std::string hint = "");
  Location locate(Place at) const;
  bool full() const { return diagnostics_.size() > kMostDiagnostics; }
  bool has_errors() const { return policy::has_errors(diagnostics_); }
  // Sorted by file, line and column.
  Diagnostics take();

 private:
  void add(Diagnostic diagnostic);
  std::size_t rank(const std::string& file) const;

  std::span<const PolicyFile> files_;
  Diagnostics diagnostics_;
};

// The file's root, always a map. Syntax errors, aliases, tags, a second document, and what exceeds
// kMaxPolicyNodes or kMaxPolicyDepth are reported; the tree then holds what came before.
Node parse_yaml(std::string_view text, std::uint32_t file, std::size_t& node_budget,
                Reporter& reporter);

}  // namespace sluice::policy
