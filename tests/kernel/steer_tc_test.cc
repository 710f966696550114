// `steering: tc` on a client, a node and an origin, without nftables; and what is said where
// packets go past netfilter and nothing takes them before.
#include <array>
#include <bpf/bpf.h>
#include <chrono>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "kernel/bypass_watch.h"
#include "kernel/doctor.h"
#include "kernel/keeper.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/redirector.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

constexpr auto kLease = std::chrono::milliseconds(1000);

Plan taken_at_tc(OnExit on_exit = OnExit::closed) {
  Plan plan = plan_with({"web"}, 2);
  plan.intercepts = {
      entry(WayIn::forward, {"10.2.0.0/16", "fd02::/16"}, {{80, 80}, {443, 443}}, 0)};
  plan.intercepts[0].steering = SteerBy::tc;
  plan.intercepts[0].on_exit = on_exit;
  plan.intercepts[0].lease = kLease;
  plan.tc_interfaces = {"tocl*"};
  return plan;
}

Fd caught(const Keeper& keeper) {
  return accept_any(keeper, 0, WayIn::forward);
}

// A connection from the client that the keeper's listener gets, or none.
struct Pair {
  Fd client, server;
  bool both() const { return client && server; }
};
// A keeper ticks each second; where a second is short, the lease may be over before the SYN comes.
Pair connect_and_take(const Topology& net, Keeper& keeper, const std::string& address) {
  Pair pair;
  for (int tries = 0; tries < 5 && !pair.both(); ++tries) {
    if (tries > 0) keeper.tick(true);
    pair.client = net.connect_from_client(address, 80, 3);
    if (pair.client) pair.server = caught(keeper);
  }
  return pair;
}

std::string both_names(const Pair& pair) {
  return local_name(pair.server.get()) + " " + peer_name(pair.client.get());
}

std::size_t programs_at(const std::string& interface) {
  std::array<__u32, 64> ids{};
  __u32 count = ids.size();
  const auto index = static_cast<int>(::if_nametoindex(interface.c_str()));
  return bpf_prog_query(index, static_cast<bpf_attach_type>(46), 0, nullptr, ids.data(), &count) ==
                 0
             ? count
             : 0;
}

TEST(SteerTc, TakesConnectionsWithoutNftablesBothVersions) {
  for (const bool tcx : {true, false}) {
    if (tcx && !kernel_has_tcx()) continue;
    in_sandbox([tcx] {
      Topology net;
      Fd origin = net.listen_at_origin("10.2.0.2", 81);
      auto keeper = Keeper::open({.pin_root = kPinRoot, .tcx = tcx});
      ASSERT_TRUE(keeper) << keeper.error().message;
      put_in_force(**keeper, taken_at_tc());
      EXPECT_EQ(shell("nft list ruleset"), "");
      for (const std::string cookies : {"1", "2"}) {  // 2: each SYN is answered by a cookie
        shell("sysctl -qw net.ipv4.tcp_syncookies=" + cookies);
        for (const std::string address : {"10.2.0.2", "fd02::2", "10.2.99.99", "fd02:9::1"}) {
          (*keeper)->tick(true);  // the lease, on a slow machine
          const Pair pair = connect_and_take(net, **keeper, address);
          ASSERT_TRUE(pair.both()) << tcx << " " << address << " cookies " << cookies;
          EXPECT_EQ(local_name(pair.server.get()), peer_name(pair.client.get()));
          EXPECT_EQ(peer_name(pair.server.get()), local_name(pair.client.get()));
          EXPECT_TRUE(exchange(pair.client.get(), pair.server.get()));
        }
      }
      Fd straight = net.connect_from_client("10.2.0.2", 81);
      ASSERT_TRUE(straight) << "a port that no entry names goes through";
      EXPECT_TRUE(accept_from(origin.get()));
      EXPECT_GE(sample(**keeper, "sluice_interception_arrived_total"), 8);
      EXPECT_EQ(sample(**keeper, "sluice_steer_tc_interfaces"), 1);
    });
  }
}

