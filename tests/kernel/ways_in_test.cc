// The three ways in, by sk_lookup and by nftables' tproxy alike: whoever finds the socket, the
// accepted connection has its original addresses.
#include <cerrno>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>

#include "kernel/keeper.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

class WaysIn : public ::testing::TestWithParam<SteerBy> {
 protected:
  Intercept by(Intercept entry) const {
    entry.steering = GetParam();
    return entry;
  }
};

std::string name_of(const ::testing::TestParamInfo<SteerBy>& info) {
  return info.param == SteerBy::tproxy ? "Tproxy" : "SkLookup";
}
INSTANTIATE_TEST_SUITE_P(By, WaysIn, ::testing::Values(SteerBy::sk_lookup, SteerBy::tproxy),
                         name_of);

int option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(fd, IPPROTO_TCP, name, &value, &size);
  return value;
}

// Small answers on such a connection would wait 40 ms for an acknowledgement.
TEST(Sockets, AConnectionThatComesBeforeTheGatewayHasItsOptions) {
  in_sandbox([] {
    const auto keeper = open_keeper();
    Plan plan = plan_with({"web"}, 1);
    plan.listeners[0].bind_address = prefix("127.0.0.1");
    plan.listeners[0].bind_port = 8000;
    ASSERT_TRUE(keeper->prepare(plan));
    const Fd client = connect_to("127.0.0.1", 8000);
    ASSERT_TRUE(client);
    ASSERT_TRUE(keeper->commit());
    const Fd accepted = accept_any(*keeper, 0, WayIn::bind);
    ASSERT_TRUE(accepted);
    EXPECT_EQ(option(accepted.get(), TCP_NODELAY), 1);
    EXPECT_EQ(option(accepted.get(), TCP_INQ), 1);
  });
}

TEST_P(WaysIn, LocalFromOutsideAndFromTheNode) {
  in_sandbox([this] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = plan_with({"web", "exact"}, 2);
    plan.intercepts = {
        by(entry(WayIn::local, {"10.9.0.0/24", "fd09::/64"}, {{80, 80}, {8000, 8999}}, 0)),
        by(entry(WayIn::local, {"10.9.0.7/32"}, {{8080, 8080}}, 1))};
    put_in_force(*keeper, plan);
    net.in_client(
        [] { shell("ip route add 10.9.0.0/24 via 10.1.0.1; ip route add fd09::/64 via fd01::1"); });
    for (const bool outside : {true, false}) {
      const auto connect = [&](const std::string& to, std::uint16_t port) {
        return outside ? net.connect_from_client(to, port) : connect_to(to, port);
      };
      const auto expect_caught = [&](const std::string& to, std::uint16_t port,
                                     std::uint32_t listener, const std::string& name) {
        Fd client = connect(to, port);
        ASSERT_TRUE(client) << to << ":" << port << (outside ? " outside" : " on the node");
        Fd accepted = accept_any(*keeper, listener, WayIn::local);
        ASSERT_TRUE(accepted) << name;
        EXPECT_EQ(local_name(accepted.get()), name);
        EXPECT_EQ(option(accepted.get(), TCP_NODELAY), 1);
        EXPECT_TRUE(exchange(client.get(), accepted.get()));
      };
      expect_caught("10.9.0.1", 80, 0, "10.9.0.1:80");
      expect_caught("fd09::5", 8999, 0, "[fd09::5]:8999");
      expect_caught("10.9.0.7", 8080, 1, "10.9.0.7:8080");
      expect_caught("10.9.0.7", 8081, 0, "10.9.0.7:8081");
      EXPECT_FALSE(connect("10.9.0.1", 81)) << "nobody claims it";
    }
  });
}

TEST_P(WaysIn, OwnAddressesLeaveHostPortsAndProtectedPeersToTheHost) {
  in_sandbox([this] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {by(entry(WayIn::local, {"10.1.0.1/32"}, {{20, 90}}, 0))};
    plan.host_ports = {22};
    put_in_force(*keeper, plan);
    Fd sshd = listen_on("10.1.0.1", 22);
    Fd http = listen_on("10.1.0.1", 80);
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 22));
    EXPECT_TRUE(accept_from(sshd.get()));
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 80));
    EXPECT_TRUE(accept_any(*keeper, 0, WayIn::local));

    plan.protect = {{.peer = prefix("10.1.0.2"), .to_ports = {{80, 80}}, .interfaces = {}}};
    plan.intercepts[0].take_over = true;
    put_in_force(*keeper, plan);
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 80));
    EXPECT_TRUE(accept_from(http.get())) << "a protected peer reaches the host";
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 22));
    EXPECT_TRUE(accept_any(*keeper, 0, WayIn::local)) << "taken over";

    plan.protect[0].interfaces = {"nothing*"};
    put_in_force(*keeper, plan);
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 80));
    EXPECT_TRUE(accept_any(*keeper, 0, WayIn::local)) << "protected on another interface only";
    plan.protect[0].interfaces = {shell("ip -o -4 addr show to 10.1.0.1 | awk '{printf $2}'")};
    put_in_force(*keeper, plan);
    EXPECT_TRUE(net.connect_from_client("10.1.0.1", 80));
    EXPECT_TRUE(accept_from(http.get())) << "protected on the interface it came by";
  });
}

