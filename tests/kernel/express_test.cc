// The express lane on real connections: who enters, in which order bytes come, when a direction
// turns to TCP, and what a successor finds.
#include <arpa/inet.h>
#include <cerrno>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <numeric>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kernel/abi_express.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

constexpr std::size_t kBurst = SLUICE_EXPRESS_BURST_BYTES;

Plan lane_plan() {
  Plan plan = plan_with({"web"});
  plan.express_upstreams = true;
  return plan;
}

// Of a listener at port 8000 of all IPv4 addresses.
Plan plan_of_clients() {
  Plan plan = plan_with({"web"});
  plan.listeners[0].express = true;
  plan.listeners[0].bind_address = prefix("0.0.0.0");
  plan.listeners[0].bind_port = 8000;
  return plan;
}

struct Pair {
  Fd gateway;
  Fd peer;
};

sockaddr_in address_of(int listener) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  return address;
}

// As the gateway connects to an upstream. `sign`: 0 says nothing.
Fd connect_signed(const sockaddr_in& to, int sign = SLUICE_EXPRESS_SIGN) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (sign != 0) ::setsockopt(fd.get(), IPPROTO_TCP, TCP_SAVE_SYN, &sign, sizeof sign);
  const int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0)
      << std::strerror(errno);
  return fd;
}

Pair local_pair(int sign = SLUICE_EXPRESS_SIGN) {
  const Fd listener = listen_on("127.0.0.1", 0);
  Pair pair{.gateway = connect_signed(address_of(listener.get()), sign), .peer = {}};
  pair.peer = accept_from(listener.get());
  return pair;
}

// Byte i is the low byte of i / 7, so that a piece in the wrong place shows.
std::string pattern(std::size_t from, std::size_t bytes) {
  std::string out(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i)
    out[i] = static_cast<char>((from + i) / 7);
  return out;
}

std::size_t send_all_it_takes(int fd, std::size_t most) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::size_t sent = 0;
  while (sent < most) {
    const std::string piece = pattern(sent, std::min<std::size_t>(50'000, most - sent));
    const ssize_t n = ::send(fd, piece.data(), piece.size(), MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<std::size_t>(n);
  }
  ::fcntl(fd, F_SETFL, 0);
  return sent;
}

std::string receive(int fd, std::size_t bytes) {
  std::string out(bytes, '\0');
  std::size_t got = 0;
  while (got < bytes) {
    const ssize_t n = ::recv(fd, out.data() + got, bytes - got, 0);
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  out.resize(got);
  return out;
}

ExpressConnection only_one(const Keeper& keeper) {
  const auto all = keeper.express_connections(10);
  EXPECT_EQ(all.size(), 1U);
  return all.empty() ? ExpressConnection{} : all.front();
}

TEST(Express, AnUpstreamOfThisNode) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    EXPECT_TRUE(keeper->warnings().empty()) << keeper->warnings().front();
    const Pair pair = local_pair();
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    const auto one = only_one(*keeper);
    EXPECT_TRUE(one.to_upstream);
    EXPECT_GT(one.sent.express, 0U);
    EXPECT_GT(one.received.express, 0U);
    EXPECT_EQ(one.sent.tcp + one.received.tcp, 0U);
    int waiting = 0;
    ASSERT_EQ(::send(pair.gateway.get(), "word", 4, 0), 4);
    ASSERT_EQ(::ioctl(pair.peer.get(), FIONREAD, &waiting), 0);
    EXPECT_EQ(waiting, 4);
  });
}

// As above, of either version.
Fd connect_signed(const std::string& address, std::uint16_t port) {
  Fd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int sign = SLUICE_EXPRESS_SIGN;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_SAVE_SYN, &sign, sizeof sign);
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET6, address.c_str(), &to.sin6_addr), 1);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0)
      << std::strerror(errno);
  return fd;
}

TEST(Express, OverVethAndBothVersions) {
  in_sandbox([] {
    const Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    // IPv4 by a socket of IPv6 too: its other end may be one of IPv4.
    for (const auto& [listen, dial] :
         {std::pair{"10.2.0.2", "::ffff:10.2.0.2"}, {"fd02::2", "fd02::2"}}) {
      const Fd listener = net.listen_at_origin(listen, 80);
      const Fd gateway = connect_signed(dial, 80);
      const Fd peer = accept_from(listener.get());
      ASSERT_TRUE(exchange(gateway.get(), peer.get()));
      EXPECT_GT(only_one(*keeper).sent.express, 0U) << dial;
    }
  });
}

