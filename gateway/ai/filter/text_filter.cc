#include "gateway/ai/filter/text_filter.h"

#include <algorithm>
#include <re2/re2.h>

#include "gateway/ai/filter/detectors.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::int64_t kMemory = 4L << 20;  // of one pattern
constexpr std::size_t kMostOfNumber = 96;   // digits, capitals, spaces and hyphens
constexpr std::string_view kKeyBegins = "-----BEGIN";

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}
bool is_of_number(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == ' ' || c == '-';
}

// Where the last run of such characters begins, if it is no longer than `most`; else `most` before
// the end.
template <typename Is>
std::size_t last_run(std::string_view text, std::size_t most, Is is) {
  std::size_t at = text.size();
  while (at > 0 && text.size() - at < most && is(text[at - 1]))
    --at;
  return at;
}

bool is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// What stands behind the backslashes at the begin of an escape; 0: it is none.
std::size_t escaped_size(std::string_view text) {
  constexpr std::size_t kUnit = 5;  // u00fc
  if (text.empty()) return 0;
  if (std::string_view("bfnrt\"/").contains(text[0])) return 1;
  if (text[0] != 'u' || text.size() < kUnit) return 0;
  return std::ranges::all_of(text.substr(1, kUnit - 1), is_hex) ? kUnit : 0;
}

// JSON within a text, as arguments of tools are, however often it was escaped: behind an escape a
// word begins that the escape is no part of. Every place stays where it is.
std::string without_escapes(std::string_view text) {
  std::string out(text);
  for (std::size_t at = text.find('\\'); at != std::string_view::npos; at = text.find('\\', at)) {
    const std::size_t begin = at;
    at = text.find_first_not_of('\\', at);
    if (at == std::string_view::npos) break;
    const std::size_t size = escaped_size(text.substr(at));
    if (size == 0) continue;
    const char c = text[at];
    const char sign = c == '"' || c == 'u' ? '\x01' : c == '/' ? '/' : ' ';
    at += size;
    std::ranges::fill(out.begin() + static_cast<std::ptrdiff_t>(begin),
                      out.begin() + static_cast<std::ptrdiff_t>(at), sign);
  }
  return out;
}

// Where the escape begins that goes on at `at`; `at` itself: none does.
std::size_t escape_begin(std::string_view text, std::size_t at) {
  constexpr std::size_t kMostDigits = 3;
  constexpr std::size_t kMostBackslashes = 64;
  std::size_t begin = at;
  for (std::size_t digits = 0; digits <= kMostDigits && at >= digits + 2; ++digits) {
    const std::size_t unit = at - digits - 1;
    if (text[unit] == 'u' && text[unit - 1] == '\\') begin = unit;
    if (!is_hex(text[unit])) break;
  }
  while (begin > 0 && at - begin < kMostBackslashes && text[begin - 1] == '\\')
    --begin;
  return begin;
}

std::shared_ptr<const re2::RE2> compiled(std::string_view pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMemory);
  return std::make_shared<const re2::RE2>(re2::StringPiece(pattern.data(), pattern.size()),
                                          options);
}

}  // namespace

void Findings::add(std::size_t rule) {
  const auto known = std::ranges::find(hits, rule, &Hit::rule);
  if (known != hits.end()) {
    ++known->count;
  } else {
    hits.push_back({rule, 1});
  }
}

std::expected<TextFilter, std::string> TextFilter::compile(std::vector<FilterRule> rules) {
  TextFilter filter;
  filter.rules_ = std::move(rules);
  for (std::size_t i = 0; i < filter.rules_.size(); ++i) {
    const FilterRule& rule = filter.rules_[i];
    for (const std::string_view word : rule.find)
      for (const Detector& detector : detectors(word))
        filter.patterns_.push_back({i, "[" + std::string(detector.word) + "]",
                                    compiled(detector.pattern), false, detector.check});
    if (rule.pattern.empty()) continue;
    auto regex = compiled(rule.pattern);
    if (!regex->ok()) return std::unexpected(rule.name + ": " + regex->error());
    filter.patterns_.push_back({i, "[" + rule.name + "]", std::move(regex), true, nullptr});
    filter.own_patterns_ = true;
  }
  return filter;
}