TEST(SteerTc, TakesWhatAnotherProgramWouldSendPastNetfilter) {
  if (!kernel_has_tcx()) GTEST_SKIP() << "no tcx";
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    const auto there = redirect_past_netfilter("toclient", "toorigin");
    auto keeper = open_keeper();
    put_in_force(*keeper, taken_at_tc());
    const Pair pair = connect_and_take(net, *keeper, "10.2.0.2");
    ASSERT_TRUE(pair.both());
    EXPECT_TRUE(exchange(pair.client.get(), pair.server.get())) << both_names(pair);
    keeper->tick(true);
    EXPECT_TRUE(keeper->problems().empty());
    EXPECT_TRUE(keeper->warnings().empty());
  });
}

TEST(SteerTc, WhatWasOpenBeforeFlowsPast) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    Fd before = net.connect_from_client("10.2.0.2", 80);
    Fd served = accept_from(origin.get());
    ASSERT_TRUE(before);
    ASSERT_TRUE(served);
    auto keeper = open_keeper();
    put_in_force(*keeper, taken_at_tc());
    EXPECT_TRUE(exchange(before.get(), served.get()));
    EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.0.2").both());
    EXPECT_TRUE(exchange(before.get(), served.get()));
  });
}

TEST(SteerTc, ExceptAndProtectArePassedBy) {
  in_sandbox([] {
    Topology net;
    Fd origin4 = net.listen_at_origin("10.2.0.2", 80);
    Fd origin6 = net.listen_at_origin("fd02::2", 80);
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    plan.intercepts[0].except_to = prefixes({"10.2.0.0/24"});
    plan.protect = {{.peer = prefix("fd02::2"), .to_ports = {{80, 80}}, .interfaces = {}}};
    put_in_force(*keeper, plan);
    Fd by_except = net.connect_from_client("10.2.0.2", 80);
    EXPECT_TRUE(by_except);
    EXPECT_TRUE(accept_from(origin4.get()));
    Fd by_server = net.connect_from_client("fd02::2", 80);
    EXPECT_TRUE(by_server);
    EXPECT_TRUE(accept_from(origin6.get()));
    EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.9.9").both()) << "beside the exception";
    // As a client, by the interface that it is protected on, and by no other.
    plan.intercepts[0].except_to.clear();
    plan.protect = {{.peer = prefix("10.1.0.2"), .to_ports = {}, .interfaces = {"toclient"}}};
    plan.generation = 2;
    put_in_force(*keeper, plan);
    Fd by_client = net.connect_from_client("10.2.0.2", 80);
    EXPECT_TRUE(by_client);
    EXPECT_TRUE(accept_from(origin4.get()));
    plan.protect[0].interfaces = {"toorigin"};
    plan.generation = 3;
    put_in_force(*keeper, plan);
    EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.0.2").both());
  });
}

void let_the_lease_run_out(Keeper& keeper) {
  keeper.tick(false);
  std::this_thread::sleep_for(kLease + std::chrono::milliseconds(200));
  keeper.tick(false);
}

TEST(SteerTc, OnExitHoldsWhileNobodyServesAndWhatIsProxiedGoesOn) {
  for (const OnExit on_exit : {OnExit::bypass, OnExit::closed}) {
    in_sandbox([on_exit] {
      Topology net;
      Fd origin = net.listen_at_origin("10.2.0.2", 80);
      auto keeper = open_keeper();
      put_in_force(*keeper, taken_at_tc(on_exit));
      const Pair pair = connect_and_take(net, *keeper, "10.2.0.2");
      ASSERT_TRUE(pair.both());
      let_the_lease_run_out(*keeper);
      Fd straight = net.connect_from_client("10.2.0.2", 80, 2);
      EXPECT_EQ(static_cast<bool>(straight), on_exit == OnExit::bypass);
      if (straight) {
        EXPECT_TRUE(accept_from(origin.get()));
      }
      EXPECT_GE(sample(*keeper, "sluice_interception_lapsed_total"), 1);
      EXPECT_TRUE(exchange(pair.client.get(), pair.server.get()));
      keeper->tick(true);
      EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.0.2").both()) << "served again";
    });
  }
}

TEST(SteerTc, ACrashLeavesOnExitInForceAndTheNextKeeperTakesOver) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    {
      auto keeper = open_keeper();
      put_in_force(*keeper, taken_at_tc(OnExit::closed));
      EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.0.2").both());
    }
    EXPECT_FALSE(net.connect_from_client("10.2.0.2", 80, 1)) << "closed, with nobody alive";
    auto next = open_keeper();
    put_in_force(*next, taken_at_tc(OnExit::closed));
    EXPECT_TRUE(connect_and_take(net, *next, "10.2.0.2").both());
  });
}