TEST(Express, WhatIsNotTheGatewaysNeverEnters) {
  in_sandbox([] {
    const Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    const Pair unsigned_one = local_pair(0);
    const Pair by_others = local_pair(1);  // TCP_SAVE_SYN as others use it
    ASSERT_TRUE(exchange(unsigned_one.gateway.get(), unsigned_one.peer.get()));
    ASSERT_TRUE(exchange(by_others.gateway.get(), by_others.peer.get()));
    net.in_client([] {  // the same sign, in another network namespace
      const Pair elsewhere = local_pair();
      ASSERT_TRUE(exchange(elsewhere.gateway.get(), elsewhere.peer.get()));
    });
    EXPECT_TRUE(keeper->express_connections(10).empty());
  });
}

// Its address and port say nothing of another network namespace, where somebody else may listen.
TEST(Express, WhoConnectsToTheSamePortElsewhereNeverEnters) {
  in_sandbox([] {
    const Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, plan_of_clients());
    net.in_client([&] {
      for (const char* address : {"127.0.0.1", "10.1.0.2"}) {
        const Fd listener = listen_on(address, 8000);
        const Fd client = connect_to(address, 8000);
        const Fd accepted = accept_from(listener.get());
        ASSERT_TRUE(client);
        ASSERT_TRUE(exchange(client.get(), accepted.get()));
        EXPECT_TRUE(keeper->express_connections(10).empty()) << address;
        int waiting = 0;  // of a socket that is in the lane it would not count what came by TCP
        ASSERT_EQ(::send(accepted.get(), "word", 4, 0), 4);
        ASSERT_EQ(::ioctl(client.get(), FIONREAD, &waiting), 0);
        EXPECT_EQ(waiting, 4) << address;
      }
    });
    const Fd client = connect_to("127.0.0.1", 8000);
    ASSERT_TRUE(client);
    const Fd accepted = accept_any(*keeper, 0, WayIn::bind);
    ASSERT_TRUE(exchange(client.get(), accepted.get()));
    EXPECT_EQ(keeper->express_connections(10).size(), 1U);
  });
}

// All addresses of one version are none of the other's.
TEST(Express, WhoConnectsToTheSamePortOfTheOtherVersionNeverEnters) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, plan_of_clients());
    const Fd listener = listen_on("::1", 8000);
    const Fd client = connect_to("::1", 8000);
    const Fd accepted = accept_from(listener.get());
    ASSERT_TRUE(client);
    ASSERT_TRUE(exchange(client.get(), accepted.get()));
    EXPECT_TRUE(keeper->express_connections(10).empty());
    const Fd ours = connect_to("127.0.0.1", 8000);
    ASSERT_TRUE(ours);
    const Fd taken = accept_any(*keeper, 0, WayIn::bind);
    ASSERT_TRUE(exchange(ours.get(), taken.get()));
    EXPECT_EQ(keeper->express_connections(10).size(), 1U);
  });
}

// 127.0.0.1:40001 to 127.0.0.1:6001, in whatever network namespace this thread is.
Pair pair_of_fixed_ports() {
  const Fd listener = listen_on("127.0.0.1", 6001);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  from.sin_port = htons(40001);
  const sockaddr_in to = address_of(listener.get());
  Pair pair{.gateway = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), .peer = {}};
  const int sign = SLUICE_EXPRESS_SIGN;
  ::setsockopt(pair.gateway.get(), IPPROTO_TCP, TCP_SAVE_SYN, &sign, sizeof sign);
  EXPECT_EQ(::bind(pair.gateway.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from), 0);
  EXPECT_EQ(::connect(pair.gateway.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  pair.peer = accept_from(listener.get());
  return pair;
}

TEST(Express, EqualAddressesInTwoNamespacesAreTwoConnections) {
  in_sandbox([] {
    const Topology net;
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    Pair theirs;
    for (const bool theirs_first : {true, false}) {
      if (theirs_first) net.in_client([&] { theirs = pair_of_fixed_ports(); });
      const Pair ours = pair_of_fixed_ports();
      if (!theirs_first) net.in_client([&] { theirs = pair_of_fixed_ports(); });
      ASSERT_EQ(::send(ours.gateway.get(), "ours", 4, 0), 4);
      ASSERT_EQ(::send(theirs.gateway.get(), "theirs", 6, 0), 6);
      EXPECT_EQ(receive(ours.peer.get(), 4), "ours");
      EXPECT_EQ(receive(theirs.peer.get(), 6), "theirs");
      EXPECT_EQ(only_one(*keeper).sent.express, 4U);
      // No TIME_WAIT: the same ports again.
      const linger at_once{.l_onoff = 1, .l_linger = 0};
      for (const Pair* pair : {&ours, &std::as_const(theirs)})
        ::setsockopt(pair->gateway.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      theirs.gateway.reset();
    }
  });
}

TEST(Express, OrderHoldsWhenADirectionTurnsToTcp) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    for (const bool from_peer : {true, false}) {
      const Pair pair = local_pair();
      const int writer = from_peer ? pair.peer.get() : pair.gateway.get();
      const int reader = from_peer ? pair.gateway.get() : pair.peer.get();
      const std::size_t sent = send_all_it_takes(writer, 3 * kBurst);
      ASSERT_GT(sent, kBurst);
      EXPECT_EQ(receive(reader, sent), pattern(0, sent));
      const auto one = only_one(*keeper);
      const auto& direction = from_peer ? one.received : one.sent;
      EXPECT_EQ(direction.left, "burst");
      EXPECT_EQ(direction.express + direction.tcp, sent);
      // For good: also after the other end has spoken.
      ASSERT_EQ(::send(reader, "go", 2, 0), 2);
      ASSERT_EQ(receive(writer, 2), "go");
      ASSERT_EQ(::send(writer, "on", 2, 0), 2);
      EXPECT_EQ(receive(reader, 2), "on");
      const auto after = only_one(*keeper);
      EXPECT_EQ((from_peer ? after.received : after.sent).express, direction.express);
    }
  });
}

