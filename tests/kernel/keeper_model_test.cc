// Whatever the order of reloads, abandoned plans, crashes, adoptions, and other people's hands,
// what the kernel holds is a function of the plan that was committed last: nftables and policy
// routing are what a fresh node has by that plan, steering gives each destination to the model's
// listener, and bans and rules are the guard's (guard_model_test.cc has that in depth).
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <poll.h>
#include <random>
#include <set>
#include <string>
#include <unistd.h>
#include <vector>

#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/tcp.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary
using namespace std::chrono_literals;

constexpr int kBlocks = 4;  // 10.9.0.0/24 to 10.9.3.0/24
constexpr std::array<std::uint16_t, 3> kPorts{80, 8000, 9000};
constexpr int kPlans = 6;
constexpr int kSteps = 40;

// A plan, and what a person would expect of it.
struct Written {
  Plan plan;
  std::map<std::pair<int, std::uint16_t>, std::uint32_t> claims;  // block and port ─► listener
  std::set<std::string> rules;
};

Written some_plan(std::mt19937& random) {
  const auto below = [&](int limit) {
    return std::uniform_int_distribution<int>(0, limit - 1)(random);
  };
  Written out;
  out.plan = plan_with({"a", "b"}, static_cast<std::uint32_t>(1 + below(2)));
  for (int block = 0; block < kBlocks; ++block) {
    if (below(2) == 0) continue;
    const auto listener = static_cast<std::uint32_t>(below(2));
    const auto first = static_cast<std::uint16_t>(below(2) == 0 ? 80 : 8000);
    const auto last = static_cast<std::uint16_t>(below(2) == 0 ? first : 9000);
    out.plan.intercepts.push_back(entry(WayIn::local, {"10.9." + std::to_string(block) + ".0/24"},
                                        {{first, last}}, listener));
    for (const std::uint16_t port : kPorts) {
      if (first <= port && port <= last) out.claims[{block, port}] = listener;
    }
  }
  for (int port = 80; port < 83; ++port) {
    if (below(2) == 0) continue;
    Intercept made = entry(below(3) == 0 ? WayIn::output : WayIn::forward, {"10.2.0.0/16"},
                           {{static_cast<std::uint16_t>(port), static_cast<std::uint16_t>(port)}},
                           static_cast<std::uint32_t>(below(2)));
    made.on_exit = below(2) == 0 ? OnExit::closed : OnExit::bypass;
    made.on_change = below(3) == 0 ? OnChange::reset : OnChange::keep;
    made.block_quic = below(2) == 0;
    if (below(2) == 0) made.lease = 5000ms;
    out.plan.intercepts.push_back(std::move(made));
  }
  if (below(2) == 0) out.plan.protect.push_back({prefix("10.1.0.99"), {}, {}});
  out.plan.guard.enabled = true;
  out.plan.guard.interfaces = {"none-of-these"};
  for (int i = 0; i < 3; ++i) {
    if (below(2) == 0) continue;
    GuardRule rule;
    rule.name = "r" + std::to_string(i);
    rule.match.from_sets = {std::make_shared<const std::vector<Prefix>>(
        prefixes({"198.51.100." + std::to_string(below(200)), "203.0.113.0/24"}))};
    out.rules.insert(rule.name);
    out.plan.guard.rules.push_back(std::move(rule));
  }
  return out;
}

// Elements of leases come and go by themselves.
std::string listing() {
  return shell(
      "nft list ruleset | grep -v expires; ip rule; ip -6 rule;"
      "ip route show table 5177 2>&1 || true; ip -6 route show table 5177 2>&1 || true");
}

// What a node has on which nothing else ever happened.
std::string fresh_listing(const Plan& plan) {
  const std::string path = "/tmp/.sluice-fresh-" + std::to_string(::getpid());
  in_sandbox([&] {
    Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, plan);
    keeper->tick(true);
    std::ofstream(path) << listing();
  });
  std::ifstream file(path);
  std::string out{std::istreambuf_iterator<char>(file), {}};
  ::unlink(path.c_str());
  return out;
}

class Walk {
 public:
  explicit Walk(unsigned seed) : random_(seed) {
    for (int i = 0; i < kPlans; ++i) {
      plans_.push_back(some_plan(random_));
      fresh_.push_back(fresh_listing(plans_.back().plan));
    }
    net_.emplace();
    keeper_ = open_keeper();
    commit();
  }

