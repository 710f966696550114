// What secrets and personal data look like: the built-in ones, by the policy's words.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace sluice::gateway::ai {

struct Detector {
  std::string_view word;     // of policy/schema: "email"
  std::string_view pattern;  // RE2's
  // How many bytes of what the pattern has found are it; 0: it is not. Null: all.
  std::size_t (*check)(std::string_view candidate) = nullptr;
};

// Of one word, or of the groups "secrets" and "personal"; empty: unknown.
std::span<const Detector> detectors(std::string_view word);

// ISO/IEC 7812: 13 to 19 digits, with single spaces or hyphens between, whose check digit is right.
std::size_t credit_card(std::string_view candidate);
// ISO 13616: the longest beginning whose remainder by 97 is 1.
std::size_t iban(std::string_view candidate);

}  // namespace sluice::gateway::ai
