// sk_lookup on real connections, in one network namespace with AnyIP routes.
#include "kernel/steering.h"

#include <atomic>
#include <csignal>
#include <cstring>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "tests/kernel/sandbox.h"
#include "tests/kernel/tcp.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

struct Steered {
  PinDirectory pins;
  std::unique_ptr<Steering> steering;
  std::vector<OwnedSocket> sockets;

  explicit Steered(const Plan& plan, const std::vector<Prefix>& own = {})
      : pins(std::move(PinDirectory::open(kPinRoot).value())),
        steering(std::move(Steering::open(pins).value())) {
    apply(plan, own);
  }
  void apply(const Plan& plan, const std::vector<Prefix>& own = {}) {
    auto opened = open_steered_sockets(plan, sockets);
    ASSERT_TRUE(opened) << opened.error().message;
    const auto prepared = steering->prepare(plan, *opened, NodeView{own, {}});
    ASSERT_TRUE(prepared) << prepared.error().message;
    const auto committed = steering->commit();
    ASSERT_TRUE(committed) << committed.error().message;
    steering->settle();
    sockets = *opened;
  }
  int socket(std::uint32_t listener, std::uint32_t worker = 0) const {
    for (const auto& socket : sockets) {
      if (socket.listener == listener && socket.worker == worker) return socket.fd->get();
    }
    return -1;
  }
  std::string report() const {
    std::string text;
    for (const auto& sample : steering->samples())
      text += "\n" + sample.name + " " + std::to_string(sample.value);
    return text;
  }
  double sample(const std::string& name) const {
    for (const auto& sample : steering->samples()) {
      if (sample.name == name) return sample.value;
    }
    return -1;
  }
};

void add_anyip() {
  shell("ip route add local 10.9.0.0/24 dev lo; ip -6 route add local 2001:db8:9::/64 dev lo");
}

TEST(Steering, AnyIpRangeBothVersions) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"web"});
    plan.intercepts = {
        entry(WayIn::local, {"10.9.0.0/24", "2001:db8:9::/64"}, {{80, 80}, {8000, 8999}}, 0)};
    Steered steered(plan);
    for (const std::string address :
         {"10.9.0.7", "10.9.0.250", "2001:db8:9::7", "2001:db8:9:0:1:2:3:4"}) {
      for (const std::uint16_t port : {80, 8000, 8999}) {
        Fd client = connect_to(address, port);
        ASSERT_TRUE(client) << address << " " << port << " " << std::strerror(errno)
                            << steered.report();
        Fd server = accept_from(steered.socket(0));
        ASSERT_TRUE(server);
        EXPECT_EQ(local_name(server.get()), peer_name(client.get())) << "the original destination";
        EXPECT_TRUE(exchange(client.get(), server.get()));
      }
      EXPECT_FALSE(connect_to(address, 81));
      EXPECT_EQ(errno, ECONNREFUSED);
      EXPECT_FALSE(connect_to(address, 9000));
    }
    EXPECT_EQ(steered.sample("sluice_steer_assigned_total"), 12);
    EXPECT_EQ(steered.sample("sluice_steer_unclaimed_total"), 8);
  });
}

TEST(Steering, ProgramAgreesWithTheTable) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"a", "b", "c"});
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {}, 0),
                       entry(WayIn::local, {"10.9.0.0/24"}, {{443, 443}}, 1),
                       entry(WayIn::local, {"10.9.0.64/26"}, {{400, 500}}, 2)};
    Steered steered(plan);
    const auto expect = [&](const std::string& address, std::uint16_t port,
                            std::uint32_t listener) {
      Fd client = connect_to(address, port);
      ASSERT_TRUE(client) << address << " " << port;
      EXPECT_TRUE(accept_from(steered.socket(listener)))
          << address << " " << port << " not at " << listener;
    };
    expect("10.9.0.1", 1, 0);
    expect("10.9.0.1", 443, 1);
    expect("10.9.0.70", 443, 2);
    expect("10.9.0.70", 399, 0);
    expect("10.9.0.70", 501, 0);
  });
}

