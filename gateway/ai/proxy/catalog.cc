#include "gateway/ai/proxy/catalog.h"

#include <algorithm>

namespace sluice::gateway::ai {
namespace {

bool is_pattern(const Catalog::Model& model) {
  return model.name.ends_with('*');
}

bool matches(const Catalog::Model& model, std::string_view wanted) {
  if (!is_pattern(model)) return model.name == wanted;
  return wanted.starts_with(std::string_view(model.name).substr(0, model.name.size() - 1));
}

Target asked(const Target& target, std::string_view model) {
  return {target.provider, target.model.empty() ? std::string(model) : target.model};
}

}  // namespace

Catalog::Catalog(std::vector<Provider> providers, std::vector<Model> models,
                 std::shared_ptr<const KeyStore> keys, std::shared_ptr<Meters> meters,
                 policy::Prices prices, bool drop_untranslatable)
    : providers_(std::move(providers)),
      models_(std::move(models)),
      keys_(std::move(keys)),
      meters_(std::move(meters)),
      prices_(std::move(prices)),
      drop_untranslatable_(drop_untranslatable) {
  std::ranges::stable_sort(models_, [](const Model& a, const Model& b) {
    if (is_pattern(a) != is_pattern(b)) return is_pattern(b);
    return a.name.size() > b.name.size();
  });
}

const Catalog::Model* Catalog::find(std::string_view model) const {
  const auto found =
      std::ranges::find_if(models_, [&](const Model& known) { return matches(known, model); });
  return found == models_.end() ? nullptr : &*found;
}

// Without a table: PROVIDER/MODEL, or the only provider there is.
std::vector<Target> Catalog::implied(std::string_view model) const {
  const std::size_t slash = model.find('/');
  if (slash != std::string_view::npos) {
    const auto named = std::ranges::find(providers_, model.substr(0, slash), &Provider::name);
    if (named != providers_.end()) {
      return {{static_cast<std::uint32_t>(named - providers_.begin()),
               std::string(model.substr(slash + 1))}};
    }
  }
  if (providers_.size() == 1) return {{0, std::string(model)}};
  return {};
}

std::vector<Target> Catalog::plan(std::string_view model, std::uint64_t random) const {
  if (models_.empty()) return implied(model);
  const Model* known = find(model);
  if (known == nullptr) return {};
  std::uint64_t total = 0;
  for (const Choice& choice : known->targets)
    total += choice.weight;
  std::uint64_t left = total > 0 ? random % total : 0;
  std::vector<Target> plan;
  for (const Choice& choice : known->targets) {
    if (choice.weight == 0) continue;
    const bool drawn = left < choice.weight;
    left = drawn ? total : left - choice.weight;  // once only
    plan.insert(drawn ? plan.begin() : plan.end(), asked(choice.target, model));
  }
  for (const Target& target : known->fallback)
    plan.push_back(asked(target, model));
  return plan;
}

std::optional<std::uint32_t> Catalog::first_of(Shape shape) const {
  const auto found = std::ranges::find(providers_, shape, &Provider::shape);
  if (found == providers_.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - providers_.begin());
}

std::vector<std::string_view> Catalog::names() const {
  std::vector<std::string_view> names;
  for (const Model& model : models_)
    if (!is_pattern(model)) names.push_back(model.name);
  std::ranges::sort(names);
  return names;
}

}  // namespace sluice::gateway::ai
