// Cross-checks of `ai`.
#include <algorithm>
#include <string>
#include <vector>

#include "policy/ai_providers.h"
#include "policy/nearest_name.h"
#include "policy/schema/ai.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

class AiCheck {
 public:
  AiCheck(const AiConfig& ai, Reporter& reporter) : ai_(ai), reporter_(reporter) {}

  void run() {
    for (const AiProvider& provider : ai_.providers)
      check(provider);
    for (const AiModel& model : ai_.models)
      check(model);
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
  Reporter& reporter_;
};

}  // namespace

void check_ai(const Config& config, Reporter& reporter) {
  if (config.ai && config.ai->keys == AiKeys::none && !config.ai->identities.empty())
    reporter.error(config.ai->identities.front().where,
                   "ai.identities stand for virtual keys, and `keys: none` asks for none",
                   "keys: required, or remove identities");
  if (config.ai) AiCheck(*config.ai, reporter).run();
  for (const Route& route : config.routes) {
    if (!route.ai) continue;
    if (!config.ai || config.ai->providers.empty()) {
      reporter.error(route.where,
                     "route `" + route.name + "` is served by `ai`, which is not there",
                     "such as `ai: { providers: { openai: { key: \"${OPENAI_API_KEY}\" } } }`");
    }
  }
}

}  // namespace sluice::policy