TEST(Steering, NobodyElsesPortIsTaken) {
  in_sandbox([] {
    add_anyip();
    shell("ip addr add 192.0.2.1/32 dev lo");
    Fd host = listen_on("192.0.2.1", 443);
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::output, {"0.0.0.0/0"}, {}, 0)};
    Steered steered(plan, prefixes({"192.0.2.1"}));
    Fd client = connect_to("192.0.2.1", 443);
    ASSERT_TRUE(client);
    EXPECT_TRUE(accept_from(host.get()));
    EXPECT_FALSE(connect_to("127.0.0.1", 444));
  });
}

TEST(Steering, NobodyComesToAListenersPortDirectly) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {}, 0)};
    Steered steered(plan);
    const std::uint16_t port = port_of(steered.socket(0));
    EXPECT_FALSE(connect_to("127.0.0.1", port));
    EXPECT_EQ(errno, ECONNREFUSED);
    EXPECT_FALSE(connect_to("::1", port));
    EXPECT_TRUE(connect_to("10.9.0.1", port)) << "a steered address has that port as well";
  });
}

TEST(Steering, FollowsTheNodesAddresses) {
  in_sandbox([] {
    shell("ip addr add 192.0.2.1/32 dev lo");
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::output, {"0.0.0.0/0"}, {}, 0)};
    Steered steered(plan);
    EXPECT_TRUE(connect_to("192.0.2.1", 443)) << "not known as the node's own: steered";
    auto changed = steered.steering->follow(NodeView{prefixes({"192.0.2.1"}), {}});
    ASSERT_TRUE(changed);
    EXPECT_TRUE(*changed);
    EXPECT_FALSE(*steered.steering->follow(NodeView{prefixes({"192.0.2.1"}), {}}));
    EXPECT_FALSE(connect_to("192.0.2.1", 443));
  });
}

TEST(Steering, SpreadsEvenlyOverWorkers) {
  in_sandbox([] {
    add_anyip();
    constexpr std::uint32_t kWorkers = 3;
    Plan plan = plan_with({"web"}, kWorkers);
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {}, 0)};
    Steered steered(plan);
    std::vector<int> taken(kWorkers);
    constexpr int kConnections = 1500;
    for (int i = 0; i < kConnections; i++) {
      Fd client =
          connect_to("10.9.0." + std::to_string(i % 250 + 1), static_cast<std::uint16_t>(1000 + i));
      ASSERT_TRUE(client);
      int accepted = 0;
      // The last ACK of the handshake may come after connect(2) has returned.
      for (int tries = 0; accepted == 0 && tries < 1000; tries++) {
        if (tries > 0) ::usleep(5000);
        for (std::uint32_t worker = 0; worker < kWorkers; worker++) {
          if (accept_from(steered.socket(0, worker), 0)) taken[worker]++, accepted++;
        }
      }
      ASSERT_EQ(accepted, 1);
    }
    // 500 each, standard deviation 18: five of them either way.
    for (const int count : taken)
      EXPECT_NEAR(count, kConnections / static_cast<int>(kWorkers), 92);
  });
}

