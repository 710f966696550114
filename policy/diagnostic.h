// A located problem in a policy, ready to be shown: `file:line:column: error: message (hint)`.
#pragma once

#include <string>
#include <vector>

namespace sluice::policy {

// Where something stands in the policy. Lines and columns count from 1; 0 = not from a file (a
// default).
struct Location {
  std::string file;
  int line = 0;
  int column = 0;
  std::string to_string() const;  // "policy.yaml:12:7", or "default"
  bool operator==(const Location&) const = default;
};

struct Diagnostic {
  enum class Severity { error, warning };
  Severity severity = Severity::error;
  Location where;
  std::string message;  // what is wrong
  std::string hint;     // what would be right; may be empty
  std::string to_string() const;
};

using Diagnostics = std::vector<Diagnostic>;

bool has_errors(const Diagnostics& diagnostics);

}  // namespace sluice::policy