TEST_P(WaysIn, ForwardBothVersionsMostSpecificWins) {
  in_sandbox([this] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 81);
    auto keeper = open_keeper();
    Plan plan = plan_with({"wide", "narrow"}, 2);
    plan.intercepts = {
        by(entry(WayIn::forward, {"10.2.0.0/16", "fd02::/16"}, {{80, 80}, {8000, 8999}}, 0)),
        by(entry(WayIn::forward, {"10.2.0.2/32"}, {{8080, 8080}}, 1))};
    put_in_force(*keeper, plan);
    const auto expect_caught = [&](const std::string& to, std::uint16_t port,
                                   std::uint32_t listener, const std::string& name) {
      Fd client = net.connect_from_client(to, port);
      ASSERT_TRUE(client) << to << ":" << port;
      Fd accepted = accept_any(*keeper, listener, WayIn::forward);
      ASSERT_TRUE(accepted) << name;
      EXPECT_EQ(local_name(accepted.get()), name);
      EXPECT_TRUE(exchange(client.get(), accepted.get()));
    };
    expect_caught("10.2.0.2", 80, 0, "10.2.0.2:80");
    expect_caught("fd02::2", 8123, 0, "[fd02::2]:8123");
    expect_caught("10.2.0.2", 8080, 1, "10.2.0.2:8080");
    expect_caught("10.2.0.2", 8081, 0, "10.2.0.2:8081");
    EXPECT_TRUE(net.connect_from_client("10.2.0.2", 81)) << "what no entry names flows straight";
    EXPECT_TRUE(accept_from(origin.get()));
  });
}

TEST_P(WaysIn, OutputIsCaughtAndTheGatewayItselfIsNot) {
  in_sandbox([this] {
    Topology net;
    Fd origin = net.listen_at_origin("10.2.0.2", 80);
    auto keeper = open_keeper();
    Plan plan = plan_with({"out"}, 2);
    plan.intercepts = {by(entry(WayIn::output, {"0.0.0.0/0", "::/0"}, {{80, 80}}, 0))};
    put_in_force(*keeper, plan);
    for (const auto& [to, name] :
         {std::pair{"10.2.0.2", "10.2.0.2:80"}, std::pair{"fd02::2", "[fd02::2]:80"}}) {
      Fd client = connect_to(to, 80);
      ASSERT_TRUE(client) << to;
      Fd accepted = accept_any(*keeper, 0, WayIn::output);
      ASSERT_TRUE(accepted) << to;
      EXPECT_EQ(local_name(accepted.get()), name);
      EXPECT_TRUE(exchange(client.get(), accepted.get()));
    }
    EXPECT_TRUE(connect_to("10.2.0.2", 80, "", 5, plan.marks.gateway()));
    EXPECT_TRUE(accept_from(origin.get()));
  });
}

TEST_P(WaysIn, NobodyComesToTheListenersPortDirectly) {
  in_sandbox([this] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {by(entry(WayIn::forward, {"10.2.0.0/16"}, {{80, 80}}, 0))};
    put_in_force(*keeper, plan);
    const auto port = port_of(keeper->sockets().front().fd);
    EXPECT_FALSE(net.connect_from_client("10.1.0.1", port, 1));
    EXPECT_FALSE(connect_to("10.1.0.1", port, "", 1));
  });
}

TEST_P(WaysIn, WithoutTheLeaseClosedDropsAndBypassGoesThrough) {
  in_sandbox([this] {
    Topology net;
    Fd closed = net.listen_at_origin("10.2.0.2", 80);
    Fd bypass = net.listen_at_origin("10.2.0.2", 81);
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {by(entry(WayIn::forward, {"10.2.0.0/16"}, {{80, 80}}, 0)),
                       by(entry(WayIn::forward, {"10.2.0.0/16"}, {{81, 81}}, 0))};
    for (auto& one : plan.intercepts)
      one.lease = std::chrono::milliseconds(1500);
    plan.intercepts[1].on_exit = OnExit::bypass;
    put_in_force(*keeper, plan);
    Fd proxied = net.connect_from_client("10.2.0.2", 80);
    Fd accepted = accept_any(*keeper, 0, WayIn::forward);
    ASSERT_TRUE(proxied && accepted);
    wait_until_gone("lease_1500ms");
    EXPECT_FALSE(net.connect_from_client("10.2.0.2", 80, 1));
    EXPECT_TRUE(net.connect_from_client("10.2.0.2", 81));
    EXPECT_TRUE(accept_from(bypass.get()));
    EXPECT_TRUE(exchange(proxied.get(), accepted.get())) << "a running connection is not cut";
  });
}

