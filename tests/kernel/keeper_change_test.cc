// What a keeper does when something changes: a plan that cannot come into force, a successor, other
// tools' hands on the table, new addresses, connections that a reload refuses.
#include <fcntl.h>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "kernel/keeper.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

Plan forward_plan(std::uint64_t generation) {
  Plan plan = plan_with({"web"});
  plan.generation = generation;
  plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16"}, {{80, 80}}, 0)};
  return plan;
}

bool says_something(const Keeper& keeper) {
  std::vector<pollfd> fds;
  for (const int fd : keeper.change_fds())
    fds.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  return ::poll(fds.data(), fds.size(), 5000) > 0;
}

bool is_quiet(const Keeper& keeper) {
  std::vector<pollfd> fds;
  for (const int fd : keeper.change_fds())
    fds.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  return ::poll(fds.data(), fds.size(), 0) == 0;
}

// All messages taken.
void settle(Keeper& keeper) {
  for (int i = 0; i < 50 && !is_quiet(keeper); i++)
    keeper.tick(true);
}

TEST(KeeperCommit, WhenInterceptionFailsEverythingGoesBack) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = forward_plan(4);
    plan.guard.enabled = true;
    GuardRule rule;
    rule.name = "old";
    rule.match.from = prefixes({"198.51.100.0/24"});
    plan.guard.rules = {rule};
    put_in_force(*keeper, plan);

    Plan next = plan;
    next.generation = 5;
    next.listeners.push_back({.name = "other", .bind_address = std::nullopt, .bind_port = 0});
    next.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {{80, 80}}, 1)};
    next.guard.rules[0].name = "new";
    ASSERT_TRUE(keeper->prepare(next));
    // The route of `local` entries needs lo: the table and the tables of steering do not.
    shell("ip link set lo down");
    const auto committed = keeper->commit();
    ASSERT_FALSE(committed);
    EXPECT_NE(committed.error().message.find("lo"), std::string::npos) << committed.error().message;
    shell("ip link set lo up");
    settle(*keeper);

    EXPECT_EQ(keeper->generation(), 4U);
    ASSERT_EQ(keeper->rule_counters().size(), 1U);
    EXPECT_EQ(keeper->rule_counters()[0].rule, "old");
    ASSERT_EQ(keeper->sockets().size(), 1U);
    Fd client = net.connect_from_client("10.2.0.2", 80);
    EXPECT_TRUE(client);
    EXPECT_TRUE(accept_any(*keeper, 0, WayIn::forward)) << "the old plan still catches";
    EXPECT_FALSE(connect_to("10.9.0.1", 80, "", 1));

    put_in_force(*keeper, next);
    EXPECT_EQ(keeper->generation(), 5U);
    EXPECT_TRUE(connect_to("10.9.0.1", 80));
    EXPECT_TRUE(accept_any(*keeper, 1, WayIn::local)) << "and the new one can still come";
  });
}

TEST(KeeperCommit, ASuccessorContinuesTheGeneration) {
  in_sandbox([] {
    const pid_t first = ::fork();
    if (first == 0) {
      auto keeper = open_keeper();
      put_in_force(*keeper, forward_plan(17));
      ::_exit(0);  // without a clean end
    }
    int status = 0;
    ASSERT_EQ(::waitpid(first, &status, 0), first);
    EXPECT_EQ(open_keeper()->generation(), 17U);
  });
}

