#include "policy/changes.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "policy/snapshot.h"

namespace sluice::policy {

namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 21> kLayers{{
    {"protect.from", "guard, interception"},
    {"intercept.local", "steering"},
    {"intercept.forward", "interception, steering"},
    {"intercept.output", "interception, steering"},
    {"intercept.marks", "interception"},
    {"intercept.tc", "interception, steering"},
    {"listeners", "gateway"},
    {"ai.bypass", "interception"},
    {"upstreams", "gateway"},
    {"routes", "gateway"},
    {"limits", "gateway"},
    {"bans.rules", "gateway, guard"},
    {"guard.rules", "guard"},
    {"guard", "guard"},
    {"default_route", "gateway"},
    {"sets", "guard, gateway"},
    {"protect.host_ports", "guard, interception"},
    {"bans", "gateway, guard"},
    {"workers", "keeper, gateway"},
    {"state_dir", "keeper, gateway"},
    {"settings", "keeper, gateway"},
}};

std::string layer_of(const std::string& section) {
  const auto found = std::ranges::find(kLayers, section, [](const auto& entry) { return entry.first; });
  return std::string(found == kLayers.end() ? "gateway" : found->second);
}

using Key = std::pair<std::string, std::string>;

// Where the same entries stand in another order that means something else: the first rule of the
// guard that drops is the one reported, the first regular expression that matches has the request.
void add_orders(const Config& before, const Config& after, std::vector<Change>& out) {
  const std::vector<Item> known = orders_of(before);
  const std::vector<Item> next = orders_of(after);
  for (std::size_t i = 0; i < known.size(); ++i) {
    const Item& item = known[i];
    if (item.fingerprint != next[i].fingerprint)
      out.push_back({Change::Kind::changed, item.section, item.name, layer_of(item.section),
                     item.where, next[i].where});
  }
}

}  // namespace

std::vector<Change> changes(const Config& before, const Config& after) {
  // Entries without a name of their own may be there twice.
  std::multimap<Key, Item> known;
  for (Item& item : items_of(before)) {
    Key key{item.section, item.name};
    known.emplace(std::move(key), std::move(item));
  }
  std::vector<Change> out;
  // An upstream without a place is default_route's, which is told.
  const auto implied = [](const Item& item) {
    return item.section == "upstreams" && item.where.line == 0;
  };
  std::erase_if(known, [&](const auto& entry) { return implied(entry.second); });
  for (const Item& item : items_of(after)) {
    if (implied(item)) continue;
    const auto [first, last] = known.equal_range({item.section, item.name});
    if (first == last) {
      out.push_back({Change::Kind::added, item.section, item.name, layer_of(item.section), {},
                     item.where});
      continue;
    }
    const auto same = std::find_if(
        first, last, [&](const auto& entry) { return entry.second.fingerprint == item.fingerprint; });
    const auto match = same == last ? first : same;
    if (same == last)
      out.push_back({Change::Kind::changed, item.section, item.name, layer_of(item.section),
                     match->second.where, item.where});
    known.erase(match);
  }
  for (const auto& [key, item] : known)
    out.push_back({Change::Kind::removed, item.section, item.name, layer_of(item.section),
                   item.where, {}});
  if (out.empty()) add_orders(before, after, out);
  return out;
}

}  // namespace sluice::policy
