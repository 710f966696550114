#include "gateway/ai/filter/detectors.h"

#include <algorithm>
#include <array>
#include <ranges>

namespace sluice::gateway::ai {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_capital(char c) {
  return c >= 'A' && c <= 'Z';
}

// Secrets first, then personal data; words that belong together stand together.
constexpr std::array kDetectors{
    // OpenAI, Anthropic, OpenRouter, our own; Google; Groq; Hugging Face; Stripe; GitLab; GitHub;
    // Slack; npm.
    Detector{"api_key", R"(\bsk-[A-Za-z0-9_-]{20,})"},
    Detector{"api_key", R"(\bAIza[A-Za-z0-9_-]{35})"},
    Detector{"api_key", R"(\b(?:gsk|hf|npm)_[A-Za-z0-9]{30,})"},
    Detector{"api_key", R"(\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,})"},
    Detector{"api_key", R"(\bglpat-[A-Za-z0-9_-]{20,})"},
    Detector{"api_key", R"(\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}))"},
    Detector{"api_key", R"(\bxox[abeprs]-[A-Za-z0-9-]{10,})"},
    Detector{"aws_key", R"(\b(?:AKIA|ASIA)[A-Z0-9]{16}\b)"},
    Detector{"jwt", R"(\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"},
    Detector{"private_key",
             R"(-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,-]*)"},
    Detector{"email",
             R"([A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b)"},
    Detector{"credit_card", R"(\b[0-9](?:[ -]?[0-9]){12,30})", credit_card},
    Detector{"iban", R"(\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,40})", iban},
    Detector{"us_ssn", R"(\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b)"},
};
constexpr std::size_t kSecrets = 10;  // of them

// Doubles every second digit from the right.
bool luhn(std::string_view candidate) {
  int sum = 0;
  bool twice = false;
  for (const char c : candidate | std::views::reverse) {
    if (!is_digit(c)) continue;
    const int digit = twice ? (c - '0') * 2 : c - '0';
    sum += digit > 9 ? digit - 9 : digit;
    twice = !twice;
  }
  return sum % 10 == 0;
}

bool remainder_is_one(std::string_view candidate) {
  int rest = 0;
  int at = 0;
  const auto take = [&](char c) {
    if (c == ' ') return;
    if (is_digit(c)) {
      rest = (rest * 10 + (c - '0')) % 97;
    } else {
      rest = (rest * 100 + (c - 'A' + 10)) % 97;
    }
  };
  // The first four move to the end.
  for (const char c : candidate)
    if (c != ' ' && at++ >= 4) take(c);
  at = 0;
  for (const char c : candidate)
    if (c != ' ' && at++ < 4) take(c);
  return rest == 1;
}

}  // namespace

std::span<const Detector> detectors(std::string_view word) {
  const std::span<const Detector> all(kDetectors);
  if (word == "secrets") return all.first(kSecrets);
  if (word == "personal") return all.subspan(kSecrets);
  const auto first = std::ranges::find(all, word, &Detector::word);
  const auto last = std::ranges::find_if(
      first, all.end(), [&](const Detector& detector) { return detector.word != word; });
  return {first, last};
}

std::size_t credit_card(std::string_view candidate) {
  std::size_t digits = 0;
  std::size_t found = 0;
  for (std::size_t at = 0; at < candidate.size(); ++at) {
    if (!is_digit(candidate[at])) continue;
    const bool ends = at + 1 == candidate.size() || !is_digit(candidate[at + 1]);
    if (++digits > 19) break;
    if (digits >= 13 && ends && luhn(candidate.substr(0, at + 1))) found = at + 1;
  }
  return found;
}

std::size_t iban(std::string_view candidate) {
  std::size_t signs = 0;
  std::size_t found = 0;
  for (std::size_t at = 0; at < candidate.size(); ++at) {
    const char c = candidate[at];
    if (!is_digit(c) && !is_capital(c)) continue;
    const bool ends = at + 1 == candidate.size() ||
                      (!is_digit(candidate[at + 1]) && !is_capital(candidate[at + 1]));
    if (++signs > 34) break;
    if (signs >= 15 && ends && remainder_is_one(candidate.substr(0, at + 1))) found = at + 1;
  }
  return found;
}

}  // namespace sluice::gateway::ai
