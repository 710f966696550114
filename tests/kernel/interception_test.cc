// Forward and output interception on a client, a node and an origin; through the keeper, as the
// gateway's process has it.
#include <chrono>
#include <csignal>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "kernel/doctor.h"
#include "kernel/keeper.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

int socket_of(const Keeper& keeper, WayIn way) {
  for (const auto& socket : keeper.sockets()) {
    if (socket.way == way) return socket.fd;
  }
  return -1;
}

// Rules, routes, tables and pins of the node, to compare before and after.
std::string traces() {
  return shell(
      "nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all "
      "| grep -v ^ff00;"
      "find /tmp/.sluice-test-bpf");
}

Plan forward_plan(OnExit on_exit = OnExit::closed) {
  Plan plan = plan_with({"web"});
  plan.intercepts = {
      entry(WayIn::forward, {"10.2.0.0/16", "fd02::/16"}, {{80, 80}, {8000, 8999}}, 0)};
  plan.intercepts[0].on_exit = on_exit;
  plan.intercepts[0].lease = std::chrono::milliseconds(1500);
  return plan;
}

TEST(Forward, CaughtOnTheWayThroughBothVersions) {
  in_sandbox([] {
    Topology net;
    Fd origin4 = net.listen_at_origin("10.2.0.2", 81);
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan());
    for (const std::string address : {"10.2.0.2", "fd02::2", "10.2.99.99"}) {
      for (const std::uint16_t port : {80, 8000, 8999}) {
        Fd client = net.connect_from_client(address, port);
        ASSERT_TRUE(client) << address << " " << port << " " << strerror(errno)
                            << shell("nft list ruleset; ip rule; ip -6 route show table 5177");
        Fd server = accept_from(socket_of(*keeper, WayIn::forward));
        ASSERT_TRUE(server);
        EXPECT_EQ(local_name(server.get()), peer_name(client.get()));
        EXPECT_EQ(peer_name(server.get()), local_name(client.get()));
        EXPECT_TRUE(exchange(client.get(), server.get()));
      }
    }
    Fd straight = net.connect_from_client("10.2.0.2", 81);
    ASSERT_TRUE(straight) << "a port that no entry names goes through";
    EXPECT_TRUE(accept_from(origin4.get()));
  });
}

// An upstream socket as the gateway makes it: transparent, its own mark, the client's address.
Fd upstream_as_client(const std::string& origin, std::uint16_t port, const std::string& client) {
  return connect_to(origin, port, client, 3, Marks{}.gateway());
}

TEST(Forward, RepliesToTheClientsAddressComeBackWithAnyReversePathFilter) {
  in_sandbox([] {
    Topology net;
    Fd origin4 = net.listen_at_origin("10.2.0.2", 80);
    Fd origin6 = net.listen_at_origin("fd02::2", 80);
    for (const std::string filter :
         {"rp_filter=0", "rp_filter=1", "rp_filter=2", "src_valid_mark=1"}) {
      shell("for i in all toclient toorigin lo; do sysctl -qw net.ipv4.conf.$i." + filter +
            "; done");
      auto keeper = open_keeper();
      put_in_force(*keeper, forward_plan());
      for (const auto& [origin, address, from] : {std::tuple{&origin4, "10.2.0.2", "10.1.0.2"},
                                                  std::tuple{&origin6, "fd02::2", "fd01::2"}}) {
        Fd client = net.connect_from_client(address, 80);
        ASSERT_TRUE(client) << filter << " " << address;
        Fd server = accept_from(socket_of(*keeper, WayIn::forward));
        ASSERT_TRUE(server);
        Fd upstream = upstream_as_client(address, 80, from);
        ASSERT_TRUE(upstream) << filter << " " << address;
        Fd served = accept_from(origin->get());
        ASSERT_TRUE(served);
        EXPECT_EQ(peer_name(served.get()), local_name(upstream.get()));
        EXPECT_NE(peer_name(served.get()).find(from), std::string::npos);
        EXPECT_TRUE(exchange(upstream.get(), served.get()));
        EXPECT_TRUE(exchange(client.get(), server.get()));
      }
      keeper->stop_serving();
    }
  });
}

