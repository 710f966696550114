// Makes the catalog of each policy, and keeps what outlives policies.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "gateway/ai/proxy/catalog.h"
#include "gateway/tls/material.h"
#include "policy/snapshot.h"

namespace sluice::gateway::ai {

// Control thread.
class Registry {
 public:
  // Null where the policy has no `ai`. `material`: holds the keys that it points to.
  std::shared_ptr<const Catalog> apply(const policy::Snapshot& snapshot,
                                       const tls::Material* material);

  const Meters& meters() const { return *meters_; }

 private:
  std::shared_ptr<KeyRing> ring_of(const policy::AiProvider& provider,
                                   const tls::Material* material);

  std::shared_ptr<const KeyStore> store_of(const policy::AiConfig& config,
                                           const tls::Material* material);

  policy::Prices prices_of(const policy::AiConfig& config, const tls::Material* material);

  std::map<std::string, std::shared_ptr<KeyRing>> rings_;  // by provider
  std::shared_ptr<Meters> meters_ = std::make_shared<Meters>();
  KeyStates states_;
  std::shared_ptr<const KeyStore> store_;  // the last good one
  policy::Prices prices_;                  // the last good ones
  std::string store_file_;                 // that it was read from
};

}  // namespace sluice::gateway::ai