TEST(Steering, SwapUnderLoadLosesNothing) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"web", "other"}, 2);
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {{80, 80}}, 0)};
    Steered steered(plan);
    std::atomic<bool> stop = false;
    std::atomic<int> good = 0, bad = 0;
    std::vector<int> listening{steered.socket(0, 0), steered.socket(0, 1)};
    std::thread acceptor([&] {
      while (!stop) {
        for (const int fd : listening)
          accept_from(fd, 0);
      }
    });
    std::thread connector([&] {
      while (!stop)
        (connect_to("10.9.0.5", 80) ? good : bad)++;
    });
    for (std::uint64_t generation = 2; generation < 40; generation++) {
      plan.generation = generation;
      // Another entry comes and goes, with another listener and other prefixes around the one in
      // use.
      plan.intercepts.resize(1);
      if (generation % 2 == 0)
        plan.intercepts.push_back(entry(WayIn::local, {"10.9.0.0/25", "::/0"}, {{81, 90}}, 1));
      steered.apply(plan);
      EXPECT_EQ(steered.socket(0, 0), listening[0]) << "kept sockets stay the same descriptors";
    }
    stop = true;
    connector.join();
    acceptor.join();
    EXPECT_EQ(bad, 0);
    EXPECT_GT(good, 100);
  });
}

TEST(Steering, WorkersComeAndGo) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"web"}, 4);
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {{80, 80}}, 0)};
    Steered steered(plan);
    const int first = steered.socket(0, 0);
    plan.workers = 1;
    steered.apply(plan);
    EXPECT_EQ(steered.sockets.size(), 1U);
    EXPECT_EQ(steered.socket(0, 0), first);
    for (int i = 0; i < 20; i++) {
      Fd client = connect_to("10.9.0.1", 80);
      ASSERT_TRUE(client);
      EXPECT_TRUE(accept_from(first));
    }
    EXPECT_EQ(steered.sample("sluice_steer_no_socket_total"), 0);
  });
}

TEST(Steering, SuccessorAdoptsWhatAKilledOwnerLeft) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {{80, 80}}, 0)};
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t owner = ::fork();
    if (owner == 0) {
      Steered steered(plan);
      for (int i = 0; i < 5; i++)
        connect_to("10.9.0.1", 80);
      if (::write(ready[1], "x", 1) != 1) std::_Exit(1);
      for (;;)
        ::pause();
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_FALSE(PinDirectory::open(kPinRoot)) << "one keeper per namespace";
    const auto link_of = [] {
      return shell("bpftool -j link show pinned /tmp/.sluice-test-bpf/sluice/*/*/steer_link");
    };
    const std::string before = link_of();
    ASSERT_EQ(::kill(owner, SIGKILL), 0);
    ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);
    EXPECT_FALSE(connect_to("10.9.0.1", 80)) << "nobody listens";

    Steered successor(plan);
    const auto id = [](const std::string& text) { return text.substr(0, text.find(',')); };
    EXPECT_EQ(id(link_of()), id(before)) << "the same link, never detached";
    EXPECT_TRUE(connect_to("10.9.0.1", 80));
    EXPECT_TRUE(accept_from(successor.socket(0)));
    EXPECT_EQ(successor.sample("sluice_steer_assigned_total"), 6) << "counters go on";
    successor.steering->remove();
    EXPECT_EQ(shell("ls /tmp/.sluice-test-bpf/sluice/*/*"), "");
  });
}

TEST(Steering, AnotherProgramsAssignmentIsCountedNotOverruled) {
  in_sandbox([] {
    add_anyip();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::local, {"10.9.0.0/24"}, {{80, 80}}, 0)};
    // Somebody else's program, attached before ours: a second instance under another root does.
    auto pins = PinDirectory::open("/tmp/.sluice-test-bpf/elsewhere");
    ASSERT_TRUE(pins) << pins.error().message;
    auto first = Steering::open(*pins);
    ASSERT_TRUE(first) << first.error().message;
    auto theirs = open_steered_sockets(plan);
    ASSERT_TRUE(theirs);
    ASSERT_TRUE((*first)->prepare(plan, *theirs, {}));
    ASSERT_TRUE((*first)->commit());
    Steered ours(plan);
    EXPECT_TRUE(connect_to("10.9.0.1", 80));
    EXPECT_TRUE(accept_from(theirs->front().fd->get()));
    EXPECT_EQ(ours.sample("sluice_steer_taken_total"), 1);
  });
}

}  // namespace
}  // namespace sluice::kernel