// It goes on past the program that hands over, which sees the next one.
TEST(Express, OrderHoldsWhereASendBeganBeforeTheConnectionStood) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    const Fd listener = listen_on("127.0.0.1", 0);
    const sockaddr_in to = address_of(listener.get());
    for (int i = 0; i < 20; ++i) {
      Fd gateway(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const int sign = SLUICE_EXPRESS_SIGN;
      ::setsockopt(gateway.get(), IPPROTO_TCP, TCP_SAVE_SYN, &sign, sizeof sign);
      ASSERT_EQ(::sendto(gateway.get(), "first ", 6, MSG_FASTOPEN,
                         reinterpret_cast<const sockaddr*>(&to), sizeof to),
                6);
      ASSERT_EQ(::send(gateway.get(), "second", 6, 0), 6);
      const Fd peer = accept_from(listener.get());
      ASSERT_EQ(receive(peer.get(), 12), "first second");
      ASSERT_EQ(::send(peer.get(), "answer", 6, 0), 6);
      ASSERT_EQ(receive(gateway.get(), 6), "answer");
      EXPECT_EQ(only_one(*keeper).received.express, 0U);
    }
  });
}

TEST(Express, AReaderThatStopsHoldsTheWriterBack) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    const Pair pair = local_pair();
    constexpr std::size_t kMuch = 64'000'000;
    EXPECT_LT(send_all_it_takes(pair.peer.get(), kMuch), kMuch);
  });
}

// Its words are no sign that it has read.
TEST(Express, AReaderThatSpeaksAndDoesNotReadHoldsTheWriterBack) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    const Pair pair = local_pair();
    ASSERT_EQ(::fcntl(pair.gateway.get(), F_SETFL, O_NONBLOCK), 0);
    constexpr std::size_t kMuch = 64'000'000;
    const std::string piece = pattern(0, 50'000);
    std::size_t sent = 0;
    ssize_t n = 1;
    while (sent < kMuch && n > 0) {
      ASSERT_EQ(::send(pair.peer.get(), "?", 1, 0), 1);
      ASSERT_EQ(receive(pair.gateway.get(), 1), "?");
      n = ::send(pair.gateway.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<std::size_t>(n);
    }
    EXPECT_LT(sent, kMuch);
    EXPECT_EQ(only_one(*keeper).sent.left, "burst");
    EXPECT_LT(only_one(*keeper).sent.express, 4 * kBurst);
  });
}

TEST(Express, WhileEachAnswersBothStay) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    const Pair pair = local_pair();
    const std::string text = pattern(0, 20'000);
    for (std::size_t round = 0; round < 3 * kBurst / text.size(); ++round) {
      ASSERT_EQ(::send(pair.gateway.get(), text.data(), text.size(), 0),
                static_cast<ssize_t>(text.size()));
      ASSERT_EQ(receive(pair.peer.get(), text.size()), text);
      ASSERT_EQ(::send(pair.peer.get(), "ok", 2, 0), 2);
      ASSERT_EQ(receive(pair.gateway.get(), 2), "ok");
    }
    const auto one = only_one(*keeper);
    EXPECT_EQ(one.sent.left + one.received.left, "");
    EXPECT_GT(one.sent.express, 2 * kBurst);
  });
}

