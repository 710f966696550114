// Who calls, what it may ask for, and what is taken from its limits and budgets for it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/problem.h"
#include "gateway/ai/proxy/budgets.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/proxy/scope.h"
#include "gateway/http/mediator.h"
#include "gateway/http1/head.h"
#include "gateway/redis/shared_accounts.h"
#include "policy/address.h"
#include "policy/config/cluster.h"

namespace sluice::gateway::ai {

// What a call takes, as estimated on its way in and as it turned out.
struct Cost {
  std::uint64_t tokens = 0;
  std::uint64_t answer = 0;  // of them, as estimated
  std::int64_t micros = 0;   // millionths of a US dollar
};

// Who counts the same, where the policy shares it.
struct Peers {
  std::uint32_t gateways = 1;  // as last known
  policy::OnLoss on_loss = policy::OnLoss::share;
};

// Of one call; what it holds back is given back when it is gone, if it was not settled.
class Admission {
 public:
  // Both outlive it.
  Admission(const Catalog& catalog, std::string_view route, const Catalog::Origin& caller)
      : catalog_(catalog), route_(route), caller_(caller) {}

  // Nullopt: known, or nobody asks.
  std::optional<Problem> know(const http1::RequestHead& caller);
  // What the caller shows that is no virtual key: a vendor's, for all that is known; "": nothing.
  std::string_view foreign_key(const http1::RequestHead& caller) const;
  const VirtualKey* key() const { return known_ != nullptr ? &known_->key : nullptr; }

  // Whether it may ask for `model`, by the name that it uses; "": the request names none. Where a
  // limit is for the call, it has to be one that can be counted.
  std::optional<Problem> may_ask(const Endpoint& endpoint, std::string_view model);
  // Of the model that may_ask() was for.
  bool has_budgets() const { return !budgets_.empty(); }
  CallFacts facts() const;

  // What Redis has to be asked for; null: nothing.
  std::shared_ptr<SharedTake> shares(const Cost& estimate);
  // What is left of the caller's limits is not enough: the answer that says so. `said`: by Redis;
  // null: it was not to be asked, or has not answered.
  std::optional<http::Mediator::Answer> take(Shape shape, const Cost& estimate,
                                             const SharedVerdict* said, const Peers& peers);
  // What Redis is to count in the end. It hears of it before settle(): what is known to be spent is
  // said with every question, and would count twice else.
  std::vector<SharedCharge> charges(const Cost& used) const;
  void settle(const Cost& used);

  // The caller's own limits, under the vendors' names, so that SDKs find them.
  void append_limit_lines(Shape shape, std::string& out) const;

 private:
  std::vector<BudgetUse> budgets_for(const CallFacts& facts) const;
  using Refusal = std::optional<http::Mediator::Answer>;
  Refusal take_here(Shape shape, const Cost& estimate, const VirtualKey* key,
                    const std::vector<BudgetUse>& budgets);
  Refusal take_alone(Shape shape, const Cost& estimate, const Peers& peers);
  Refusal take_said(Shape shape, const Cost& estimate, const SharedVerdict& said);
  http::Mediator::Answer no_rate(Shape shape, const KeyRefusal& refused) const;
  http::Mediator::Answer no_money(Shape shape, const BudgetRefusal& refusal, std::int64_t micros,
                                  std::int64_t now) const;

  const Catalog& catalog_;
  std::string_view route_;
  Catalog::Origin caller_;
  const KnownKey* known_ = nullptr;  // null: anybody may call
  std::string model_;
  std::vector<BudgetUse> budgets_;
  std::optional<std::uint64_t> tokens_;  // taken
  BudgetHold hold_;
  std::shared_ptr<SharedTake> asked_;  // of Redis; null: nothing
  std::vector<KeyLimit> asked_rates_;  // by the same indices
  bool granted_ = false;               // it has let it in
  bool alone_ = false;                 // it was let in without
  std::optional<KeyRate> requests_;    // as Redis has them
  std::optional<KeyRate> per_minute_;
};

}  // namespace sluice::gateway::ai