TextFilter TextFilter::only(const std::vector<std::size_t>& rules) const {
  TextFilter out;
  out.rules_ = rules_;
  for (const Pattern& pattern : patterns_) {
    if (std::ranges::find(rules, pattern.rule) == rules.end()) continue;
    out.patterns_.push_back(pattern);
    out.own_patterns_ = out.own_patterns_ || pattern.own;
  }
  return out;
}

const FilterRule* TextFilter::refuses(const Findings& findings) const {
  for (const Findings::Hit& hit : findings.hits)
    if (rules_[hit.rule].refuse) return &rules_[hit.rule];
  return nullptr;
}

void TextFilter::find(const Pattern& pattern, std::string_view text, std::vector<Match>& all) {
  const re2::StringPiece whole(text.data(), text.size());
  std::size_t at = 0;
  re2::StringPiece found;
  while (at < text.size() &&
         pattern.regex->Match(whole, at, text.size(), re2::RE2::UNANCHORED, &found, 1)) {
    const auto begin = static_cast<std::size_t>(found.data() - text.data());
    std::size_t size = found.size();
    if (pattern.check != nullptr) size = pattern.check(text.substr(begin, size));
    if (size > 0) all.push_back({begin, begin + size, &pattern});
    at = begin + std::max<std::size_t>(size, 1);
  }
}

// In the order of their places; of those that overlap the one that begins first, then the longest.
std::vector<TextFilter::Match> TextFilter::matches(std::string_view text) const {
  std::vector<Match> all;
  const bool escapes = text.contains('\\');
  // The policy's own patterns may look for escapes, too; of none a part is taken.
  for (const Pattern& pattern : patterns_)
    if (!escapes || pattern.own) find(pattern, text, all);
  if (escapes) {
    for (Match& match : all) {
      match.begin = escape_begin(text, match.begin);
      const std::size_t end = escape_begin(text, match.end);
      if (end > match.begin) match.end = end;
    }
    const std::string meant = without_escapes(text);
    for (const Pattern& pattern : patterns_)
      find(pattern, meant, all);
  }
  std::ranges::sort(all, [](const Match& a, const Match& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  std::vector<Match> apart;
  for (const Match& match : all)
    if (apart.empty() || match.begin >= apart.back().end) apart.push_back(match);
  return apart;
}

void TextFilter::replace(std::string_view text, std::size_t end, const std::vector<Match>& found,
                         std::string& out, Findings& findings) {
  std::size_t at = 0;
  for (const Match& match : found) {
    if (match.begin >= end) break;
    out.append(text.substr(at, match.begin - at)).append(match.pattern->label);
    findings.add(match.pattern->rule);
    at = match.end;
  }
  if (at < end) out.append(text.substr(at, end - at));
}

bool TextFilter::redact(std::string& text, Findings& findings) const {
  const std::vector<Match> found = matches(text);
  if (found.empty()) return false;
  std::string out;
  replace(text, text.size(), found, out, findings);
  text = std::move(out);
  return true;
}

// Up to where nothing that follows can change what is found.
std::size_t TextFilter::safe_end(std::string_view text, const std::vector<Match>& found) const {
  std::size_t end = last_run(text, kMostOfWord, [](char c) { return !is_space(c); });
  std::size_t number = last_run(text, kMostOfNumber, is_of_number);
  while (number < text.size() && (text[number] == ' ' || text[number] == '-'))
    ++number;
  end = std::min(end, number);
  if (own_patterns_) end = std::min(end, text.size() - std::min(text.size(), kOwnPattern));
  end = escape_begin(text, end);
  const std::size_t key = text.rfind(kKeyBegins);
  const bool open = key != std::string_view::npos && text.size() - key < kMostOfMatch &&
                    text.find("-----", key + kKeyBegins.size()) == std::string_view::npos;
  if (open) end = std::min(end, key);
  for (const Match& match : found) {
    // It may go on, or be a part of a longer one.
    const bool crosses = match.begin < end && match.end > end;
    const bool touches = match.begin < end && match.end == text.size();
    if ((crosses || touches) && text.size() - match.begin < kMostOfMatch) end = match.begin;
    if (crosses && match.begin < end) end = match.end;
  }
  return end;
}

void TextFilter::feed(std::string& held, bool last, std::string& out, Findings& findings) const {
  const std::vector<Match> found = matches(held);
  const std::size_t end = last ? held.size() : safe_end(held, found);
  if (end == 0) return;
  replace(held, end, found, out, findings);
  held.erase(0, end);
}

}  // namespace sluice::gateway::ai
