// Cross-checks of `ai`.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "policy/ai_callers.h"
#include "policy/ai_providers.h"
#include "policy/host.h"
#include "policy/nearest_name.h"
#include "policy/schema/ai.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

class AiCheck {
 public:
  AiCheck(const Config& config, Reporter& reporter)
      : ai_(*config.ai),
        routes_(config.routes),
        output_(config.intercept.output),
        redis_(config.redis.has_value()),
        reporter_(reporter) {}

  void run() {
    if (ai_.scope == LimitScope::cluster && !redis_) {
      reporter_.error(ai_.where, "ai of scope cluster needs `cluster.redis`",
                      "such as `cluster: { redis: { url: \"redis://192.0.2.6:6379\" } }`");
    }
    for (const AiProvider& provider : ai_.providers)
      check(provider);
    for (const AiModel& model : ai_.models)
      check(model);
    for (const AiBudget& budget : ai_.budgets)
      check(budget);
    for (const AiFilter& filter : ai_.filters)
      check(filter);
    if (ai_.cache) check(ai_.cache->scope, ai_.where, "ai.cache");
    if (ai_.audit) check(ai_.audit->scope, ai_.where, "ai.audit");
    for (const AiIdentity& identity : ai_.identities)
      check(identity);
    if (ai_.bypass) check(*ai_.bypass);
  }

 private:
  void check(const AiProvider& provider) {
    const std::string who = "provider `" + provider.name + "`";
    if (provider.url.authority.empty()) {
      if (provider.base_url.empty()) {
        reporter_.error(provider.where, who + " needs `base_url`",
                        "such as https://NAME.openai.azure.com or http://127.0.0.1:11434");
      } else {
        reporter_.error(provider.where, who + ": base_url is not a URL",
                        "such as https://api.example.com/v1");
      }
    }
    if (provider.url.target.find('?') != std::string::npos)
      reporter_.error(provider.where, who + ": base_url has a query", "scheme, host and path");
    if (!provider.api_version.empty() && provider.kind != AiKind::azure)
      reporter_.error(provider.where, who + ": api_version is of azure", "remove it");
    for (const std::string& key : provider.keys) {
      if (is_secret_reference(key)) continue;
      reporter_.error(provider.where, who + ": a key is not in the policy, it is pointed to",
                      "`file:/run/secrets/NAME` or `${NAME}`");
    }
  }

  void check(const AiModel& model) {
    const std::string who = "model `" + model.name + "`";
    const std::size_t star = model.name.find('*');
    if (star != std::string::npos && star + 1 != model.name.size())
      reporter_.error(model.where, who + ": `*` stands at the end alone", "such as `claude-*`");
    for (const auto* list : {&model.targets, &model.fallback})
      for (const AiTarget& target : *list)
        check_provider(target, model, who);
    const bool some = std::ranges::any_of(model.targets,
                                          [](const AiTarget& target) { return target.weight > 0; });
    if (!model.targets.empty() && !some)
      reporter_.error(model.where, "every target of " + who + " has weight 0");
  }

  void check(const AiBudget& budget) {
    const std::string who = "budget `" + budget.name + "`";
    if (ai_.prices.empty())
      reporter_.error(budget.where, who + " needs `prices`",
                      "what models cost, such as prices.yaml");
    const bool by_caller = budget.each == AiEach::key || budget.each == AiEach::team ||
                           budget.each == AiEach::owner || !budget.scope.keys.empty() ||
                           !budget.scope.teams.empty();
    if (ai_.keys == AiKeys::none && by_caller)
      reporter_.error(budget.where, who + " is by key, which `keys: none` does not ask for",
                      "`keys: required`, or a budget by model or route");
    check(budget.scope, budget.where, who);
  }

  void check(const AiFilter& filter) {
    const std::string who = "filter `" + filter.name + "`";
    if (filter.find.empty() && filter.pattern.empty())
      reporter_.error(filter.where, who + " finds nothing",
                      "such as `find: [secrets]`, or a `pattern`");
    check(filter.scope, filter.where, who);
  }