TEST(KeeperChanges, TouchedTablesAreNoticedAtOnceRepairedAndCounted) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan(1));
    settle(*keeper);
    ASSERT_TRUE(is_quiet(*keeper));
    keeper->tick(true);
    EXPECT_FALSE(says_something(*keeper) && (keeper->tick(true), !is_quiet(*keeper)))
        << "renewing its own leases keeps it busy";
    const auto repaired = [&](const char* part) {
      return sample(*keeper, "sluice_interception_repairs_total", part);
    };
    const double before = repaired("nftables");
    int touched = 0;
    // A flush, one rule more, and as many rules as before, but others.
    for (const char* hand : {"nft flush ruleset", "nft insert rule inet sluice prerouting accept",
                             "nft replace rule inet sluice prerouting handle $(nft -a list chain "
                             "inet sluice prerouting | sed -n 's/.*# handle //p' | tail -1) accept",
                             "ip rule del pref 5178; ip rule del pref 5178"}) {
      shell(hand);
      EXPECT_TRUE(says_something(*keeper)) << hand;
      settle(*keeper);
      EXPECT_TRUE(net.connect_from_client("10.2.0.2", 80)) << hand;
      EXPECT_TRUE(accept_any(*keeper, 0, WayIn::forward)) << hand;
      touched += std::string(hand).starts_with("nft") ? 1 : 0;
      EXPECT_EQ(repaired("nftables"), before + touched) << hand;
    }
    EXPECT_GE(repaired("routing"), 2);
    shell("nft add table inet other; nft delete table inet other");
    settle(*keeper);
    EXPECT_EQ(repaired("nftables"), before + touched) << "others' tables are their business";
  });
}

TEST(KeeperChanges, ANewAddressIsNoticedAtOnce) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan(1));
    settle(*keeper);
    shell("ip addr add 10.2.0.9/32 dev lo");
    EXPECT_TRUE(says_something(*keeper));
    keeper->tick(true);
    Fd own = listen_on("10.2.0.9", 80);
    EXPECT_TRUE(net.connect_from_client("10.2.0.9", 80));
    EXPECT_TRUE(accept_from(own.get())) << "the node's own address is not caught";
  });
}

TEST(KeeperChanges, ARuleThatGoesWhileAnAddressComesIsToldAndCounted) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan(1));
    settle(*keeper);
    static_cast<void>(keeper->take_notices());
    const double before = sample(*keeper, "sluice_interception_repairs_total", "routing");
    shell("ip addr add 10.2.0.9/32 dev lo; ip rule del pref 5178");
    keeper->tick(true);
    EXPECT_GT(sample(*keeper, "sluice_interception_repairs_total", "routing"), before);
    EXPECT_THAT(keeper->take_notices(), ::testing::Contains(::testing::HasSubstr("were gone and are back")));
  });
}

TEST(LockOut, APortOnWhichTheHostListensIsRefusedUnlessTakenOver) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::local, {"10.1.0.1/32"}, {{8000, 8999}}, 0)};
    plan.intercepts[0].where = "policy.yaml:7:3";
    Fd host = listen_on("::", 8443);
    const auto refused = keeper->prepare(plan);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(
                  "policy.yaml:7:3: intercept.local would take port 8443 of 10.1.0.1"),
              std::string::npos)
        << refused.error().message;
    plan.host_ports = {8443};
    EXPECT_TRUE(keeper->prepare(plan));
    plan.host_ports.clear();
    plan.intercepts[0].except_to = prefixes({"10.1.0.1/32"});
    EXPECT_TRUE(keeper->prepare(plan));
    plan.intercepts[0].except_to.clear();
    plan.intercepts[0].take_over = true;
    put_in_force(*keeper, plan);
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 8443));
    EXPECT_TRUE(accept_any(*keeper, 0, WayIn::local));
    EXPECT_TRUE(keeper->prepare(plan)) << "its own sockets are not in its way";
  });
}

TEST(OnChange, ResetEndsWhatTheReloadRefusesAndKeepDoesNot) {
  for (const bool reset : {true, false}) {
    in_sandbox([reset] {
      Topology net;
      auto keeper = open_keeper();
      Plan plan = forward_plan(1);
      plan.intercepts[0].ports = {{80, 81}};
      if (reset) plan.intercepts[0].on_change = OnChange::reset;
      put_in_force(*keeper, plan);
      Fd gone = net.connect_from_client("10.2.0.2", 81);
      Fd gone_accepted = accept_any(*keeper, 0, WayIn::forward);
      Fd stays = net.connect_from_client("10.2.0.2", 80);
      Fd stays_accepted = accept_any(*keeper, 0, WayIn::forward);
      ASSERT_TRUE(gone && gone_accepted && stays && stays_accepted);
      plan.generation = 2;
      plan.intercepts[0].ports = {{80, 80}};
      put_in_force(*keeper, plan);
      EXPECT_TRUE(exchange(stays.get(), stays_accepted.get()));
      EXPECT_EQ(exchange(gone.get(), gone_accepted.get()), !reset);
      EXPECT_EQ(sample(*keeper, "sluice_interception_reset_connections_total"), reset ? 1 : 0);
    });
  }
}