// With nothing caught, and beside what is caught.
TEST(ClientSource, AnUpstreamOnTheNodeItselfAnswersToTheClientsAddress) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    for (const bool catches : {false, true}) {
      Plan plan = catches ? forward_plan() : plan_with({"web"});
      plan.generation = catches ? 2 : 1;
      plan.client_source = true;
      put_in_force(*keeper, plan);
      for (const auto& [address, from] :
           {std::pair{"10.2.0.1", "10.1.0.2"}, std::pair{"127.0.0.1", "10.1.0.2"},
            std::pair{"fd02::1", "fd01::2"}, std::pair{"::1", "fd01::2"}}) {
        Fd origin = listen_on(address, 9000);
        Fd upstream = upstream_as_client(address, 9000, from);
        ASSERT_TRUE(upstream) << address << " " << strerror(errno)
                              << shell("nft list ruleset; ip rule; ip -6 rule");
        Fd served = accept_from(origin.get());
        ASSERT_TRUE(served) << address;
        EXPECT_EQ(peer_name(served.get()), local_name(upstream.get()));
        EXPECT_NE(peer_name(served.get()).find(from), std::string::npos);
        EXPECT_TRUE(exchange(upstream.get(), served.get())) << address;
      }
      // An upstream elsewhere, as before.
      Fd origin = net.listen_at_origin("10.2.0.2", 9001);
      Fd upstream = upstream_as_client("10.2.0.2", 9001, "10.1.0.2");
      ASSERT_TRUE(upstream) << strerror(errno);
      Fd served = accept_from(origin.get());
      ASSERT_TRUE(served);
      EXPECT_TRUE(exchange(upstream.get(), served.get()));
    }
    keeper->stop_serving();
    keeper.reset();
    EXPECT_EQ(shell("ip rule; ip -6 rule").find("5177"), std::string::npos);
  });
}

TEST(Marks, AnotherOneByReloadCutsNothing) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    Plan plan = forward_plan();
    plan.listeners.push_back({.name = "out", .bind_address = std::nullopt, .bind_port = 0});
    plan.intercepts.push_back(entry(WayIn::output, {"10.2.0.0/16"}, {{80, 80}}, 1));
    put_in_force(*keeper, plan);
    Fd through = net.connect_from_client("10.2.0.2", 80);
    Fd through_served = accept_from(socket_of(*keeper, WayIn::forward));
    Fd out = connect_to("10.2.0.2", 80);
    Fd out_served = accept_from(socket_of(*keeper, WayIn::output));
    Fd upstream = upstream_as_client("10.2.0.2", 80, "10.1.0.2");
    Fd upstream_served = accept_from(origin.get());
    ASSERT_TRUE(through_served && out_served && upstream_served);

    plan.generation = 2;
    plan.marks = {.mark = 0x1000000, .mask = 0x3000000, .table = 5188, .priority = 5188};
    put_in_force(*keeper, plan);
    EXPECT_TRUE(exchange(through.get(), through_served.get()));
    EXPECT_TRUE(exchange(out.get(), out_served.get()));
    EXPECT_TRUE(exchange(upstream.get(), upstream_served.get()));
    // The gateway that serves until its successor does, and the successor: neither is caught.
    for (const std::uint32_t mark : {Marks{}.gateway(), plan.marks.gateway()}) {
      Fd own = connect_to("10.2.0.2", 80, "", 5, mark);
      ASSERT_TRUE(own);
      EXPECT_TRUE(accept_from(origin.get())) << mark;
    }
    Fd later = connect_to("10.2.0.2", 80);
    EXPECT_TRUE(accept_from(socket_of(*keeper, WayIn::output)));
    Fd later_through = net.connect_from_client("10.2.0.2", 80);
    EXPECT_TRUE(accept_from(socket_of(*keeper, WayIn::forward)));
    EXPECT_EQ(shell("ip rule").find("5177"), std::string::npos) << shell("ip rule");

    plan.generation = 3;
    plan.marks = {.mark = 0x200000, .mask = 0x600000};
    const auto refused = keeper->prepare(plan);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("0x600000 shares bits with 0x300000"), std::string::npos)
        << refused.error().message;
    plan.marks = {};
    put_in_force(*keeper, plan);
    EXPECT_TRUE(exchange(out.get(), out_served.get()));
    EXPECT_TRUE(exchange(through.get(), through_served.get()));
    keeper->stop_serving();
  });
}