TEST(SteerTc, AStopLetsNewConnectionsFlowAndLeavesNothing) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    const std::size_t before = programs_at("toclient");
    auto keeper = open_keeper();
    put_in_force(*keeper, taken_at_tc());
    const Pair pair = connect_and_take(net, *keeper, "10.2.0.2");
    ASSERT_TRUE(pair.both());
    keeper->stop_serving();
    Fd straight = net.connect_from_client("10.2.0.2", 80);
    EXPECT_TRUE(straight);
    EXPECT_TRUE(accept_from(origin.get()));
    EXPECT_TRUE(exchange(pair.client.get(), pair.server.get()));
    keeper.reset();
    EXPECT_EQ(programs_at("toclient"), before);
    EXPECT_EQ(shell("ip rule; ip -6 rule").find("5177"), std::string::npos);
  });
}

TEST(SteerTc, AReloadBetweenNftablesAndTcLosesNoConnection) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    std::vector<Pair> open;
    for (const SteerBy by : {SteerBy::tc, SteerBy::sk_lookup, SteerBy::tc}) {
      plan.intercepts[0].steering = by;
      plan.generation++;
      put_in_force(*keeper, plan);
      EXPECT_EQ(shell("nft list tables").empty(), by == SteerBy::tc);
      keeper->tick(true);
      open.push_back(connect_and_take(net, *keeper, "10.2.0.2"));
      for (const Pair& pair : open) {
        ASSERT_TRUE(pair.both());
        EXPECT_TRUE(exchange(pair.client.get(), pair.server.get()));
      }
    }
  });
}

TEST(SteerTc, TheGuardComesFirst) {
  if (!kernel_has_tcx()) GTEST_SKIP() << "the order of tcx";
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    plan.generation = 1;
    put_in_force(*keeper, plan);  // the program of steering tc hangs before the guard comes …
    for (const bool again : {false, true}) {
      plan.guard.enabled = true;
      plan.guard.interfaces = {"toclient"};
      plan.generation++;
      put_in_force(*keeper, plan);
      EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.0.2").both());
      ASSERT_TRUE(keeper->ban(prefix("10.1.0.2"), std::chrono::seconds(60), "test"));
      EXPECT_FALSE(net.connect_from_client("10.2.0.2", 80, 1)) << "banned, again " << again;
      ASSERT_TRUE(keeper->unban(prefix("10.1.0.2")));
      if (again) break;
      plan.intercepts[0].steering = SteerBy::sk_lookup;  // … and comes after it.
      plan.generation++;
      put_in_force(*keeper, plan);
      plan.intercepts[0].steering = SteerBy::tc;
    }
  });
}

TEST(SteerTc, FollowsInterfacesAsTheyComeAndGo) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    plan.tc_interfaces = {"late*"};
    put_in_force(*keeper, plan);
    EXPECT_EQ(sample(*keeper, "sluice_steer_tc_interfaces"), 0);
    shell(
        "ip link set toclient down; ip link set toclient name late0; ip link set late0 up; "
        "ip addr add fd01::1/64 dev late0 nodad");
    keeper->tick(true);
    EXPECT_EQ(sample(*keeper, "sluice_steer_tc_interfaces"), 1);
    EXPECT_TRUE(connect_and_take(net, *keeper, "10.2.0.2").both());
    shell("ip link del late0");
    keeper->tick(true);
    EXPECT_EQ(sample(*keeper, "sluice_steer_tc_interfaces"), 0);
  });
}

TEST(SteerTc, QuicIsDroppedWhereItIsToBeBlocked) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    for (const bool blocks : {false, true}) {
      plan.intercepts[0].block_quic = blocks;
      plan.generation++;
      put_in_force(*keeper, plan);
      Fd receiver;
      net.in_origin([&] {
        receiver = Fd(::socket(AF_INET, SOCK_DGRAM, 0));
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_port = htons(443);
        ASSERT_EQ(::bind(receiver.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
        const timeval wait{1, 0};
        ::setsockopt(receiver.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
      });
      net.in_client([] { shell("bash -c 'echo x > /dev/udp/10.2.0.2/443'"); });
      char byte = 0;
      EXPECT_EQ(::recv(receiver.get(), &byte, 1, 0) == 1, !blocks);
    }
  });
}

