// The policy's `ai`, compiled: who answers for which model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/proxy/key_ring.h"
#include "gateway/ai/proxy/key_store.h"
#include "gateway/ai/proxy/meters.h"
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
  std::string path;         // before the API's own paths
  std::string api_version;  // Azure
  policy::AiTimeouts timeouts;
  std::shared_ptr<KeyRing> keys;
};

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

  Catalog(std::vector<Provider> providers, std::vector<Model> models,
          std::shared_ptr<const KeyStore> keys, std::shared_ptr<Meters> meters,
          policy::Prices prices, bool drop_untranslatable);

  const Provider& provider(std::uint32_t index) const { return providers_[index]; }
  // Null: anybody may call.
  const KeyStore* keys() const { return keys_.get(); }
  const policy::Prices& prices() const { return prices_; }
  Meters& meters() const { return *meters_; }
  bool drops_untranslatable() const { return drop_untranslatable_; }

  // All who can be asked for `model`, in the order in which they are: one by weight as `random`
  // draws it, the other targets, the fallbacks. Empty: nobody knows it.
  std::vector<Target> plan(std::string_view model, std::uint64_t random) const;
  // The first provider of that shape.
  std::optional<std::uint32_t> first_of(Shape shape) const;
  // The names that callers can ask for, without patterns.
  std::vector<std::string_view> names() const;
  bool has_models() const { return !models_.empty(); }

 private:
  const Model* find(std::string_view model) const;
  std::vector<Target> implied(std::string_view model) const;

  std::vector<Provider> providers_;
  std::vector<Model> models_;  // exact names first, then patterns, the longest first
  std::shared_ptr<const KeyStore> keys_;
  std::shared_ptr<Meters> meters_;
  policy::Prices prices_;
  bool drop_untranslatable_;
};

}  // namespace sluice::gateway::ai