TEST(Forward, ProtectedPeersAndExceptionsGoStraight) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    Plan plan = forward_plan();
    const auto expect = [&](bool caught, const char* why) {
      put_in_force(*keeper, plan);
      Fd client = net.connect_from_client("10.2.0.2", 80);
      ASSERT_TRUE(client) << why;
      EXPECT_EQ(static_cast<bool>(
                    accept_from(caught ? socket_of(*keeper, WayIn::forward) : origin.get())),
                true)
          << why;
    };
    expect(true, "nothing said");
    plan.protect = {
        Protect{.peer = prefix("10.1.0.0/24"), .to_ports = {{80, 80}}, .interfaces = {}}};
    expect(false, "a protected source");
    plan.protect = {
        Protect{.peer = prefix("10.1.0.0/24"), .to_ports = {{81, 81}}, .interfaces = {}}};
    expect(true, "protected for another port");
    plan.protect = {
        Protect{.peer = prefix("10.2.0.2"), .to_ports = {}, .interfaces = {"toclient"}}};
    expect(false, "a protected destination");
    plan.protect = {
        Protect{.peer = prefix("10.2.0.2"), .to_ports = {}, .interfaces = {}, .upstream = true}};
    expect(true, "an upstream may be what the client wanted");
    plan.protect.clear();
    plan.intercepts[0].except_to = prefixes({"10.2.0.0/30"});
    expect(false, "except.to");
    plan.intercepts[0].except_to.clear();
    plan.intercepts[0].except_from = prefixes({"10.1.0.2"});
    expect(false, "except.from");
    plan.intercepts[0].except_from.clear();
    plan.intercepts[0].from = prefixes({"10.3.0.0/16", "::/0"});
    expect(false, "another source");
  });
}

TEST(Forward, TheNodesOwnAddressesAreNotCaught) {
  in_sandbox([] {
    Topology net;
    Fd host = listen_on("10.2.0.1", 80);
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan());
    Fd client = net.connect_from_client("10.2.0.1", 80);
    ASSERT_TRUE(client);
    EXPECT_TRUE(accept_from(host.get()));
  });
}

TEST(Forward, AnOpenConnectionSurvivesStartStopAndCrash) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    Fd client = net.connect_from_client("10.2.0.2", 80);
    ASSERT_TRUE(client);
    Fd served = accept_from(origin.get());
    ASSERT_TRUE(served);
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan());
    EXPECT_TRUE(exchange(client.get(), served.get())) << "start";
    keeper->stop_serving();
    EXPECT_TRUE(exchange(client.get(), served.get())) << "stop";
    keeper.reset();
    EXPECT_TRUE(exchange(client.get(), served.get())) << "end";
    keeper = open_keeper();
    put_in_force(*keeper, forward_plan());
    keeper.reset();  // without a stop: as a crash leaves it
    EXPECT_TRUE(exchange(client.get(), served.get())) << "crash";
  });
}

TEST(Forward, AStopLetsProxiedConnectionsGoOnAndNewOnesThrough) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan());
    Fd client = net.connect_from_client("10.2.0.2", 80);
    ASSERT_TRUE(client);
    Fd server = accept_from(socket_of(*keeper, WayIn::forward));
    ASSERT_TRUE(server);
    keeper->stop_serving();
    keeper->tick(true);
    EXPECT_TRUE(exchange(client.get(), server.get()));
    Fd straight = net.connect_from_client("10.2.0.2", 80);
    ASSERT_TRUE(straight);
    EXPECT_TRUE(accept_from(origin.get()));
  });
}

TEST(Forward, WithoutTheLeaseClosedDropsAndBypassGoesThrough) {
  in_sandbox([] {
    Topology net;
    Fd origin4 = net.listen_at_origin("10.2.0.2", 80);
    Fd origin6 = net.listen_at_origin("fd02::2", 80);
    for (const auto on_exit : {OnExit::closed, OnExit::bypass}) {
      auto keeper = open_keeper();
      put_in_force(*keeper, forward_plan(on_exit));
      Fd proxied = net.connect_from_client("10.2.0.2", 80);
      Fd server = accept_from(socket_of(*keeper, WayIn::forward));
      ASSERT_TRUE(server);
      wait_until_gone("lease_1500ms");
      keeper->tick(false);  // a keeper whose gateway is gone renews nothing
      EXPECT_EQ(sample(*keeper, "sluice_interception_lease_held"), 0);
      EXPECT_TRUE(exchange(proxied.get(), server.get())) << "a running connection is not cut";
      for (const auto& [origin, address] :
           {std::pair{&origin4, "10.2.0.2"}, std::pair{&origin6, "fd02::2"}}) {
        Fd client = net.connect_from_client(address, 80, 2);
        if (on_exit == OnExit::closed) {
          EXPECT_FALSE(client);
          EXPECT_TRUE(errno == EINPROGRESS || errno == EAGAIN || errno == ETIMEDOUT)
              << address << " " << strerror(errno);
        } else {
          ASSERT_TRUE(client) << address;
          Fd served = accept_from(origin->get());
          ASSERT_TRUE(served) << "flows straight";
          keeper->tick(true);
          EXPECT_TRUE(exchange(client.get(), served.get()))
              << "what bypassed is not caught afterwards";
          wait_until_gone("lease_1500ms");
        }
      }
      keeper->tick(true);
      Fd again = net.connect_from_client("fd02::2", 80);
      EXPECT_TRUE(again);
      EXPECT_TRUE(accept_from(socket_of(*keeper, WayIn::forward)));
      keeper->stop_serving();
    }
  });
}

