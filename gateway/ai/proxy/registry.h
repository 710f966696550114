// Makes the catalog of each policy, and keeps what outlives policies.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "gateway/ai/proxy/catalog.h"
#include "gateway/tls/material.h"
#include "policy/snapshot.h"

namespace sluice::gateway::ai {

// Control thread, but where it says otherwise.
class Registry {
 public:
  Registry();

  // Null where the policy has no `ai`. `material`: holds the keys that it points to.
  std::shared_ptr<const Catalog> apply(const policy::Snapshot& snapshot,
                                       const tls::Material* material);

  // {"providers":[{provider,requests,errors,keys,keys_resting}],
  //  "today":[{model,team,requests,errors,input_tokens,output_tokens,dollars}]}; nullopt: the
  //  policy
  // has no `ai`.
  std::optional<boost::json::object> status() const;

  // Any thread.
  void collect(MetricsPage& page) const;
  // Returns when what has been used is written, or cannot be.
  void flush() { ledger_->flush(); }

 private:
  std::vector<Provider> providers_of(const policy::Snapshot& snapshot,
                                     const tls::Material* material);
  std::shared_ptr<KeyRing> ring_of(const policy::AiProvider& provider,
                                   const tls::Material* material);

  void collect_cache(MetricsPage& page) const;
  void collect_audit(MetricsPage& page) const;
  std::shared_ptr<const KeyStore> store_of(const policy::AiConfig& config,
                                           const tls::Material* material);

  policy::Prices prices_of(const policy::AiConfig& config, const tls::Material* material);

  std::map<std::string, std::shared_ptr<KeyRing>> rings_;  // by provider
  std::shared_ptr<Meters> meters_ = std::make_shared<Meters>();
  std::shared_ptr<Ledger> ledger_ = std::make_shared<Ledger>();
  std::shared_ptr<BudgetBook> book_;
  std::shared_ptr<AuditLog> audit_ = std::make_shared<AuditLog>();
  std::shared_ptr<ResponseCache> cache_ = std::make_shared<ResponseCache>();
  std::atomic<bool> configured_{false};
  KeyStates states_;
  std::shared_ptr<const KeyStore> store_;  // the last good one
  policy::Prices prices_;                  // the last good ones
  std::string store_file_;                 // that it was read from
};

}  // namespace sluice::gateway::ai