  void check(const AiBypass& bypass) {
    if (vendor_upstreams(ai_).empty())
      reporter_.error(bypass.where,
                      "ai.bypass: every provider has an upstream of its own, so that "
                      "no host is known to be a vendor's",
                      "`hosts: [api.openai.com]`");
    for (const std::string& host : bypass.hosts) {
      std::array<char, kMaxHostLength> memory;
      const auto normal = normalise_host(host, memory);
      if (!normal || *normal != host || !is_dns_name(host))
        reporter_.error(bypass.where, "ai.bypass: `" + host + "` is no host name that resolves",
                        "such as api.openai.com, without `*`, scheme and path");
    }
  }

  void check(const AiIdentity& identity) {
    if (ai_.keys == AiKeys::none)
      reporter_.error(identity.where, "with `keys: none` nobody needs a key", "`keys: required`");
    if (identity.from.empty() && identity.cgroups.empty())
      reporter_.error(identity.where, "ai.identities: nobody is named", "`from` or `cgroups`");
    if (!identity.cgroups.empty()) check_cgroups(identity);
    for (const AiIdentity& other : ai_.identities) {
      if (&other == &identity) break;
      for (const Prefix& prefix : identity.from.prefixes) {
        if (std::ranges::find(other.from.prefixes, prefix) == other.from.prefixes.end()) continue;
        reporter_.error(identity.where, prefix.to_string() + " is `" + other.key + "` already",
                        "one identity for each prefix");
      }
    }
  }

  void check_cgroups(const AiIdentity& identity) {
    const CgroupListeners listeners = listeners_of(identity.cgroups, output_);
    const std::string& first = identity.cgroups.front();
    if (listeners.others != nullptr) {
      reporter_.error(identity.where,
                      "ai.identities: listener `" + listeners.others->listener +
                          "` gets connections of others as well, by the entry at " +
                          listeners.others->where.to_string(),
                      "a listener of its own for each identity");
    } else if (listeners.names.empty()) {
      reporter_.error(identity.where,
                      "ai.identities: nothing leads connections of `" + first + "` here",
                      "such as `intercept: { output: [{ cgroups: [" + first +
                          "], ports: [443], listener: NAME }] }`");
    }
  }

  // Keys and teams are the key file's to know, which changes without the policy.
  void check(const AiScope& scope, const Location& where, const std::string& who) {
    for (const std::string& name : scope.routes) {
      const bool known =
          name.ends_with('*') || std::ranges::any_of(routes_, [&](const Route& route) {
            return route.ai && route.name == name;
          });
      if (known) continue;
      std::vector<std::string_view> names;
      for (const Route& route : routes_)
        if (route.ai) names.push_back(route.name);
      reporter_.error(where, who + ": there is no route `" + name + "` with `ai: true`",
                      suggestion(name, names));
    }
  }

  void check_provider(const AiTarget& target, const AiModel& model, const std::string& who) {
    if (std::ranges::find(ai_.providers, target.provider, &AiProvider::name) !=
        ai_.providers.end()) {
      return;
    }
    std::vector<std::string_view> known;
    for (const AiProvider& provider : ai_.providers)
      known.push_back(provider.name);
    reporter_.error(model.where, who + ": there is no provider `" + target.provider + "`",
                    known.empty() ? "`ai.providers` has none" : suggestion(target.provider, known));
  }

  const AiConfig& ai_;
  const std::vector<Route>& routes_;
  const std::vector<Intercept>& output_;
  bool redis_;
  Reporter& reporter_;
};

}  // namespace

void check_ai(const Config& config, Reporter& reporter) {
  if (config.ai) AiCheck(config, reporter).run();
  for (const Route& route : config.routes) {
    if (!route.ai) continue;
    if (!config.ai || config.ai->providers.empty()) {
      reporter.error(route.where,
                     "route `" + route.name + "` is served by `ai`, which " +
                         (config.ai ? "has no providers" : "is not there"),
                     "such as `ai: { providers: { openai: { key: \"${OPENAI_API_KEY}\" } } }`");
    }
  }
}

}  // namespace sluice::policy
