// A command's arguments: --name VALUE, --name=VALUE, --flag, and the words between them.
#pragma once

#include <expected>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::control {

struct OptionSpec {
  std::string_view name;   // "policy", without the dashes
  std::string_view value;  // "PATH"; empty: a flag
  std::string_view help;
  char letter = 0;                    // of a flag: 'f' for -f too
  std::string_view choices = {};      // "table json": all that it takes
};

class Arguments {
 public:
  // An unknown option, a missing value or a value for a flag is an error in one line. `--` ends the
  // options.
  static std::expected<Arguments, std::string> parse(std::span<const std::string_view> words,
                                                     std::span<const OptionSpec> options);

  bool has(std::string_view name) const { return values_.contains(name); }
  std::string get(std::string_view name, std::string_view otherwise = {}) const;  // the last one
  std::vector<std::string> all(std::string_view name) const;  // in their order
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
  std::vector<std::string> words_;
};

// "500ms", "10s", "5m", "2h", "1d"; whole seconds are what bans understand, so less than one is an
// error.
std::optional<long> parse_seconds(std::string_view text);

}  // namespace sluice::control
