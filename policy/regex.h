// Regular expressions of the policy, by RE2: matching takes time linear in the text, whatever the
// pattern (CVE-2019-9900's family has no place here).
#pragma once

#include <cstddef>
#include <expected>
#include <memory>
#include <string>
#include <string_view>

namespace re2 {
class RE2;
}

namespace sluice::policy {

// Compiled; cheap to copy, read by any thread.
class Regex {
 public:
  // The longest pattern, and what all patterns of a policy may come to (Regex::cost()).
  static constexpr std::size_t kMaxLength = 1024;
  static constexpr std::size_t kMaxTotalCost = 1'000'000;

  // RE2's syntax, UTF-8, case-sensitive unless it says (?i). The error is RE2's own sentence.
  static std::expected<Regex, std::string> compile(std::string_view pattern);

  // The whole text, as if the pattern stood between ^ and $.
  bool matches(std::string_view text) const noexcept;
  // False: no text that begins with this octet can match.
  bool may_begin_with(char first) const noexcept;
  // Instructions of its program: what it takes of memory, in units of some 16 bytes.
  std::size_t cost() const noexcept;
  const std::string& pattern() const noexcept;

 private:
  explicit Regex(std::shared_ptr<const re2::RE2> compiled);

  std::shared_ptr<const re2::RE2> compiled_;
  // Every match lies between these; most texts are told apart by them alone.
  std::string low_;
  std::string high_;
};

}  // namespace sluice::policy