TEST(Output, CaughtOnTheWayOutAndTheGatewayItselfIsNot) {
  in_sandbox([] {
    Topology net;
    Fd origin4 = net.listen_at_origin("10.2.0.2", 80);
    Fd origin6 = net.listen_at_origin("fd02::2", 80);
    auto keeper = open_keeper();
    Plan plan = plan_with({"out"});
    plan.intercepts = {entry(WayIn::output, {"0.0.0.0/0", "::/0"}, {}, 0)};
    Fd before = connect_to("10.2.0.2", 80);
    Fd before_served = accept_from(origin4.get());
    ASSERT_TRUE(before_served);
    put_in_force(*keeper, plan);
    EXPECT_TRUE(exchange(before.get(), before_served.get())) << "open before the start";
    for (const auto& [origin, address] :
         {std::pair{&origin4, "10.2.0.2"}, std::pair{&origin6, "fd02::2"}}) {
      Fd client = connect_to(address, 80);
      ASSERT_TRUE(client) << address << strerror(errno);
      Fd server = accept_from(socket_of(*keeper, WayIn::output));
      ASSERT_TRUE(server) << address;
      EXPECT_EQ(local_name(server.get()), peer_name(client.get()));
      EXPECT_EQ(peer_name(server.get()), local_name(client.get()));
      EXPECT_TRUE(exchange(client.get(), server.get()));
      Fd upstream = connect_to(address, 80, "", 3, Marks{}.gateway());
      ASSERT_TRUE(upstream);
      Fd served = accept_from(origin->get());
      ASSERT_TRUE(served) << "the gateway's own connection goes out";
      EXPECT_TRUE(exchange(upstream.get(), served.get()));
      EXPECT_TRUE(exchange(client.get(), server.get()));
    }
    Fd loopback = listen_on("127.0.0.1", 4444);
    Fd local = connect_to("127.0.0.1", 4444);
    EXPECT_TRUE(accept_from(loopback.get())) << "loopback is never caught";
  });
}

TEST(Output, ByCgroupOnly) {
  in_sandbox([] {
    Topology net;
    const std::string mount =
        shell("awk '/ - cgroup2 /{print $5; exit}' /proc/self/mountinfo | tr -d '\\n'");
    const std::string name = "/sluice-test-" + std::to_string(::getpid());
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    Plan plan = plan_with({"out"});
    plan.intercepts = {entry(WayIn::output, {"0.0.0.0/0"}, {}, 0)};
    plan.intercepts[0].cgroups = {name};
    put_in_force(*keeper, plan);
    EXPECT_EQ(sample(*keeper, "sluice_interception_cgroups_missing"), 1);
    EXPECT_EQ(keeper->warnings(),
              std::vector<std::string>{"there is no cgroup " + name +
                                       ": intercept.output catches nothing of it until there is"});
    const auto doctor = [&] { return examine_cgroups({.plan = plan}).front(); };
    EXPECT_EQ(doctor().level, Finding::Level::warning);
    EXPECT_NE(doctor().what.find(name), std::string::npos) << doctor().what;
    const auto expect_at = [&](int listener, const char* why) {
      Fd client = connect_to("10.2.0.2", 80);
      ASSERT_TRUE(client) << why;
      EXPECT_TRUE(accept_from(listener)) << why;
    };
    expect_at(origin.get(), "the group does not exist yet");
    ASSERT_EQ(::mkdir((mount + name).c_str(), 0755), 0);
    keeper->tick(true);
    EXPECT_TRUE(keeper->warnings().empty());
    EXPECT_EQ(doctor().level, Finding::Level::good);
    expect_at(origin.get(), "we are not in it");
    shell("echo " + std::to_string(::getpid()) + " > " + mount + name + "/cgroup.procs");
    expect_at(socket_of(*keeper, WayIn::output), "we are in it");
    shell("echo " + std::to_string(::getpid()) + " > " + mount + "/cgroup.procs");
    EXPECT_EQ(::rmdir((mount + name).c_str()), 0);
  });
}