TEST(OnChange, ResetEndsConnectionsThatPassWhenARuleBeginsToCatchThem) {
  for (const bool reset : {true, false}) {
    in_sandbox([reset] {
      Topology net;
      Fd origin = net.listen_at_origin("10.2.0.2", 80);
      Fd client = net.connect_from_client("10.2.0.2", 80);
      Fd accepted = accept_from(origin.get());
      ASSERT_TRUE(exchange(client.get(), accepted.get()));
      auto keeper = open_keeper();
      Plan plan = forward_plan(1);
      if (reset) plan.intercepts[0].on_change = OnChange::reset;
      put_in_force(*keeper, plan);
      EXPECT_EQ(exchange(client.get(), accepted.get()), !reset);
      keeper->tick(true);  // the lease may have run out meanwhile
      Fd again = net.connect_from_client("10.2.0.2", 80);
      EXPECT_TRUE(again);
      Fd proxied = accept_any(*keeper, 0, WayIn::forward);
      EXPECT_TRUE(exchange(again.get(), proxied.get())) << "what is proxied goes on";
    });
  }
}

GuardRule drop_of(const std::vector<std::string>& from, const std::vector<std::string>& to = {}) {
  return {.name = "it",
          .match = {.from = prefixes(from), .to = prefixes(to), .from_ports = {}, .to_ports = {}},
          .except = {},
          .protocol = {}};
}

// Whether a connection that is open when the rule comes is ended at once.
void expect_reset(
    const std::string& what, bool reset, const GuardRule& rule,
    const std::vector<std::string>& interfaces,
    const std::function<void(Plan&)>& change = [](Plan&) {}) {
  in_sandbox([&] {
    SCOPED_TRACE(what);
    Topology net;
    auto keeper = open_keeper();
    Plan plan = forward_plan(1);
    plan.intercepts[0].on_change = OnChange::reset;
    put_in_force(*keeper, plan);
    const Fd client = net.connect_from_client("10.2.0.2", 80);
    const Fd accepted = accept_any(*keeper, 0, WayIn::forward);
    ASSERT_TRUE(client && accepted);
    plan.generation = 2;
    plan.guard.enabled = true;
    plan.guard.interfaces = interfaces;
    plan.guard.rules = {rule};
    change(plan);
    put_in_force(*keeper, plan);
    EXPECT_EQ(sample(*keeper, "sluice_interception_reset_connections_total"), reset ? 1 : 0);
  });
}

TEST(OnChange, ResetGoesByWhatTheGuardsRulesDrop) {
  const std::vector<std::string> all{"*"};
  const GuardRule of_client = drop_of({"10.1.0.0/24"});
  const GuardRule to_client = drop_of({}, {"10.1.0.0/24"});
  expect_reset("plain", true, of_client, all);
  expect_reset("what it sends is another direction", false, to_client, all);

  GuardRule egress = to_client;
  egress.direction = GuardDirection::egress;
  expect_reset("egress, to it", true, egress, all);
  egress.match = of_client.match;
  expect_reset("egress, from it", false, egress, all);
  egress.direction = GuardDirection::both;
  expect_reset("both", true, egress, all);

  GuardRule audit = of_client;
  audit.audit = true;
  expect_reset("audit", false, audit, all);

  GuardRule elsewhere = of_client;
  elsewhere.interfaces = {"wan9"};
  expect_reset("an interface that is not there", false, elsewhere, all);
  expect_reset("guard.interfaces that are not there", false, of_client, {"wan9"});
}

