#include "gateway/main/arguments.h"

#include <algorithm>
#include <charconv>

namespace sluice::control {

std::expected<Arguments, std::string> Arguments::parse(std::span<const std::string_view> words,
                                                       std::span<const OptionSpec> options) {
  Arguments out;
  bool only_words = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (word == "--" && !only_words) {
      only_words = true;
      continue;
    }
    if (only_words || !word.starts_with("--")) {
      if (only_words || word.size() < 2 || !word.starts_with('-')) {
        out.words_.emplace_back(word);
        continue;
      }
      const auto flag = std::ranges::find(options, word[1], &OptionSpec::letter);
      if (word.size() > 2 || flag == options.end())
        return std::unexpected("unknown option " + std::string(word));
      out.values_[std::string(flag->name)].emplace_back();
      continue;
    }
    word.remove_prefix(2);
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const auto spec = std::ranges::find(options, name, &OptionSpec::name);
    if (spec == options.end()) return std::unexpected("unknown option --" + std::string(name));
    if (spec->value.empty()) {
      if (equals != std::string_view::npos)
        return std::unexpected("--" + std::string(name) + " takes no value");
      out.values_[std::string(name)].emplace_back();
    } else if (equals != std::string_view::npos) {
      out.values_[std::string(name)].emplace_back(word.substr(equals + 1));
    } else if (i + 1 < words.size()) {
      out.values_[std::string(name)].emplace_back(words[++i]);
    } else {
      return std::unexpected("--" + std::string(name) +
                             " needs a value: " + std::string(spec->value));
    }
  }
  return out;
}

std::string Arguments::get(std::string_view name, std::string_view otherwise) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::string(otherwise) : it->second.back();
}

std::vector<std::string> Arguments::all(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

std::optional<long> parse_seconds(std::string_view text) {
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value <= 0 || value > 1'000'000'000) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (unit == "ms") return value % 1000 == 0 ? std::optional(value / 1000) : std::nullopt;
  if (unit == "s") return value;
  if (unit == "m" || unit == "min") return value * 60;
  if (unit == "h") return value * 3600;
  if (unit == "d") return value * 86400;
  return std::nullopt;
}

}  // namespace sluice::control
