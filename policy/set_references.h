// Every place of a policy that names a set, for whoever fills them.
#pragma once

#include "policy/config.h"

namespace sluice::policy {

// `use` gets each SetReference.
template <typename Use>
void each_set_reference(Config& config, Use use) {
  const auto all_of = [&](std::vector<SetReference>& references) {
    for (SetReference& reference : references)
      use(reference);
  };
  const auto of_access = [&](AccessRules& rules) {
    for (auto* sources : {&rules.allow, &rules.deny}) {
      for (AccessSource& source : *sources)
        if (source.set) use(*source.set);
    }
  };
  for (Listener& listener : config.listeners)
    of_access(listener.access);
  for (Route& route : config.routes)
    of_access(route.access);
  for (Limit& limit : config.limits)
    all_of(limit.from.sets);
  for (auto* entries :
       {&config.intercept.local, &config.intercept.forward, &config.intercept.output}) {
    for (Intercept& entry : *entries) {
      all_of(entry.from_pods);
      all_of(entry.except.from_pods);
    }
  }
  if (config.ai) {
    for (AiIdentity& identity : config.ai->identities)
      all_of(identity.from.sets);
  }
  if (!config.guard) return;
  for (GuardRule& rule : config.guard->rules) {
    for (AddressMatch* match :
         {&rule.match.from, &rule.match.to, &rule.except.from, &rule.except.to})
      all_of(match->sets);
  }
}

}  // namespace sluice::policy
