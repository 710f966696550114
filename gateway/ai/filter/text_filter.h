// Finds in a text what a policy does not let through, and takes it out. Compiled once; any thread.
#pragma once

#include <cstddef>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}

namespace sluice::gateway::ai {

struct FilterRule {
  std::string name;
  std::vector<std::string_view> find = {};  // words of detectors.h
  std::string pattern = {};                 // "": none
  bool refuse = false;
};

// What was found: by rule, how often.
struct Findings {
  struct Hit {
    std::size_t rule = 0;
    std::size_t count = 0;
  };
  std::vector<Hit> hits;
  void add(std::size_t rule);
  bool empty() const { return hits.empty(); }
};

class TextFilter {
 public:
  // The longest match that is found across the pieces of a stream, and what of it is held back
  // meanwhile, in bytes. A pattern of the policy's own: the last ones are.
  static constexpr std::size_t kMostOfWord = 256;   // what has no space in it
  static constexpr std::size_t kMostOfMatch = 8192;  // what is a match already, and may go on
  static constexpr std::size_t kOwnPattern = 128;

  // The error names the rule.
  static std::expected<TextFilter, std::string> compile(std::vector<FilterRule> rules);

  // The same rules, under the same numbers, but only these are looked for.
  TextFilter only(const std::vector<std::size_t>& rules) const;

  bool empty() const { return patterns_.empty(); }
  const FilterRule& rule(std::size_t index) const { return rules_[index]; }
  // The first of `findings` that refuses; null: none does.
  const FilterRule* refuses(const Findings& findings) const;

  // Each match becomes "[NAME]"; escapes of JSON within `text` stay whole. False: there is none, and `text` is as it was.
  bool redact(std::string& text, Findings& findings) const;

  // Of a text that goes on: what is ready is redacted and appended to `out`, the rest stays in
  // `held`. `last`: nothing follows.
  void feed(std::string& held, bool last, std::string& out, Findings& findings) const;

 private:
  struct Pattern {
    std::size_t rule = 0;
    std::string label;
    std::shared_ptr<const re2::RE2> regex;
    bool own = false;  // of the policy
    std::size_t (*check)(std::string_view candidate) = nullptr;
  };
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    const Pattern* pattern = nullptr;
  };
  static void find(const Pattern& pattern, std::string_view text, std::vector<Match>& all);
  std::vector<Match> matches(std::string_view text) const;
  std::size_t safe_end(std::string_view text, const std::vector<Match>& found) const;
  static void replace(std::string_view text, std::size_t end, const std::vector<Match>& found,
                      std::string& out, Findings& findings);

  std::vector<FilterRule> rules_;
  std::vector<Pattern> patterns_;
  bool own_patterns_ = false;
};

}  // namespace sluice::gateway::ai
