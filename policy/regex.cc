#include "policy/regex.h"

#include <algorithm>
#include <re2/re2.h>

namespace sluice::policy {

namespace {

// Of one pattern: its program and the automaton that grows while it matches. RE2 goes on with a
// slower one when this is used up.
constexpr std::int64_t kMemory = 256 << 10;
constexpr int kRangeLength = 24;

}  // namespace

std::expected<Regex, std::string> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxLength) {
    return std::unexpected("longer than " + std::to_string(kMaxLength) + " bytes");
  }
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMemory);
  options.set_never_capture(true);
  auto compiled =
      std::make_shared<const re2::RE2>(re2::StringPiece(pattern.data(), pattern.size()), options);
  if (!compiled->ok()) return std::unexpected(compiled->error());
  return Regex(std::move(compiled));
}

Regex::Regex(std::shared_ptr<const re2::RE2> compiled) : compiled_(std::move(compiled)) {
  if (!compiled_->PossibleMatchRange(&low_, &high_, kRangeLength)) {
    low_.clear();
    high_.clear();
  }
}

bool Regex::matches(std::string_view text) const noexcept {
  if (!high_.empty() && (text < low_ || text > high_)) return false;
  return re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), *compiled_);
}

bool Regex::may_begin_with(char first) const noexcept {
  if (high_.empty()) return true;
  const std::string_view one(&first, 1);
  return std::string_view(low_).substr(0, 1) <= one && one <= std::string_view(high_).substr(0, 1);
}

std::size_t Regex::cost() const noexcept {
  return static_cast<std::size_t>(std::max(compiled_->ProgramSize(), 1));
}

const std::string& Regex::pattern() const noexcept {
  return compiled_->pattern();
}

}  // namespace sluice::policy
