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

std::string text_of(const policy::AiFilter& filter) {
  std::string out = filter.name + "\n" + filter.pattern + "\n";
  for (const std::uint8_t word : filter.find)
    out.append(std::to_string(word)).append(",");
  out.append(filter.action == policy::AiFilterAction::refuse ? "!" : "");
  return out.append(std::to_string(static_cast<int>(filter.direction))).append("\n");
}

}  // namespace

Catalog::Catalog(Parts parts) : parts_(std::move(parts)) {
  std::ranges::stable_sort(parts_.models, [](const Model& a, const Model& b) {
    if (is_pattern(a) != is_pattern(b)) return is_pattern(b);
    return a.name.size() > b.name.size();
  });
  for (const policy::AiFilter& filter : parts_.filters)
    filter_texts_.push_back(text_of(filter));
}

// By those that are for the call, whatever the others say: a filter may be extended to whom it was
// not for, and a key may come to another team.
std::string Catalog::filters_text(const CallFacts& facts) const {
  std::string out;
  for (std::size_t i = 0; i < parts_.filters.size(); ++i)
    if (covers(parts_.filters[i].scope, facts)) out += filter_texts_[i];
  return out;
}

std::optional<TextFilter> Catalog::filter_for(const CallFacts& facts,
                                              policy::AiDirection direction) const {
  std::vector<std::size_t> rules;
  for (std::size_t i = 0; i < parts_.filters.size(); ++i) {
    const policy::AiFilter& filter = parts_.filters[i];
    const bool there =
        filter.direction == policy::AiDirection::both || filter.direction == direction;
    if (there && covers(filter.scope, facts)) rules.push_back(i);
  }
  if (rules.empty()) return std::nullopt;
  return parts_.filter.only(rules);
}

std::string_view Catalog::identity_of(const Origin& caller) const {
  if (caller.address == policy::IpAddress()) return {};
  const auto known = std::ranges::find_if(parts_.identities, [&](const Identity& identity) {
    if (!identity.listeners.empty())
      return std::ranges::find(identity.listeners, caller.left_by) != identity.listeners.end();
    return identity.from.contains(caller.address);
  });
  return known == parts_.identities.end() ? std::string_view() : known->key;
}

const Catalog::Model* Catalog::find(std::string_view model) const {
  const auto found = std::ranges::find_if(
      parts_.models, [&](const Model& known) { return matches(known, model); });
  return found == parts_.models.end() ? nullptr : &*found;
}

// Without a table: whose host was called, PROVIDER/MODEL, or the only provider there is.
std::vector<Target> Catalog::implied(std::string_view model, std::string_view called) const {
  if (const auto own = at_host(called)) return {{*own, std::string(model)}};
  const std::size_t slash = model.find('/');
  if (slash != std::string_view::npos) {
    const auto named = std::ranges::find(parts_.providers, model.substr(0, slash), &Provider::name);
    if (named != parts_.providers.end()) {
      return {{static_cast<std::uint32_t>(named - parts_.providers.begin()),
               std::string(model.substr(slash + 1))}};
    }
  }
  if (parts_.providers.size() == 1) return {{0, std::string(model)}};
  return {};
}

std::vector<Target> Catalog::plan(std::string_view model, std::string_view called,
                                  std::uint64_t random) const {
  if (parts_.models.empty()) return implied(model, called);
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

std::optional<std::uint32_t> Catalog::at_host(std::string_view called) const {
  if (called.empty()) return std::nullopt;
  const auto found = std::ranges::find(parts_.providers, called, &Provider::host);
  if (found == parts_.providers.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - parts_.providers.begin());
}

std::optional<std::uint32_t> Catalog::first_of(Shape shape, std::string_view called) const {
  if (const auto own = at_host(called); own && parts_.providers[*own].shape == shape) return own;
  const auto found = std::ranges::find(parts_.providers, shape, &Provider::shape);
  if (found == parts_.providers.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - parts_.providers.begin());
}

std::vector<std::string_view> Catalog::names() const {
  std::vector<std::string_view> names;
  for (const Model& model : parts_.models)
    if (!is_pattern(model)) names.push_back(model.name);
  std::ranges::sort(names);
  return names;
}

}  // namespace sluice::gateway::ai
