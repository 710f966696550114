// Budgets in money: what calls under way may cost is held back, what they have cost is counted.
// Beyond a budget goes at most what calls under way cost more than was held back for them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/config/ai.h"

namespace sluice::gateway::ai {

// All money is in millionths of a US dollar; a period is known by when it begins (calendar.h).

// What is spent in one period after another. Any thread.
class Account {
 public:
  // Held back where limit is not passed by it. `period` becomes the account's, which may have begun
  // since the caller looked at the clock: there it is settled.
  bool hold(std::int64_t& period, std::int64_t limit, std::int64_t micros);
  // Held back already, by those who count for all gateways.
  void note(std::int64_t period, std::int64_t micros);
  // What was held is given back, and what was used is spent, in the period in which it was held.
  void settle(std::int64_t period, std::int64_t held, std::int64_t used);
  struct State {
    std::int64_t spent = 0;
    std::int64_t held = 0;
  };
  State state(std::int64_t period) const;
  // Of `limit`, what one of `gateways` may go up to that cannot ask the others: its part of what was
  // left when it heard of them last, beyond what it had then.
  std::int64_t share(std::int64_t period, std::int64_t limit, std::uint32_t gateways) const;
  // By all gateways, at least, without what is held.
  std::int64_t settled(std::int64_t period) const;
  // What others have spent, as a file has it: processes before this one, or beside it.
  void set_elsewhere(std::int64_t period, std::int64_t micros);
  // What all gateways have, as Redis has it. `all.held` is in `all.spent` too.
  void heard(std::int64_t period, const State& all);
  bool idle_since(std::int64_t unix_seconds) const;  // nothing is held, and the period is older

 private:
  void enter(std::int64_t period);
  // The file and Redis may both know of the same.
  std::int64_t elsewhere() const { return std::max(written_, heard_); }

  mutable std::mutex mutex_;
  std::int64_t period_ = 0;
  std::int64_t written_ = 0;
  std::int64_t heard_ = 0;
  std::int64_t settled_ = 0;
  struct Heard {
    std::int64_t all = 0;  // in this period …
    std::int64_t own = 0;  // … of which this gateway's
  };
  std::optional<Heard> last_;
  std::int64_t here_ = 0;
  std::int64_t held_ = 0;
};

// A budget as it is for one call.
struct BudgetUse {
  std::string account;  // "budget/search", "budget/each-key/alice", "key/k7f3a9c01/month"
  std::string what;     // for the caller: "key alice", "budget search"
  std::int64_t limit = 0;
  policy::AiPeriod period = policy::AiPeriod::month;
};

struct BudgetRefusal {
  std::string what;
  std::int64_t left = 0;
  std::int64_t ends = 0;  // Unix time
  bool for_now = false;   // what calls under way hold back is what is missing
  policy::AiPeriod period = policy::AiPeriod::month;
};

class BudgetBook;

// What is held back for a call; given back by its end, if it was not settled before.
class BudgetHold {
 public:
  BudgetHold() = default;
  BudgetHold(BudgetHold&&) = default;
  BudgetHold& operator=(BudgetHold&&) = delete;
  ~BudgetHold();

  void settle(std::int64_t used);
  bool empty() const { return parts_.empty(); }

 private:
  friend class BudgetBook;
  struct Part {
    std::shared_ptr<Account> account;
    std::string name;
    std::int64_t period = 0;
  };
  BudgetBook* book_ = nullptr;
  std::vector<Part> parts_;
  std::int64_t held_ = 0;
};

// All accounts. Any thread; outlives policies. Beyond kMostAccounts those that are new share one
// for each length of periods.
class BudgetBook {
 public:
  static constexpr std::size_t kMostAccounts = 20'000;
  using Spent = std::function<void(const std::string& account, std::int64_t period,
                                   std::int64_t micros)>;
  // What others have spent, as far as it is known.
  using Elsewhere =
      std::function<std::int64_t(const std::string& account, std::int64_t period)>;

  // Both are called by any thread; `elsewhere` under the book's lock.
  BudgetBook(Spent spent, Elsewhere elsewhere)
      : on_spent_(std::move(spent)), elsewhere_(std::move(elsewhere)) {}

  // All of them, or none.
  std::optional<BudgetRefusal> hold(const std::vector<BudgetUse>& budgets, std::int64_t micros,
                                    std::int64_t unix_seconds, BudgetHold& out);
  // Held back already: by Redis, which has `known` of each account in all.
  void note(const std::vector<BudgetUse>& budgets, const std::vector<Account::State>& known,
            std::int64_t micros, std::int64_t unix_seconds, BudgetHold& out);
  void heard(const std::vector<BudgetUse>& budgets, const std::vector<Account::State>& known,
             std::int64_t unix_seconds);
  std::int64_t settled(const BudgetUse& budget, std::int64_t unix_seconds);
  // Of each budget what one of `gateways` may still take that cannot ask the others.
  void share(std::vector<BudgetUse>& budgets, std::uint32_t gateways, std::int64_t unix_seconds);
  // Spent and held back.
  std::int64_t taken(const BudgetUse& budget, std::int64_t unix_seconds);
  // Of the accounts' current periods, by their names; at most so many.
  std::vector<std::pair<std::string, Account::State>> states(std::size_t most) const;

  // What others have spent is known anew.
  void refresh();
  // Accounts of periods that are over go.
  void sweep(std::int64_t unix_seconds);
  std::size_t size() const;

 private:
  friend class BudgetHold;
  std::shared_ptr<Account> account(const BudgetUse& use, std::int64_t period,
                                   std::string* shared_as);

  Spent on_spent_;
  Elsewhere elsewhere_;
  struct Entry {
    std::shared_ptr<Account> account;
    std::int64_t period = 0;
  };
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Entry> accounts_;
};

// "$12.34", and finer below a cent.
std::string dollars_text(std::int64_t micros);

}  // namespace sluice::gateway::ai
