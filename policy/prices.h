// What models cost: a file of its own, since prices change and policies do not. Pure: text in,
// prices out.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "policy/diagnostic.h"

namespace sluice::policy {

// In US dollars for a million tokens, which is millionths of a dollar a token.
struct Price {
  double input = 0;
  double cached_input = 0;  // read from a cache; left out: as `input`
  double cache_write = 0;   // the same
  double output = 0;
};

class Prices {
 public:
  // MODEL: { input: 1.25, output: 10, cached_input: 0.125, cache_write: 1.25 }
  // by the provider's name for it, PROVIDER/MODEL before MODEL; a `*` at the end stands for
  // anything, the longest counts. Errors name `name`, line and column.
  static std::expected<Prices, Diagnostics> parse(std::string_view text, const std::string& name);

  // Null: nobody has said.
  const Price* find(std::string_view provider, std::string_view model) const;
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    std::string name;
    Price price;
  };
  // `provider`: whose entries are looked at, by what stands behind its name; "": all, as they are.
  const Price* find_below(std::string_view provider, std::string_view model) const;

  std::vector<Entry> entries_;  // exact names first, then patterns, the longest first
};

}  // namespace sluice::policy
