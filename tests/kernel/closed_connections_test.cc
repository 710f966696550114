// Which of the node's closed connections go when interception does: those that it caught, and no
// others.
#include "kernel/closed_connections.h"

#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "kernel/prefix_text.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

constexpr std::uint16_t kOwn = 9000;

Plan passing() {
  Plan plan = plan_with({"web"});
  plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16", "fd02::/16"}, {{80, 80}}, 0)};
  return plan;
}

struct Connection {
  Fd client, server;

  // The server's side first, which then has the TIME_WAIT.
  void close() {
    server.reset();
    char byte = 0;
    EXPECT_EQ(::read(client.get(), &byte, 1), 0);
    client.reset();
  }
};

class Node {
 public:
  Node() {
    shell("ip route add local 203.0.113.0/24 dev lo");  // as other software does
    keeper_ = open_keeper();
    put_in_force(*keeper_, passing());
  }

  Connection caught(const std::string& address) {
    return to(address, 80, [&] { return accept_any(*keeper_, 0, WayIn::forward); });
  }
  Connection own(const std::string& address) {
    Fd listener = listen_on(address, kOwn);
    EXPECT_TRUE(listener);
    return to(address, kOwn, [&] { return accept_from(listener.get()); });
  }
  std::unique_ptr<Keeper>& keeper() { return keeper_; }

 private:
  Connection to(const std::string& address, std::uint16_t port, const std::function<Fd()>& accept) {
    Connection made{.client = net_.connect_from_client(address, port), .server = {}};
    EXPECT_TRUE(made.client) << address;
    made.server = accept();
    EXPECT_TRUE(made.server) << address;
    return made;
  }

  Topology net_;
  std::unique_ptr<Keeper> keeper_;
};

std::vector<std::string> left(TcpSockets which) {
  std::vector<std::string> out;
  EXPECT_TRUE(each_tcp_socket(
      which, [&](const TcpSocket& socket) { out.push_back(to_text(socket.local)); }));
  std::ranges::sort(out);
  return out;
}

using Names = std::vector<std::string>;

TEST(ClosedConnections, ThoseThatWereCaughtGoWithTheInterception) {
  in_sandbox([] {
    Node node;
    for (const std::string address : {"10.2.0.2", "fd02::2", "10.2.9.9"})
      node.caught(address).close();
    for (const std::string address : {"10.1.0.1", "203.0.113.5"})
      node.own(address).close();
    Connection open = node.caught("10.2.0.2");
    ASSERT_EQ(left(TcpSockets::time_wait).size(), 5U);
    node.keeper()->stop_serving();
    EXPECT_EQ(node.keeper()->end_closed_connections().value(), 3U);
    EXPECT_EQ(left(TcpSockets::time_wait), (Names{"10.1.0.1", "203.0.113.5"}));
    EXPECT_TRUE(exchange(open.client.get(), open.server.get())) << "who is open goes on";
    // Nobody owns it, and the client does not close it: it would be there for a minute.
    open.server.reset();
    EXPECT_EQ(left(TcpSockets::closed).size(), 3U);
    node.keeper().reset();
    EXPECT_EQ(left(TcpSockets::closed), (Names{"10.1.0.1", "203.0.113.5"}));
  });
}

TEST(ClosedConnections, WhatAReloadTakesOutFlowsStraight) {
  in_sandbox([] {
    Node node;
    node.caught("10.2.0.2").close();
    node.caught("10.2.9.9").close();
    Plan next = passing();
    next.intercepts[0].to = prefixes({"10.2.9.0/24", "fd02::/16"});
    next.generation = 2;
    Connection open = node.caught("10.2.0.3");
    put_in_force(*node.keeper(), next);
    node.keeper()->tick(true);
    EXPECT_EQ(left(TcpSockets::time_wait), (Names{"10.2.9.9"})) << "what is still caught stays";
    open.close();
    EXPECT_EQ(left(TcpSockets::time_wait).size(), 2U);
    node.keeper()->tick(true);
    EXPECT_EQ(left(TcpSockets::time_wait), (Names{"10.2.9.9"})) << "it was open at the reload";
  });
}

TEST(ClosedConnections, WhatSeveralReloadsTakeOutFlowsStraight) {
  in_sandbox([] {
    Node node;
    Connection first = node.caught("10.2.0.2");
    Connection second = node.caught("10.2.9.9");
    Plan next = passing();
    next.intercepts[0].to = prefixes({"10.2.9.0/24", "fd02::/16"});
    next.generation = 2;
    put_in_force(*node.keeper(), next);
    next.intercepts[0].to = prefixes({"fd02::/16"});
    next.generation = 3;
    put_in_force(*node.keeper(), next);
    first.close();
    second.close();
    ASSERT_EQ(left(TcpSockets::time_wait).size(), 2U);
    node.keeper()->tick(true);
    EXPECT_EQ(left(TcpSockets::time_wait), (Names{}));
  });
}

TEST(ClosedConnections, WithoutAPlanByTheirAddresses) {
  in_sandbox([] {
    Node node;
    node.caught("10.2.0.2").close();
    node.own("10.1.0.1").close();
    node.own("203.0.113.5").close();
    Connection half = node.caught("10.2.0.3");
    ::shutdown(half.server.get(), SHUT_WR);
    // A crash: interception is there, and nobody serves.
    node.keeper().reset();
    const auto removed = cleanup({.pin_root = kPinRoot});
    ASSERT_TRUE(removed);
    EXPECT_NE(std::ranges::find(*removed, "closed connections that were intercepted: 1"),
              removed->end());
    EXPECT_EQ(left(TcpSockets::closed), (Names{"10.1.0.1", "10.2.0.3", "203.0.113.5"}))
        << "what somebody still owns stays";
  });
}

}  // namespace
}  // namespace sluice::kernel
