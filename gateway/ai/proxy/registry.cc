#include "gateway/ai/proxy/registry.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <utility>

#include <boost/json/array.hpp>

#include "gateway/clocks.h"
#include "gateway/log.h"
#include "gateway/metrics_page.h"
#include "gateway/tls/named_files.h"
#include "policy/ai_callers.h"
#include "policy/host.h"
#include "policy/schema/ai_controls.h"

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

std::string host_of(std::string_view authority) {
  std::array<char, policy::kMaxHostLength> memory;
  return std::string(policy::normalise_host(authority, memory).value_or(""));
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

// The policy's patterns were compiled when it was checked.
TextFilter filter_of(const policy::AiConfig& config) {
  std::vector<FilterRule> rules;
  for (const policy::AiFilter& filter : config.filters) {
    FilterRule rule{.name = filter.name,
                    .find = {},
                    .pattern = filter.pattern,
                    .refuse = filter.action == policy::AiFilterAction::refuse};
    for (const std::uint8_t word : filter.find)
      rule.find.push_back(policy::kAiFindWords[word]);
    rules.push_back(std::move(rule));
  }
  auto compiled = TextFilter::compile(std::move(rules));
  if (compiled) return std::move(*compiled);
  log_error("ai", "filters are not in force", {{"error", compiled.error()}});
  return {};
}

// A cgroup whose connections nothing leads here names nobody; the policy was refused then.
std::vector<Catalog::Identity> identities_of(const policy::Config& config) {
  std::vector<Catalog::Identity> out;
  for (const policy::AiIdentity& from : config.ai->identities) {
    out.push_back({.from = from.from,
                   .listeners = policy::listeners_of(from.cgroups, config.intercept.output).names,
                   .key = from.key});
  }
  return out;
}

}  // namespace

Registry::Registry()
    : book_(std::make_shared<BudgetBook>(
          [ledger = ledger_](const std::string& account, std::int64_t period, std::int64_t micros) {
            ledger->spend(account, period, micros);
          },
          [ledger = ledger_](const std::string& account, std::int64_t period) {
            return ledger->elsewhere(account, period);
          })) {}

// Of providers that are gone, what was kept for them goes as well.
std::vector<Provider> Registry::providers_of(const policy::Snapshot& snapshot,
                                             const tls::Material* material) {
  std::vector<Provider> providers;
  for (const policy::AiProvider& from : snapshot.config().ai->providers) {
    providers.push_back(
        {.name = from.name,
         .kind = from.kind,
         .shape = shape_of(from.kind),
         .dialect = dialect_of(from),
         .upstream = snapshot.find_upstream(from.url.upstream).value_or(0),
         .authority = from.url.authority,
         .path = from.url.target,
         .address = from.url.upstream + " " + from.url.authority + from.url.target,
         .api_version = from.api_version,
         .has_responses = from.kind == policy::AiKind::openai || from.kind == policy::AiKind::azure,
         .timeouts = from.timeouts,
         .keys = ring_of(from, material),
         .host = host_of(from.url.authority),
         .passes_caller_key = from.caller_key == policy::AiCallerKey::pass});
  }
  std::erase_if(rings_, [&](const auto& entry) {
    return std::ranges::find(providers, entry.first, &Provider::name) == providers.end();
  });
  std::vector<std::string> names;
  for (const Provider& provider : providers)
    names.push_back(provider.name);
  meters_->keep(names);
  return providers;
}

std::shared_ptr<const Catalog> Registry::apply(const policy::Snapshot& snapshot,
                                               const tls::Material* material) {
  if (!snapshot.config().ai) {
    rings_.clear();
    meters_->keep({});
    configured_.store(false, std::memory_order_relaxed);
    return nullptr;
  }
  const policy::AiConfig& config = *snapshot.config().ai;
  configured_.store(true, std::memory_order_relaxed);
  std::vector<Catalog::Model> models;
  for (const policy::AiModel& from : config.models)
    models.push_back(model_of(config, from));
  book_->sweep(unix_now());
  ledger_->configure(config.usage.file,
                     std::chrono::duration_cast<std::chrono::seconds>(config.usage.keep).count(),
                     [book = std::weak_ptr(book_)] {
                       if (const auto known = book.lock()) known->refresh();
                     });
  cache_->configure(config.cache ? config.cache->max_memory : 0,
                    config.cache ? config.cache->ttl : ResponseCache::Clock::duration{});
  if (config.audit) {
    if (auto opened = audit_->configure(*config.audit); !opened)
      log_error("ai", "the audit log stays as it was", {{"error", opened.error()}});
  }
  return std::make_shared<const Catalog>(
      Catalog::Parts{.providers = providers_of(snapshot, material),
                     .models = std::move(models),
                     .keys = store_of(config, material),
                     .meters = meters_,
                     .prices = prices_of(config, material),
                     .budgets = config.budgets,
                     .book = book_,
                     .ledger = ledger_,
                     .caching = config.cache,
                     .cache = cache_,
                     .filters = config.filters,
                     .filter = filter_of(config),
                     .auditing = config.audit,
                     .audit = audit_,
                     .identities = identities_of(snapshot.config()),
                     .drop_untranslatable = config.untranslatable == policy::AiUntranslatable::drop,
                     .refuse_unpriced = config.unpriced == policy::AiUnpriced::deny,
                     .shared = config.scope == policy::LimitScope::cluster});
}