TEST(OnChange, ResetGoesByTheInterfaceOfTheClient) {
  GuardRule rule = drop_of({"10.1.0.0/24"});
  for (const bool its_own : {true, false}) {
    rule.interfaces = {its_own ? "toclient" : "toorigin"};
    expect_reset(rule.interfaces->front(), its_own, rule, {"*"});
  }
}

TEST(OnChange, ResetSparesWhatProtectSpares) {
  expect_reset("protect.from", false, drop_of({"10.1.0.0/24"}), {"*"}, [](Plan& plan) {
    plan.protect = {Protect{.peer = prefix("10.1.0.2"), .to_ports = {{80, 80}}, .interfaces = {}}};
  });
}

TEST(Bans, OpenConnectionsOfABannedSourceEnd) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = forward_plan(1);
    plan.guard.enabled = true;
    put_in_force(*keeper, plan);
    Fd client = net.connect_from_client("10.2.0.2", 80);
    Fd accepted = accept_any(*keeper, 0, WayIn::forward);
    ASSERT_TRUE(exchange(client.get(), accepted.get()));
    ASSERT_TRUE(keeper->ban(prefix("10.1.0.2"), std::chrono::seconds(60), "test"));
    ASSERT_TRUE(keeper->end_banned_connections());
    char byte = 0;
    EXPECT_EQ(::read(accepted.get(), &byte, 1), -1);
    EXPECT_EQ(errno, ECONNABORTED);
  });
}

// The packets of both pass, so what is open must stay: the operator's SSH above all.
TEST(Bans, ConnectionsThatProtectSparesStay) {
  for (const bool spared_port : {true, false}) {
    in_sandbox([spared_port] {
      Topology net;
      auto keeper = open_keeper();
      Plan plan = forward_plan(1);
      plan.guard.enabled = true;
      if (spared_port) plan.host_ports = {2222};
      put_in_force(*keeper, plan);
      const Fd listening = listen_on("10.1.0.1", 2222);
      const Fd client = net.connect_from_client("10.1.0.1", 2222);
      const Fd accepted(::accept(listening.get(), nullptr, nullptr));
      ASSERT_TRUE(exchange(client.get(), accepted.get()));
      ASSERT_TRUE(keeper->ban(prefix("10.1.0.2"), std::chrono::seconds(60), "test"));
      ASSERT_TRUE(keeper->end_banned_connections());
      EXPECT_EQ(exchange(client.get(), accepted.get()), spared_port);
    });
  }
}

std::string udp_refusal(const Topology& net, std::uint16_t port, bool from_client) {
  std::string out;
  const auto ask = [&] {
    out = shell(
        "python3 - <<'E'\n"
        "import socket, errno\n"
        "for to in ('10.2.0.2', 'fd02::2'):\n"
        "  s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM)\n"
        "  s.settimeout(1)\n"
        "  try:\n"
        "    s.connect((to, " +
        std::to_string(port) +
        ")); s.send(b'x'); s.recv(1)\n"
        "  except OSError as e: print(errno.errorcode.get(e.errno, 'silence'))\n"
        "E");
  };
  if (from_client)
    net.in_client(ask);
  else
    ask();
  return out;
}

TEST(Quic, BlockedSoThatClientsFallBack) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16", "fd02::/16"}, {{443, 443}}, 0),
                       entry(WayIn::output, {"10.2.0.0/16", "fd02::/16"}, {{443, 443}}, 0)};
    put_in_force(*keeper, plan);
    EXPECT_EQ(udp_refusal(net, 443, true), "ECONNREFUSED\nECONNREFUSED\n")
        << "from the origin: nobody listens";
    for (auto& intercept : plan.intercepts)
      intercept.block_quic = true;
    put_in_force(*keeper, plan);
    EXPECT_EQ(udp_refusal(net, 443, true), "EHOSTUNREACH\nEACCES\n");
    EXPECT_EQ(udp_refusal(net, 444, true), "ECONNREFUSED\nECONNREFUSED\n");
    EXPECT_NE(udp_refusal(net, 443, false), "ECONNREFUSED\nECONNREFUSED\n");
  });
}

}  // namespace
}  // namespace sluice::kernel