TEST(Output, BypassAfterTheLease) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    Plan plan = plan_with({"out"});
    plan.intercepts = {entry(WayIn::output, {"10.2.0.0/16"}, {{80, 80}}, 0)};
    plan.intercepts[0].on_exit = OnExit::bypass;
    plan.intercepts[0].lease = std::chrono::milliseconds(1500);
    put_in_force(*keeper, plan);
    wait_until_gone("lease_1500ms");
    Fd client = connect_to("10.2.0.2", 80);
    ASSERT_TRUE(client);
    Fd served = accept_from(origin.get());
    ASSERT_TRUE(served);
    keeper->tick(true);
    EXPECT_TRUE(exchange(client.get(), served.get()));
  });
}

TEST(KeeperTest, CleanStopAndCleanupLeaveNothing) {
  in_sandbox([] {
    Topology net;
    shell(
        "nft add table inet theirs; ip rule add fwmark 0x7/0xff lookup 77 pref 900; ip route add "
        "10.77.0.0/16 via 10.2.0.2");
    const std::string before = traces();
    Plan plan = forward_plan();
    plan.intercepts.push_back(
        entry(WayIn::local, {"10.9.0.0/24", "2001:db8:9::/64"}, {{80, 80}}, 0));
    plan.intercepts.push_back(entry(WayIn::output, {"0.0.0.0/0"}, {{80, 80}}, 0));
    auto keeper = open_keeper();
    put_in_force(*keeper, plan);
    EXPECT_TRUE(net.connect_from_client("10.9.0.7", 80)) << "AnyIP from outside";
    EXPECT_NE(traces(), before);
    keeper->stop_serving();
    keeper.reset();
    EXPECT_TRUE(cleanup({.pin_root = kPinRoot}));
    EXPECT_EQ(traces(), before);

    keeper = open_keeper();
    put_in_force(*keeper, plan);
    const auto removed = cleanup({.pin_root = kPinRoot});  // while it lives
    ASSERT_TRUE(removed);
    EXPECT_GT(removed->size(), 10U);
    keeper->tick(true);
    EXPECT_EQ(traces(), before) << "and it does not come back";
    keeper.reset();
    EXPECT_EQ(cleanup({.pin_root = kPinRoot})->size(), 0U) << "twice is fine";
  });
}

TEST(KeeperTest, DropRulesStayInForceAfterTheEndUntilCleanup) {
  in_sandbox([] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    Plan plan = forward_plan();
    plan.guard.enabled = true;
    plan.guard.interfaces = {"toclient"};
    GuardRule rule;
    rule.name = "client";
    rule.match.from = prefixes({"10.1.0.2"});
    rule.protocol = 6;
    plan.guard.rules = {rule};
    auto keeper = open_keeper();
    put_in_force(*keeper, plan);
    EXPECT_FALSE(net.connect_from_client("10.2.0.2", 80, 1)) << "dropped before it is intercepted";
    keeper->tick(true);  // where a second is short, the lease is over
    EXPECT_TRUE(net.connect_from_client("fd02::2", 80)) << "the other version is caught as before";
    EXPECT_GT(keeper->rule_counters().at(0).packets, 0U);
    keeper->stop_serving();
    keeper.reset();
    EXPECT_FALSE(net.connect_from_client("10.2.0.2", 80, 1)) << "still dropped, with nobody alive";
    EXPECT_TRUE(cleanup({.pin_root = kPinRoot}));
    EXPECT_TRUE(net.connect_from_client("10.2.0.2", 80));
    EXPECT_TRUE(accept_from(origin.get()));
  });
}

