#include "policy/diagnostic.h"

#include <algorithm>

namespace sluice::policy {

std::string Location::to_string() const {
  if (file.empty() && line == 0) return "default";
  if (line == 0) return file;
  return file + ":" + std::to_string(line) + ":" + std::to_string(column);
}

std::string Diagnostic::to_string() const {
  std::string text = where.to_string();
  text += severity == Severity::error ? ": error: " : ": warning: ";
  text += message;
  if (!hint.empty()) text += " (" + hint + ")";
  return text;
}

bool has_errors(const Diagnostics& diagnostics) {
  return std::ranges::any_of(diagnostics, [](const Diagnostic& diagnostic) {
    return diagnostic.severity == Diagnostic::Severity::error;
  });
}

}  // namespace sluice::policy