  void step() {
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
        return commit();
      case 3:
        return abandon(false);
      case 4:
        return abandon(true);
      case 5:
        return die();
      case 6:
        return meddle();
      case 7:
        keeper_->tick(false);  // no gateway serves: leases run out, nothing else changes
        return;
      case 8:
        return lift();
      case 9:
      case 10:
        return ban();
      default:
        return settle();
    }
  }

  void compare(const std::string& at) {
    ASSERT_EQ(listing(), fresh_[in_force_]) << at;
    std::set<std::pair<std::string, std::string>> bans;
    for (const Ban& one : keeper_->bans())
      bans.insert({std::to_string(one.source.address[15]), one.reason});
    ASSERT_EQ(bans, bans_) << at;
    std::set<std::string> rules;
    for (const RuleCounter& counter : keeper_->rule_counters())
      rules.insert(counter.rule);
    ASSERT_EQ(rules, plans_[in_force_].rules) << at;
    if (committed_) compare_steering(at);
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }

  void compare_steering(const std::string& at) {
    for (int i = 0; i < 4; ++i) {
      const int block = below(kBlocks);
      const std::uint16_t port = kPorts[static_cast<std::size_t>(below(kPorts.size()))];
      const auto claim = plans_[in_force_].claims.find({block, port});
      const std::string address = "10.9." + std::to_string(block) + ".7";
      const Fd client = connect_to(address, port, "", 2);
      const bool claimed = claim != plans_[in_force_].claims.end();
      ASSERT_EQ(static_cast<bool>(client), claimed) << at << ": " << address << ":" << port;
      if (!claimed) continue;
      const Fd served = accept_any(*keeper_, claim->second, WayIn::local);
      ASSERT_TRUE(served) << at << ": not by listener " << claim->second;
      ASSERT_EQ(local_name(served.get()), address + ":" + std::to_string(port));
    }
  }

  void commit() {
    in_force_ = static_cast<std::size_t>(below(kPlans));
    Plan plan = plans_[in_force_].plan;
    plan.generation = ++generation_;
    put_in_force(*keeper_, plan);
    committed_ = true;
    settle();
  }
  void abandon(bool by_death) {
    Plan plan = plans_[static_cast<std::size_t>(below(kPlans))].plan;
    plan.generation = ++generation_;
    ASSERT_TRUE(keeper_->prepare(plan));
    by_death ? die() : keeper_->abandon();
  }
  // As a kill does: nothing is taken away; the next one finds what there is.
  void die() {
    keeper_.reset();
    keeper_ = open_keeper();
    committed_ = false;
  }
  void settle() {
    for (int i = 0; i < 20; ++i) {
      keeper_->tick(true);
      std::vector<pollfd> fds;
      for (const int fd : keeper_->change_fds())
        fds.push_back({.fd = fd, .events = POLLIN, .revents = 0});
      if (::poll(fds.data(), fds.size(), 0) == 0) return;
    }
  }
  // Other tools: what they break is repaired by a keeper that knows its plan.
  void meddle() {
    if (!committed_) return;
    const std::array<const char*, 5> ways{
        "nft delete table inet sluice 2>/dev/null || true", "nft flush ruleset",
        "nft add rule inet sluice prerouting accept 2>/dev/null || true",
        "ip rule del table 5177 2>/dev/null || true",
        "ip -6 rule del table 5177 2>/dev/null || true; ip route flush table 5177 2>/dev/null || "
        "true"};
    shell(ways[static_cast<std::size_t>(below(ways.size()))]);
    settle();
  }
  void ban() {
    const int number = below(6);
    Prefix source = prefix("198.51.100.0");
    source.address[15] = static_cast<std::uint8_t>(number);
    const std::string reason = "b" + std::to_string(below(3));
    ASSERT_TRUE(keeper_->ban(source, 3600s, reason));
    std::erase_if(bans_, [&](const auto& one) { return one.first == std::to_string(number); });
    bans_.insert({std::to_string(number), reason});
    ASSERT_TRUE(keeper_->end_banned_connections());
  }
  void lift() {
    const int number = below(6);
    Prefix source = prefix("198.51.100.0");
    source.address[15] = static_cast<std::uint8_t>(number);
    const bool was = std::erase_if(bans_, [&](const auto& one) {
                       return one.first == std::to_string(number);
                     }) > 0;
    ASSERT_EQ(*keeper_->unban(source), was);
  }

  std::mt19937 random_;
  std::vector<Written> plans_;
  std::vector<std::string> fresh_;
  std::optional<Topology> net_;
  std::unique_ptr<Keeper> keeper_;
  std::set<std::pair<std::string, std::string>> bans_;
  std::size_t in_force_ = 0;
  std::uint64_t generation_ = 0;
  bool committed_ = false;
};

void walk(unsigned seed) {
  in_sandbox([seed] {
    Walk walk(seed);
    walk.compare("begin");
    for (int at = 0; at < kSteps && !::testing::Test::HasFailure(); ++at) {
      walk.step();
      walk.compare("step " + std::to_string(at));
    }
  });
}

TEST(KeeperModel, WhatTheKernelHoldsIsThePlanThatWasCommittedLast) {
  walk(20261129);
}
TEST(KeeperModel, AndByAnotherWay) {
  walk(7);
}

}  // namespace
}  // namespace sluice::kernel