TEST(Express, TlsAndTheGatewaysWishTurnToTcp) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    {
      const Pair pair = local_pair();
      ASSERT_EQ(::send(pair.gateway.get(), "\x16\x03\x01\x00\x05\x01hell", 10, 0), 10);
      EXPECT_EQ(receive(pair.peer.get(), 10).size(), 10U);
      EXPECT_EQ(only_one(*keeper).sent.left, "tls");
      EXPECT_EQ(only_one(*keeper).sent.express, 0U);
    }
    const Pair pair = local_pair();
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    const int leaves = SLUICE_EXPRESS_LEAVES;
    for (const int fd : {pair.gateway.get(), pair.peer.get()})  // the peer's own means nothing
      ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &leaves, sizeof leaves), 0);
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    EXPECT_EQ(only_one(*keeper).sent.left, "gateway");
    EXPECT_EQ(only_one(*keeper).received.left, "");
  });
}

TEST(Express, APeerThatIsGoneIsToldAsByTcp) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    Pair pair = local_pair();
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    ASSERT_EQ(::send(pair.peer.get(), "last", 4, 0), 4);
    pair.peer.reset();
    EXPECT_EQ(receive(pair.gateway.get(), 100), "last");  // and then the end
    int error = 0;
    for (int tries = 0; tries < 100 && error == 0; ++tries) {
      if (::send(pair.gateway.get(), "x", 1, MSG_NOSIGNAL) < 0) error = errno;
      ::usleep(1000);
    }
    EXPECT_TRUE(error == EPIPE || error == ECONNRESET) << std::strerror(error);
    pair.gateway.reset();
    EXPECT_EQ(sample(*keeper, "sluice_express_connections", "upstream"), 0);
    EXPECT_TRUE(keeper->express_connections(10).empty());
  });
}

TEST(Express, ASuccessorGoesOnWithWhatIsOpen) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    const Pair pair = local_pair();
    ASSERT_EQ(::send(pair.gateway.get(), "before", 6, 0), 6);
    keeper.reset();  // as by kill -9: it was not told to stop
    ASSERT_EQ(::send(pair.gateway.get(), "between", 7, 0), 7);
    keeper = open_keeper();
    EXPECT_EQ(receive(pair.peer.get(), 13), "beforebetween");
    EXPECT_EQ(only_one(*keeper).sent.express, 13U);
    put_in_force(*keeper, lane_plan());
    const Pair next = local_pair();
    ASSERT_TRUE(exchange(next.gateway.get(), next.peer.get()));
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    EXPECT_EQ(keeper->express_connections(10).size(), 2U);
  });
}

// A gateway has a policy before the kernel has it, and keeps what it opens then.
TEST(Express, AnUpstreamOfAPlanThatIsNotYetInForce) {
  in_sandbox([] {
    auto keeper = open_keeper();
    ASSERT_TRUE(keeper->prepare(lane_plan()));
    keeper->tick(true);
    const Pair early = local_pair();
    ASSERT_TRUE(keeper->commit());
    ASSERT_TRUE(exchange(early.gateway.get(), early.peer.get()));
    EXPECT_EQ(only_one(*keeper).sent.tcp, 0U);

    Plan without = plan_with({"web"});
    without.generation = 2;
    put_in_force(*keeper, without);
    Plan given_up = lane_plan();
    given_up.generation = 3;
    ASSERT_TRUE(keeper->prepare(given_up));
    keeper->abandon();
    const Pair late = local_pair();
    ASSERT_TRUE(exchange(late.gateway.get(), late.peer.get()));
    EXPECT_EQ(keeper->express_connections(10).size(), 1U);
  });
}

TEST(Express, GoesWithItsLastConnectionOnceNobodyAsks) {
  in_sandbox([] {
    auto keeper = open_keeper();
    put_in_force(*keeper, lane_plan());
    Pair pair = local_pair();
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    Plan without = plan_with({"web"});
    without.generation = 2;
    put_in_force(*keeper, without);
    keeper->tick(true);
    ASSERT_TRUE(exchange(pair.gateway.get(), pair.peer.get()));
    EXPECT_EQ(sample(*keeper, "sluice_express_connections", "upstream"), 1);
    const Pair late = local_pair();
    ASSERT_TRUE(exchange(late.gateway.get(), late.peer.get()));
    EXPECT_EQ(keeper->express_connections(10).size(), 1U);
    pair = {};
    keeper->tick(true);
    EXPECT_EQ(sample(*keeper, "sluice_express_connections", "upstream"), -1);
  });
}

}  // namespace
}  // namespace sluice::kernel