TEST(KeeperTest, WhatOthersFlushIsRepairedAndCounted) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, forward_plan());
    const std::string good =
        shell("ip rule; ip -6 rule; ip route show table 5177; ip -6 route show table 5177");
    const auto works = [&](const char* why) {
      Fd client = net.connect_from_client("10.2.0.2", 80, 2);
      EXPECT_TRUE(client) << why;
      EXPECT_TRUE(accept_from(socket_of(*keeper, WayIn::forward), 1)) << why;
    };
    keeper->tick(true);
    EXPECT_EQ(sample(*keeper, "sluice_interception_repairs_total", "nftables"), 0);
    EXPECT_EQ(sample(*keeper, "sluice_interception_repairs_total", "routing"), 0);
    shell("nft flush ruleset");
    keeper->tick(true);
    works("the whole rule set flushed");
    shell("nft flush chain inet sluice prerouting");
    keeper->tick(true);
    works("a chain flushed");
    EXPECT_EQ(sample(*keeper, "sluice_interception_repairs_total", "nftables"), 2);
    shell(
        "ip rule flush; ip rule add pref 32766 lookup main; ip "
        "rule add pref 32767 lookup default;"
        "ip route flush table 5177; ip -6 route flush table 5177");
    keeper->tick(true);
    works("rules and routes flushed");
    EXPECT_GT(sample(*keeper, "sluice_interception_repairs_total", "routing"), 0);
    EXPECT_EQ(shell("ip rule; ip -6 rule; ip route show table 5177; ip -6 route show table 5177"),
              good);
  });
}

TEST(KeeperTest, MarksOfOthersAreRefused) {
  in_sandbox([] {
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16"}, {}, 0)};
    const auto refused = [&](const std::string& add, const std::string& why) {
      shell("ip rule add " + add);
      const auto result = keeper->prepare(plan);
      ASSERT_FALSE(result) << add;
      EXPECT_NE(result.error().message.find(why), std::string::npos) << result.error().message;
      shell("ip rule del " + add);
    };
    refused("fwmark 0x100000/0x100000 lookup 99 pref 900", "bits");
    refused("fwmark 0x100000 lookup 99 pref 900", "bits");
    refused("from 10.0.0.0/8 lookup 5177 pref 900", "table");
    refused("from 10.0.0.0/8 lookup 99 pref 5178", "priority");
    shell("ip rule add not fwmark 0xca6c lookup 51820 pref 900");
    EXPECT_TRUE(keeper->prepare(plan)) << "a tunnel's rule with bits of its own is no conflict";
    keeper->abandon();
    shell("ip route add 10.50.0.0/16 dev lo table 5177");
    EXPECT_FALSE(keeper->prepare(plan));
    EXPECT_EQ(shell("nft list ruleset"), "") << "a refused plan leaves no trace";
  });
}

TEST(KeeperTest, ASuccessorOfAKilledKeeperAdoptsAndReplaces) {
  in_sandbox([] {
    Topology net;
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t owner = ::fork();
    if (owner == 0) {
      auto keeper = open_keeper();
      put_in_force(*keeper, forward_plan());
      if (::write(ready[1], "x", 1) != 1) std::_Exit(1);
      for (;;)
        ::pause();
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ASSERT_EQ(::kill(owner, SIGKILL), 0);
    ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);
    EXPECT_NE(shell("nft list ruleset").find("table inet sluice"), std::string::npos)
        << "a crash leaves it";
    auto keeper = open_keeper();
    Plan other = plan_with({"web"});
    other.intercepts = {entry(WayIn::forward, {"10.2.0.0/16"}, {{82, 82}}, 0)};
    put_in_force(*keeper, other);
    EXPECT_TRUE(net.connect_from_client("10.2.0.2", 82));
    EXPECT_TRUE(accept_from(socket_of(*keeper, WayIn::forward)));
    EXPECT_FALSE(net.connect_from_client("10.2.0.2", 80));
    EXPECT_EQ(errno, ECONNREFUSED) << "the origin itself refuses";
  });
}

TEST(KeeperTest, BindSocketsSayWhoIsInTheWay) {
  in_sandbox([] {
    Fd other = listen_on("127.0.0.1", 8080);
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"}, 2);
    plan.listeners[0].bind_address = prefix("127.0.0.1");
    plan.listeners[0].bind_port = 8080;
    const auto refused = keeper->prepare(plan);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("listener web: cannot listen on 127.0.0.1:8080"),
              std::string::npos)
        << refused.error().message;
    other.reset();
    put_in_force(*keeper, plan);
    ASSERT_EQ(keeper->sockets().size(), 2U);
    EXPECT_TRUE(connect_to("127.0.0.1", 8080));
    const int first = keeper->sockets()[0].fd;
    plan.listeners[0].name = "renamed";
    put_in_force(*keeper, plan);
    EXPECT_EQ(keeper->sockets()[0].fd, first) << "the same address keeps its socket";
  });
}

}  // namespace
}  // namespace sluice::kernel
