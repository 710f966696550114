// What the doctor's checks share: small files, and whether the plan uses something.
#pragma once

#include <algorithm>
#include <exception>
#include <fstream>
#include <optional>
#include <string>

#include "kernel/doctor.h"

namespace sluice::kernel {

inline std::optional<std::string> read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

inline std::optional<long> read_number(const std::string& path) {
  const auto line = read_line(path);
  if (!line) return std::nullopt;
  try {
    return std::stol(*line);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

inline bool intercepts(const Plan& plan, WayIn way) {
  return std::ranges::any_of(plan.intercepts,
                             [way](const Intercept& entry) { return entry.way == way; });
}

}  // namespace sluice::kernel
