#include "policy/nearest_name.h"

#include <algorithm>
#include <vector>

namespace sluice::policy {

namespace {

constexpr std::size_t kLongestCompared = 64;  // cost is the product of both lengths
constexpr std::size_t kMostListed = 12;

// Optimal string alignment distance, three rows.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known) {
  if (name.size() > kLongestCompared) return {};
  std::string_view best;
  std::size_t least = std::max<std::size_t>(name.size() / 3, 1) + 1;
  for (const std::string_view candidate : known) {
    if (candidate.size() > kLongestCompared) continue;
    const std::size_t edits = distance(name, candidate);
    if (edits < least && edits < candidate.size()) {
      least = edits;
      best = candidate;
    }
  }
  return best;
}

std::string suggestion(std::string_view name, std::span<const std::string_view> known) {
  if (const std::string_view near = nearest_name(name, known); !near.empty()) {
    return "did you mean `" + std::string(near) + "`?";
  }
  if (known.empty()) return "";
  std::string text = "known: ";
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (i == kMostListed) return text + ", …";
    if (i > 0) text += ", ";
    text += known[i];
  }
  return text;
}

}  // namespace sluice::policy