TEST(SteerTc, IsForAllOfForwardAndForNothingElse) {
  in_sandbox([] {
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    plan.intercepts.push_back(plan.intercepts[0]);
    plan.intercepts[1].steering = SteerBy::sk_lookup;
    EXPECT_FALSE(keeper->prepare(plan));
    plan.intercepts[1].steering = SteerBy::automatic;
    EXPECT_TRUE(keeper->prepare(plan));
    plan.intercepts[1].way = WayIn::output;
    plan.intercepts[1].steering = SteerBy::tc;
    EXPECT_FALSE(keeper->prepare(plan));
  });
}

// --- where nothing takes packets before they go past netfilter
// --------------------------------------

TEST(Bypass, APolicyThatCatchesNothingSaysSo) {
  if (!kernel_has_tcx()) GTEST_SKIP() << "no tcx";
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto there = redirect_past_netfilter("toclient", "toorigin");
    auto keeper = open_keeper();
    Plan plan = taken_at_tc();
    plan.intercepts[0].steering = SteerBy::sk_lookup;
    plan.tc_interfaces.clear();
    put_in_force(*keeper, plan);
    keeper->tick(true);
    ASSERT_EQ(keeper->warnings().size(), 1U) << "by the name of the program, before any traffic";
    EXPECT_NE(keeper->warnings()[0].find("Cilium: cil_from_contai at toclient"), std::string::npos)
        << keeper->warnings()[0];
    for (int i = 0; i < 4; i++) {
      ASSERT_TRUE(net.connect_from_client("10.2.0.2", 80)) << "to the origin, past us";
      ASSERT_TRUE(accept_from(origin.get()));
      keeper->tick(true);
    }
    std::this_thread::sleep_for(BypassWatch::kSoon);
    keeper->tick(true);
    ASSERT_EQ(keeper->problems().size(), 1U);
    EXPECT_NE(keeper->problems()[0].find("catches nothing for listener web"), std::string::npos);
    EXPECT_NE(keeper->problems()[0].find("steering: tc"), std::string::npos);
    EXPECT_EQ(sample(*keeper, "sluice_interception_bypassed", "web"), 1);
    EXPECT_EQ(sample(*keeper, "sluice_interception_arrived_total"), 4);
    for (const auto& finding : examine_bypasses({.plan = plan, .pin_root = kPinRoot})) {
      EXPECT_EQ(finding.level, Finding::Level::problem);
      EXPECT_NE(finding.what.find("4 new connections"), std::string::npos) << finding.what;
    }
    there.reset();
    const Pair pair = connect_and_take(net, *keeper, "10.2.0.2");
    EXPECT_TRUE(pair.both()) << "netfilter sees packets again";
    keeper->tick(true);
    EXPECT_TRUE(keeper->problems().empty());
    EXPECT_EQ(sample(*keeper, "sluice_interception_bypassed", "web"), 0);
  });
}

TEST(Bypass, WhatIsCaughtProtectedOrNotServedIsNoBypass) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    Plan plan = taken_at_tc(OnExit::bypass);
    plan.intercepts[0].steering = SteerBy::sk_lookup;
    plan.tc_interfaces.clear();
    put_in_force(*keeper, plan);
    const auto look_a_while = [&](bool served) {
      for (int i = 0; i < 4; i++) {
        EXPECT_TRUE(net.connect_from_client("10.2.0.2", 80));
        keeper->tick(served);
      }
      std::this_thread::sleep_for(BypassWatch::kSoon);
      keeper->tick(served);
      EXPECT_TRUE(keeper->problems().empty());
    };
    look_a_while(true);
    plan.protect = {{.peer = prefix("10.2.0.2"), .to_ports = {}, .interfaces = {}}};
    plan.generation = 2;
    put_in_force(*keeper, plan);
    look_a_while(true);
    plan.protect.clear();
    plan.generation = 3;
    put_in_force(*keeper, plan);
    wait_until_gone("lease_1000ms");
    look_a_while(false);
  });
}

}  // namespace
}  // namespace sluice::kernel
