// Who calls, what it may ask for, and what is taken from its limits and budgets for it.
#pragma once

#include <cstdint>
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
#include "policy/address.h"

namespace sluice::gateway::ai {

// What a call takes, as estimated on its way in and as it turned out.
struct Cost {
  std::uint64_t tokens = 0;
  std::int64_t micros = 0;  // millionths of a US dollar
};

// Of one call; what it holds back is given back when it is gone, if it was not settled.
class Admission {
 public:
  // Both outlive it.
  Admission(const Catalog& catalog, std::string_view route, const policy::IpAddress& client)
      : catalog_(catalog), route_(route), client_(client) {}

  // Nullopt: known, or nobody asks.
  std::optional<Problem> know(const http1::RequestHead& caller);
  const VirtualKey* key() const { return known_ != nullptr ? &known_->key : nullptr; }

  // Whether it may ask for `model`, by the name that it uses; "": the path names none.
  std::optional<Problem> may_ask(const Endpoint& endpoint, std::string_view model);
  // Of the model that may_ask() was for.
  bool has_budgets() const { return !budgets_.empty(); }
  CallFacts facts() const;

  // What is left of the caller's limits is not enough: the answer that says so.
  std::optional<http::Mediator::Answer> take(Shape shape, const Cost& estimate);
  void settle(const Cost& used);

  // The caller's own limits, under the vendors' names, so that SDKs find them.
  std::string limit_lines(Shape shape) const;

 private:
  std::vector<BudgetUse> budgets_for(const CallFacts& facts) const;
  http::Mediator::Answer no_money(Shape shape, const BudgetRefusal& refusal, std::int64_t micros,
                                  std::int64_t now) const;

  const Catalog& catalog_;
  std::string_view route_;
  policy::IpAddress client_;
  const KnownKey* known_ = nullptr;  // null: anybody may call
  std::string model_;
  std::vector<BudgetUse> budgets_;
  std::optional<std::uint64_t> tokens_;  // taken
  BudgetHold hold_;
};

}  // namespace sluice::gateway::ai
