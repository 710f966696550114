#include "policy/prices.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>

#include "policy/nearest_name.h"
#include "policy/units.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

namespace {

constexpr std::array<std::string_view, 4> kKeys{"input", "output", "cached_input", "cache_write"};

double& place_of(Price& price, std::size_t key) {
  switch (key) {
    case 0:
      return price.input;
    case 1:
      return price.output;
    case 2:
      return price.cached_input;
    default:
      return price.cache_write;
  }
}

Price read_price(const Node& entry, Reporter& reporter) {
  Price price;
  std::array<bool, kKeys.size()> said{};
  for (const Node& value : entry.children) {
    const auto key = std::ranges::find(kKeys, value.key);
    const auto number = parse_number(value.text);
    if (key == kKeys.end()) {
      reporter.error(value.where(), "`" + value.key + "` is no price",
                     suggestion(value.key, kKeys));
      continue;
    }
    const auto index = static_cast<std::size_t>(key - kKeys.begin());
    if (said[index]) reporter.error(value.where(), "`" + value.key + "` is there twice");
    said[index] = true;
    if (!number || *number < 0 || *number > 1e6) {
      reporter.error(value.at, entry.key + "." + value.key + " is not a price",
                     "US dollars for a million tokens, such as 1.25");
    } else {
      place_of(price, index) = *number;
    }
  }
  if (!said[0] || !said[1])
    reporter.error(entry.where(), "`" + entry.key + "` has no price for both ways",
                   "such as { input: 1.25, output: 10 }");
  if (!said[2]) price.cached_input = price.input;
  if (!said[3]) price.cache_write = price.input;
  return price;
}

bool is_pattern(std::string_view name) {
  return name.ends_with('*');
}

}  // namespace

std::expected<Prices, Diagnostics> Prices::parse(std::string_view text, const std::string& name) {
  const std::array<PolicyFile, 1> files{{{name, std::string(text), PolicyFile::Kind::policy}}};
  Reporter reporter(files);
  std::size_t budget = kMaxPolicyNodes;
  Prices prices;
  const Node root = parse_yaml(text, 0, budget, reporter);
  std::set<std::string_view> names;
  for (const Node& entry : root.children) {
    if (!names.insert(entry.key).second)
      reporter.error(entry.where(), "`" + entry.key + "` is there twice");
    if (entry.kind != Node::Kind::map) {
      reporter.error(entry.where(), "`" + entry.key + "` is a map of prices",
                     "such as { input: 1.25, output: 10 }");
      continue;
    }
    prices.entries_.push_back({entry.key, read_price(entry, reporter)});
  }
  if (reporter.has_errors()) return std::unexpected(reporter.take());
  std::ranges::stable_sort(prices.entries_, [](const Entry& a, const Entry& b) {
    if (is_pattern(a.name) != is_pattern(b.name)) return is_pattern(b.name);
    return a.name.size() > b.name.size();
  });
  return prices;
}

const Price* Prices::find_below(std::string_view provider, std::string_view model) const {
  const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) {
    std::string_view name = entry.name;
    if (!provider.empty()) {
      if (!name.starts_with(provider) || !name.substr(provider.size()).starts_with('/'))
        return false;
      name.remove_prefix(provider.size() + 1);
    }
    if (!is_pattern(name)) return name == model;
    return model.starts_with(name.substr(0, name.size() - 1));
  });
  return found == entries_.end() ? nullptr : &found->price;
}

const Price* Prices::find(std::string_view provider, std::string_view model) const {
  // What names a provider comes first, however long the pattern; a bare `*` names none.
  const Price* of_provider = find_below(provider, model);
  return of_provider != nullptr ? of_provider : find_below("", model);
}

}  // namespace sluice::policy
