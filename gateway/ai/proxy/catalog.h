// The policy's `ai`, compiled: who answers for which model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/filter/text_filter.h"
#include "gateway/ai/proxy/audit_log.h"
#include "gateway/ai/proxy/budgets.h"
#include "gateway/ai/proxy/key_ring.h"
#include "gateway/ai/proxy/key_store.h"
#include "gateway/ai/proxy/ledger.h"
#include "gateway/ai/proxy/meters.h"
#include "gateway/ai/proxy/response_cache.h"
#include "gateway/ai/proxy/scope.h"
#include "gateway/ai/shape.h"
#include "policy/config/ai.h"
#include "policy/prices.h"

namespace sluice::gateway::ai {

struct Provider {
  std::string name;
  policy::AiKind kind = policy::AiKind::openai;
  Shape shape = Shape::openai;
  Dialect dialect = Dialect::openai;
  std::uint32_t upstream = 0;  // in Config::upstreams
  std::string authority;
  std::string path;            // before the API's own paths
  std::string address;         // where it is, in one word
  std::string api_version;     // Azure
  bool has_responses = false;  // the Responses API
  policy::AiTimeouts timeouts;
  std::shared_ptr<KeyRing> keys;
  std::string host;                // of `authority`
  bool passes_caller_key = false;  // of callers that called `host` itself
};

// What is asked there goes to it, and comes back, as it is.
inline bool is_native(const Endpoint& endpoint, const Provider& provider) {
  return endpoint.shape == provider.shape &&
         (endpoint.operation != Operation::responses || provider.has_responses);
}

// Someone to ask, and for what.
struct Target {
  std::uint32_t provider = 0;
  std::string model;
};

// Immutable, but how keys rest; any thread.
class Catalog {
 public:
  struct Choice {
    Target target;  // model "": as the caller says
    std::uint32_t weight = 0;
  };
  struct Model {
    std::string name;
    std::vector<Choice> targets;
    std::vector<Target> fallback;
  };

  // Who needs to show no key.
  struct Identity {
    policy::AddressMatch from;           // empty: by listeners alone
    std::vector<std::string> listeners;  // that catch its cgroups' connections and no others
    std::string key;                     // that stands for them, by name
  };
  struct Origin {
    policy::IpAddress address;      // unspecified: nobody knows, such as behind a proxy
    std::string_view left_by = {};  // as Asker has it
  };

  // What outlives policies is shared.
  struct Parts {
    std::vector<Provider> providers;
    std::vector<Model> models;
    std::shared_ptr<const KeyStore> keys;
    std::shared_ptr<Meters> meters;
    policy::Prices prices;
    std::vector<policy::AiBudget> budgets;
    std::shared_ptr<BudgetBook> book;
    std::shared_ptr<Ledger> ledger;
    std::optional<policy::AiCache> caching;  // whose answers are kept
    std::shared_ptr<ResponseCache> cache;
    std::vector<policy::AiFilter> filters;
    TextFilter filter;  // all of them, by the same numbers
    std::optional<policy::AiAudit> auditing;
    std::shared_ptr<AuditLog> audit;
    std::vector<Identity> identities;
    bool drop_untranslatable = false;
    bool refuse_unpriced = true;
    bool shared = false;
  };
  explicit Catalog(Parts parts);

  const Provider& provider(std::uint32_t index) const { return parts_.providers[index]; }
  // Null: anybody may call.
  const KeyStore* keys() const { return parts_.keys.get(); }
  const policy::Prices& prices() const { return parts_.prices; }
  Meters& meters() const { return *parts_.meters; }
  const std::vector<policy::AiBudget>& budgets() const { return parts_.budgets; }
  BudgetBook& book() const { return *parts_.book; }
  Ledger& ledger() const { return *parts_.ledger; }
  // Null: none is kept for such calls.
  ResponseCache* cache_for(const CallFacts& facts) const {
    return parts_.caching && covers(parts_.caching->scope, facts) ? parts_.cache.get() : nullptr;
  }
  // Null: such calls are not logged.
  const policy::AiAudit* audit_for(const CallFacts& facts) const {
    return parts_.auditing && covers(parts_.auditing->scope, facts) ? &*parts_.auditing : nullptr;
  }
  AuditLog& audit() const { return *parts_.audit; }
  // What is looked for in such calls' requests, or answers; nullopt: nothing.
  std::optional<TextFilter> filter_for(const CallFacts& facts, policy::AiDirection direction) const;
  // What they look for, in one text: by another one, other answers.
  std::string filters_text(const CallFacts& facts) const;
  // The name of the key that stands for callers from there; "": none does.
  std::string_view identity_of(const Origin& caller) const;
  bool drops_untranslatable() const { return parts_.drop_untranslatable; }
  bool refuses_unpriced() const { return parts_.refuse_unpriced; }
  // Keys' limits and budgets are counted by all gateways together.
  bool is_shared() const { return parts_.shared; }

  // All who can be asked for `model`, in the order in which they are: one by weight as `random`
  // draws it, the other targets, the fallbacks. Empty: nobody knows it. Without `models` a caller
  // that called a provider's own host is its.
  std::vector<Target> plan(std::string_view model, std::string_view called,
                           std::uint64_t random) const;
  // The first provider of that shape, if there is one at `called`, that one.
  std::optional<std::uint32_t> first_of(Shape shape, std::string_view called) const;
  // The provider at a vendor's host that a caller has called; nullopt: none, or "".
  std::optional<std::uint32_t> at_host(std::string_view called) const;
  // The names that callers can ask for, without patterns.
  std::vector<std::string_view> names() const;
  bool has_models() const { return !parts_.models.empty(); }

 private:
  const Model* find(std::string_view model) const;
  std::vector<Target> implied(std::string_view model, std::string_view called) const;

  Parts parts_;  // of its models exact names first, then patterns, the longest first
  std::vector<std::string> filter_texts_;  // by the same numbers as its filters
};

}  // namespace sluice::gateway::ai