// By forward and output, both versions, to port 80.
Plan turned_plan(SteerBy steering, OnExit on_exit, std::chrono::milliseconds lease) {
  Plan plan = plan_with({"web"});
  for (const WayIn way : {WayIn::forward, WayIn::output}) {
    Intercept one = entry(way, {"10.2.0.0/16", "fd02::/16"}, {{80, 80}}, 0);
    one.steering = steering;
    one.on_exit = on_exit;
    one.lease = lease;
    plan.intercepts.push_back(one);
  }
  return plan;
}

TEST_P(WaysIn, WithNobodyLeftClientsWaitWhileTheLeaseIsHeld) {
  const SteerBy steering = GetParam();
  for (const bool host_listens : {false, true}) {
    in_sandbox([steering, host_listens] {
      Topology net;
      auto keeper = open_keeper();
      put_in_force(*keeper, turned_plan(steering, OnExit::closed, std::chrono::minutes(1)));
      Fd host;
      if (host_listens) {
        host = listen_on("::", 80);
        ASSERT_TRUE(host);
      }
      for (const bool alive : {true, false}) {
        if (!alive) keeper.reset();  // as by kill -9: nothing is taken back
        for (const std::string to : {"10.2.0.2", "fd02::2"}) {
          for (const WayIn way : {WayIn::forward, WayIn::output}) {
            const int seconds = alive ? 5 : 1;
            Fd client = way == WayIn::forward ? net.connect_from_client(to, 80, seconds)
                                              : connect_to(to, 80, "", seconds);
            const int error = errno;
            const std::string what =
                to + (way == WayIn::forward ? " from outside" : " from the node");
            if (alive) {
              ASSERT_TRUE(client) << what << ": " << strerror(error);
              EXPECT_TRUE(accept_any(*keeper, 0, way)) << what;
            } else {
              EXPECT_FALSE(client) << what << ": somebody answered";
              EXPECT_TRUE(error == EINPROGRESS || error == EAGAIN || error == ETIMEDOUT)
                  << what << ": " << strerror(error);
            }
          }
        }
      }
    });
  }
}

TEST_P(WaysIn, WithNobodyLeftBypassGoesThroughAfterTheLease) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, turned_plan(GetParam(), OnExit::bypass, std::chrono::milliseconds(1500)));
    keeper.reset();
    wait_until_gone("lease_1500ms");
    for (const std::string to : {"10.2.0.2", "fd02::2"}) {
      Fd origin = net.listen_at_origin(to, 80);
      EXPECT_TRUE(net.connect_from_client(to, 80)) << to;
      EXPECT_TRUE(accept_from(origin.get())) << to;
      EXPECT_TRUE(connect_to(to, 80)) << to << " from the node";
      EXPECT_TRUE(accept_from(origin.get())) << to << " from the node";
    }
  });
}

TEST(Fallback, AutoTakesTproxyWhereSkLookupIsMissingAndSaysSo) {
  in_sandbox([] {
    Topology net;
    auto keeper = Keeper::open({.pin_root = kPinRoot, .sk_lookup = false});
    ASSERT_TRUE(keeper);
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16"}, {{80, 80}}, 0)};
    plan.intercepts[0].steering = SteerBy::sk_lookup;
    plan.intercepts[0].where = "policy.yaml:3:5";
    const auto refused = (*keeper)->prepare(plan);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("policy.yaml:3:5"), std::string::npos)
        << refused.error().message;
    EXPECT_TRUE((*keeper)->warnings().empty());
    plan.intercepts[0].steering = SteerBy::automatic;
    put_in_force(**keeper, plan);
    EXPECT_TRUE(net.connect_from_client("10.2.0.2", 80));
    EXPECT_TRUE(accept_any(**keeper, 0, WayIn::forward));
    EXPECT_EQ((*keeper)->warnings().size(), 1U);
    EXPECT_EQ(sample(**keeper, "sluice_interception_fallback"), 1);
  });
}

TEST(Fallback, OneListenerAndWayHasOneSteering) {
  in_sandbox([] {
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16"}, {{80, 80}}, 0),
                       entry(WayIn::forward, {"10.3.0.0/16"}, {{80, 80}}, 0)};
    plan.intercepts[0].steering = SteerBy::tproxy;
    plan.intercepts[1].steering = SteerBy::sk_lookup;
    EXPECT_FALSE(keeper->prepare(plan));
    plan.intercepts[1].steering = SteerBy::automatic;
    EXPECT_TRUE(keeper->prepare(plan));
  });
}

}  // namespace
}  // namespace sluice::kernel
