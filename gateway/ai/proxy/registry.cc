#include "gateway/ai/proxy/registry.h"

#include <algorithm>
#include <utility>

#include "gateway/log.h"

namespace sluice::gateway::ai {
namespace {

Shape shape_of(policy::AiKind kind) {
  switch (kind) {
    case policy::AiKind::anthropic:
      return Shape::anthropic;
    case policy::AiKind::gemini:
      return Shape::gemini;
    case policy::AiKind::openai:
    case policy::AiKind::azure:
    case policy::AiKind::mistral:
    case policy::AiKind::compatible:
      break;
  }
  return Shape::openai;
}

Dialect dialect_of(const policy::AiProvider& provider) {
  switch (provider.kind) {
    case policy::AiKind::mistral:
      return Dialect::mistral;
    case policy::AiKind::compatible:
      return Dialect::compatible;
    case policy::AiKind::openai:
      return provider.base_url.empty() ? Dialect::openai : Dialect::compatible;
    case policy::AiKind::azure:
    case policy::AiKind::anthropic:
    case policy::AiKind::gemini:
      break;
  }
  return Dialect::openai;
}

Target target_of(const policy::AiConfig& config, const policy::AiTarget& target) {
  const auto named =
      std::ranges::find(config.providers, target.provider, &policy::AiProvider::name);
  return {static_cast<std::uint32_t>(named - config.providers.begin()), target.model};
}

Catalog::Model model_of(const policy::AiConfig& config, const policy::AiModel& from) {
  Catalog::Model model{.name = from.name, .targets = {}, .fallback = {}};
  for (const policy::AiTarget& target : from.targets)
    model.targets.push_back({target_of(config, target), target.weight});
  for (const policy::AiTarget& target : from.fallback)
    model.fallback.push_back(target_of(config, target));
  return model;
}

}  // namespace

std::shared_ptr<const Catalog> Registry::apply(const policy::Snapshot& snapshot,
                                               const tls::Material* material) {
  if (!snapshot.config().ai) {
    rings_.clear();
    meters_->keep({});
    return nullptr;
  }
  const policy::AiConfig& config = *snapshot.config().ai;
  std::vector<Provider> providers;
  for (const policy::AiProvider& from : config.providers) {
    providers.push_back({.name = from.name,
                         .kind = from.kind,
                         .shape = shape_of(from.kind),
                         .dialect = dialect_of(from),
                         .upstream = snapshot.find_upstream(from.url.upstream).value_or(0),
                         .authority = from.url.authority,
                         .path = from.url.target,
                         .api_version = from.api_version,
                         .timeouts = from.timeouts,
                         .keys = ring_of(from, material)});
  }
  std::erase_if(rings_, [&](const auto& entry) {
    return std::ranges::find(providers, entry.first, &Provider::name) == providers.end();
  });
  std::vector<std::string> names;
  for (const Provider& provider : providers)
    names.push_back(provider.name);
  meters_->keep(names);
  std::vector<Catalog::Model> models;
  for (const policy::AiModel& from : config.models)
    models.push_back(model_of(config, from));
  return std::make_shared<const Catalog>(
      std::move(providers), std::move(models), store_of(config, material), meters_,
      prices_of(config, material), config.untranslatable == policy::AiUntranslatable::drop);
}

// A file that is broken changes nothing: who could call still can.
std::shared_ptr<const KeyStore> Registry::store_of(const policy::AiConfig& config,
                                                   const tls::Material* material) {
  if (config.keys == policy::AiKeys::none) return nullptr;
  const bool same_file = std::exchange(store_file_, config.key_file) == config.key_file;
  const std::string name = std::string(tls::kWholeFile) + config.key_file;
  const tls::SecretPtr bytes = material != nullptr ? material->secret(name) : nullptr;
  auto keys = parse_keys(bytes ? bytes->view() : std::string_view());
  if (keys) return store_ = std::make_shared<const KeyStore>(std::move(*keys), states_);
  log_error("ai", store_ && same_file ? "the virtual keys stay as they were" : "no virtual keys",
            {{"file", config.key_file}, {"error", keys.error()}});
  if (!store_ || !same_file) store_ = std::make_shared<const KeyStore>();
  return store_;
}

policy::Prices Registry::prices_of(const policy::AiConfig& config, const tls::Material* material) {
  if (config.prices.empty()) return prices_ = {};
  const std::string name = std::string(tls::kWholeFile) + config.prices;
  const tls::SecretPtr bytes = material != nullptr ? material->secret(name) : nullptr;
  auto prices = policy::Prices::parse(bytes ? bytes->view() : std::string_view(), config.prices);
  if (prices && !prices->empty()) return prices_ = std::move(*prices);
  log_error("ai", "prices stay as they were",
            {{"file", config.prices},
             {"error", prices ? "it has none" : prices.error().front().to_string()}});
  return prices_;
}

std::shared_ptr<KeyRing> Registry::ring_of(const policy::AiProvider& provider,
                                           const tls::Material* material) {
  std::vector<tls::SecretPtr> keys;
  for (const std::string& reference : provider.keys) {
    tls::SecretPtr key = material != nullptr ? material->secret(reference) : nullptr;
    if (key) keys.push_back(std::move(key));
  }
  std::shared_ptr<KeyRing>& ring = rings_[provider.name];
  if (ring && ring->same(keys)) return ring;
  auto next = std::make_shared<KeyRing>(std::move(keys));
  if (ring) next->take_over(*ring);
  return ring = std::move(next);
}

}  // namespace sluice::gateway::ai
