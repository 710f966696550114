// Parses policies from strings, for tests.
#pragma once

#include <gtest/gtest.h>
#include <initializer_list>
#include <string>
#include <vector>

#include "policy/document.h"

namespace sluice::policy {

inline ParseResult parse_text(std::string text) {
  const PolicyFile file{"p.yaml", std::move(text)};
  return parse({&file, 1});
}

inline std::vector<std::string> shown(const Diagnostics& diagnostics) {
  std::vector<std::string> lines;
  for (const Diagnostic& diagnostic : diagnostics)
    lines.push_back(diagnostic.to_string());
  return lines;
}

// A policy that must be good; fails the test with its errors otherwise.
inline Config parse_good(std::string text) {
  ParseResult result = parse_text(std::move(text));
  for (const Diagnostic& diagnostic : result.diagnostics)
    ADD_FAILURE() << diagnostic.to_string();
  return result.config.value_or(Config{});
}

}  // namespace sluice::policy
