// Whatever the order of reloads, bans, expiries, crashes and adoptions, what the maps say equals
// the model of ARCHITECTURE.md ("The model of the guard").
#include <algorithm>
#include <chrono>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "tests/kernel/guard_packet.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary
using namespace std::chrono_literals;

constexpr int kSources = 12;  // 198.51.100.0 to .11, and 2001:db8::0 to ::b

Prefix source(int number, bool v4) {
  Prefix out = prefix(v4 ? "198.51.100.0" : "2001:db8::");
  out.address[15] = static_cast<std::uint8_t>(number);
  return out;
}

Frame frame_from(int number, bool v4) {
  Frame frame = v4 ? tcp("198.51.100.0", "10.0.0.1", 80) : tcp("2001:db8::", "2001:db8:1::1", 80);
  frame.from = source(number, v4);
  return frame;
}

// The model: what a person would keep on paper.
class Model {
 public:
  struct Rule {
    std::string name;
    std::set<int> sources;  // of both versions
    bool drops = false;
    bool by_set = false;
  };

  void commit(std::vector<Rule> rules) {
    std::map<std::string, std::uint64_t> kept;
    for (const Rule& rule : rules)
      kept[rule.name] = counters_[rule.name];
    counters_ = std::move(kept);
    rules_ = std::move(rules);
  }
  void try_out(std::vector<Rule> rules) {
    before_ = {rules_, counters_};
    commit(std::move(rules));
  }
  bool on_trial() const { return before_.has_value(); }
  void confirm() { before_.reset(); }
  // What both have counted on under the rules on trial goes on.
  void go_back() {
    if (!before_) return;
    for (const auto& [name, packets] : counters_) {
      if (before_->second.contains(name)) before_->second[name] = packets;
    }
    rules_ = std::move(before_->first);
    counters_ = std::move(before_->second);
    before_.reset();
  }
  void ban(int number, bool v4) { bans_.try_emplace({number, v4}, 0); }
  bool unban(int number, bool v4) { return bans_.erase({number, v4}) == 1; }

  bool drops(int number, bool v4) {
    if (const auto banned = bans_.find({number, v4}); banned != bans_.end()) {
      ++banned->second;
      return true;
    }
    bool dropped = false;
    for (const Rule& rule : rules_) {
      if (!rule.sources.contains(number)) continue;
      ++counters_[rule.name];
      dropped |= rule.drops;
    }
    return dropped;
  }

  const std::vector<Rule>& rules() const { return rules_; }
  const std::map<std::string, std::uint64_t>& counters() const { return counters_; }
  const std::map<std::pair<int, bool>, std::uint64_t>& bans() const { return bans_; }

 private:
  std::vector<Rule> rules_;
  std::map<std::string, std::uint64_t> counters_;
  std::map<std::pair<int, bool>, std::uint64_t> bans_;
  std::optional<std::pair<std::vector<Rule>, std::map<std::string, std::uint64_t>>> before_;
};

class Walk {
 public:
  explicit Walk(unsigned seed) : random_(seed) {}

  void step() {
    switch (below(18)) {
      case 0:
      case 1:
      case 2:
        return reload();
      case 3:
        return abandon();
      case 4:
        return die_before_commit();
      case 5:
        return die();
      case 12:
      case 13:
        return trial();
      case 14:
        return end_trial();
      case 15:
      case 16:
      case 17:
        return members();
      case 6:
        return expire();
      case 7:
        return lift();
      case 8:
        (void)running_.guard->tick();
        return;
      default:
        return ban();
    }
  }

  void compare(int at) {
    for (int i = 0; i < 40; ++i) {
      const int number = below(kSources);
      const bool v4 = below(2) == 0;
      ASSERT_EQ(running_.verdict(frame_from(number, v4)), model_.drops(number, v4) ? kDrop : kPass)
          << "step " << at << ": source " << number << (v4 ? " of IPv4" : " of IPv6");
    }
    const auto counters = running_.guard->rule_counters();
    ASSERT_EQ(counters.size(), model_.rules().size()) << "step " << at;
    for (std::size_t i = 0; i < counters.size(); ++i) {
      ASSERT_EQ(counters[i].rule, model_.rules()[i].name) << "step " << at;
      ASSERT_EQ(counters[i].packets, model_.counters().at(counters[i].rule)) << "step " << at;
    }
    std::map<std::pair<int, bool>, std::uint64_t> bans;
    for (const Ban& ban : running_.guard->bans())
      bans[{ban.source.address[15], ban.source.v4}] = ban.packets;
    ASSERT_EQ(bans, model_.bans()) << "step " << at;
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }

  std::vector<Model::Rule> some_rules() {
    std::vector<Model::Rule> rules;
    for (int i = 0; i < 6; ++i) {
      if (below(2) == 0) continue;
      Model::Rule rule{"r" + std::to_string(i), {}, below(2) == 0, below(2) == 0};
      for (int n = below(5); n > 0; --n)
        rule.sources.insert(below(kSources));
      // A rule without sources would name everybody; as a set it names nobody.
      if (rule.sources.empty()) rule.by_set = true;
      rules.push_back(std::move(rule));
    }
    std::ranges::shuffle(rules, random_);
    return rules;
  }

  static GuardPlan plan_of(const std::vector<Model::Rule>& rules) {
    GuardPlan plan = guard_plan({});
    for (const Model::Rule& rule : rules) {
      std::vector<Prefix> prefixes;
      for (const int number : rule.sources) {
        prefixes.push_back(source(number, true));
        prefixes.push_back(source(number, false));
      }
      std::ranges::sort(prefixes);  // IPv4 first, as sets are
      GuardRule made = rule.drops ? drop(rule.name) : count(rule.name);
      if (rule.by_set) {
        made.match.from_sets = {std::make_shared<const std::vector<Prefix>>(prefixes)};
      } else {
        made.match.from = prefixes;
      }
      plan.rules.push_back(std::move(made));
    }
    return plan;
  }

  // Both slots are taken while a trial lasts.
  bool refused() {
    if (!model_.on_trial()) return false;
    EXPECT_FALSE(running_.guard->prepare(plan_of(some_rules()), {}, {}));
    return true;
  }
  void reload() {
    if (refused()) return;
    const auto rules = some_rules();
    running_.apply(plan_of(rules));
    model_.commit(rules);
    committed_ = true;
  }
  // As `sluice set add` does: the same rules, and a set of theirs with a member more or less. The
  // tables are mended.
  void members() {
    if (refused()) return;
    auto rules = model_.rules();
    std::vector<Model::Rule*> by_set;
    for (Model::Rule& rule : rules) {
      if (rule.by_set) by_set.push_back(&rule);
    }
    if (by_set.empty()) return reload();
    Model::Rule* const changed =
        by_set[static_cast<std::size_t>(below(static_cast<int>(by_set.size())))];
    const int number = below(kSources);
    if (changed->sources.erase(number) == 0) changed->sources.insert(number);
    running_.apply(plan_of(rules));
    model_.commit(rules);
    committed_ = true;
  }
  void abandon() {
    if (refused()) return;
    ASSERT_TRUE(running_.guard->prepare(plan_of(some_rules()), {}, {}));
    running_.guard->abandon();
  }
  void die_before_commit() {
    if (!refused()) {
      ASSERT_TRUE(running_.guard->prepare(plan_of(some_rules()), {}, {}));
    }
    die();
  }
  // A crash, and the next keeper: of a trial, nobody is left to confirm it.
  void die() {
    running_.reopen();
    committed_ = false;
    model_.go_back();
  }
  void trial() {
    if (refused()) return;
    // After an adoption the first plan is what was in force, and not on trial.
    if (!committed_) return reload();
    const auto rules = some_rules();
    GuardPlan plan = plan_of(rules);
    plan.revert_at = std::chrono::steady_clock::now() + 1h;
    running_.apply(plan);
    model_.try_out(rules);
  }
  void end_trial() {
    const bool back = below(2) == 0;
    running_.guard->revert_at(back ? std::optional(std::chrono::steady_clock::now())
                                   : std::nullopt);
    back ? model_.go_back() : model_.confirm();
  }
  void ban() {
    const int number = below(kSources);
    const bool v4 = below(2) == 0;
    ASSERT_TRUE(running_.guard->ban(source(number, v4), 1h, "model"));
    model_.ban(number, v4);
  }
  void lift() {
    const int number = below(kSources);
    const bool v4 = below(2) == 0;
    ASSERT_EQ(*running_.guard->unban(source(number, v4)), model_.unban(number, v4));
  }
  // The kernel's clock has ticks of some ms: a ban of 1 ms is over after 20, in the program and
  // out.
  void expire() {
    const int number = below(kSources);
    ASSERT_TRUE(running_.guard->ban(source(number, true), 1ms, "short"));
    model_.unban(number, true);
    std::this_thread::sleep_for(20ms);
    if (below(2) == 0) die();
    (void)running_.guard->tick();
  }

  std::mt19937 random_;
  RunningGuard running_;
  Model model_;
  bool committed_ = false;  // by this keeper
};

TEST(GuardModel, AnyOrderOfReloadsBansExpiriesCrashesAndAdoptions) {
  in_sandbox([] {
    Walk walk(20261124);
    for (int at = 0; at < 80 && !::testing::Test::HasFailure(); ++at) {
      walk.step();
      walk.compare(at);
    }
  });
}

}  // namespace
}  // namespace sluice::kernel