std::optional<boost::json::object> Registry::status() const {
  namespace json = boost::json;
  constexpr std::size_t kMostRows = 50;
  if (!configured_.load(std::memory_order_relaxed)) return std::nullopt;
  auto totals = meters_->by_provider();
  json::array providers;
  for (const auto& [name, ring] : rings_) {
    const Meters::Totals& of = totals[name];
    providers.push_back(json::object{{"provider", name},
                                     {"requests", of.requests},
                                     {"errors", of.errors},
                                     {"keys", ring->size()},
                                     {"keys_resting", ring->resting(KeyRing::Clock::now())}});
  }
  const auto of_today = meters_->today();
  std::vector<decltype(&*of_today.begin())> dearest;
  for (const auto& entry : of_today)
    dearest.push_back(&entry);
  std::ranges::stable_sort(dearest, [](const auto* a, const auto* b) {
    return std::pair(a->second.dollars, a->second.requests) >
           std::pair(b->second.dollars, b->second.requests);
  });
  dearest.resize(std::min(dearest.size(), kMostRows));
  json::array today;
  for (const auto* entry : dearest) {
    const auto& [model, team] = entry->first;
    const Meters::Totals& of = entry->second;
    today.push_back(json::object{{"model", model},
                                 {"team", team},
                                 {"requests", of.requests},
                                 {"errors", of.errors},
                                 {"input_tokens", of.usage.input()},
                                 {"output_tokens", of.usage.output},
                                 {"dollars", std::round(of.dollars * 1e6) / 1e6}});
  }
  return json::object{{"providers", std::move(providers)}, {"today", std::move(today)}};
}

void Registry::collect_cache(MetricsPage& page) const {
  const ResponseCache::Stats cache = cache_->stats();
  page.sample({"sluice_ai_cache_entries",
               "Answers that are kept.",
               SampleType::gauge,
               {},
               static_cast<double>(cache.entries)});
  page.sample({"sluice_ai_cache_bytes",
               "Memory that they take.",
               SampleType::gauge,
               {},
               static_cast<double>(cache.bytes)});
  page.sample({"sluice_ai_cache_evictions_total",
               "Answers that went for want of memory.",
               SampleType::counter,
               {},
               static_cast<double>(cache.evictions)});
}

void Registry::collect_audit(MetricsPage& page) const {
  const AuditLog::Stats audit = audit_->stats();
  const auto lines = [&](std::string_view result, std::uint64_t count) {
    page.sample(
        {"sluice_ai_audit_lines_total",
         "Lines of the audit log, by `result`: written, or dropped for want of memory or of "
         "a file that takes them.",
         SampleType::counter,
         {{"result", std::string(result)}},
         static_cast<double>(count)});
  };
  lines("written", audit.written);
  lines("dropped", audit.dropped);
}

void Registry::collect(MetricsPage& page) const {
  constexpr std::size_t kMostBudgets = 500;
  meters_->collect(page);
  const auto dollars = [](std::int64_t micros) { return static_cast<double>(micros) / 1e6; };
  for (const auto& [account, state] : book_->states(kMostBudgets)) {
    page.sample({"sluice_ai_budget_spent_dollars",
                 "What was spent of a budget in its current period.",
                 SampleType::gauge,
                 {{"budget", account}},
                 dollars(state.spent)});
    page.sample({"sluice_ai_budget_held_dollars",
                 "What calls under way may cost at most, by their estimates.",
                 SampleType::gauge,
                 {{"budget", account}},
                 dollars(state.held)});
  }
  if (!configured_.load(std::memory_order_relaxed)) return;
  collect_cache(page);
  collect_audit(page);
  const Ledger::Stats stats = ledger_->stats();
  page.sample({"sluice_ai_usage_writable",
               "1: usage and budgets are being kept on disk; 0: in memory alone.",
               SampleType::gauge,
               {},
               stats.writable ? 1.0 : 0.0});
  page.sample({"sluice_ai_usage_write_failures_total",
               "Times that the file of usage could not be written.",
               SampleType::counter,
               {},
               static_cast<double>(stats.failures)});
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
  const std::string name = std::string(tls::kPriceFile) + config.prices;
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
