// A keeper that follows another without a gap: the same sockets, whatever version their pins have;
// and whom interception leaves alone by itself.
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <set>
#include <sys/file.h>
#include <unistd.h>

#include "kernel/keeper.h"
#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/topology.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

Plan guarded_plan() {
  Plan plan = plan_with({"web"}, 2);
  plan.intercepts = {entry(WayIn::forward, {"10.2.0.0/16"}, {{80, 80}}, 0)};
  plan.guard.enabled = true;
  plan.guard.interfaces = {"*"};
  GuardRule rule{.name = "gone", .match = {}, .except = {}, .protocol = {}};
  rule.match.from = prefixes({"10.1.0.99"});
  plan.guard.rules.push_back(std::move(rule));
  return plan;
}

std::set<std::string> versions() {
  std::set<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kPinRoot))
    out.insert(entry.path().filename());
  return out;
}

std::unique_ptr<Keeper> follow(std::unique_ptr<Keeper> before, std::uint32_t version,
                               bool tcx = true) {
  // As over an exec: the descriptors outlive the keeper.
  KeeperHandOver left = before->hand_over();
  std::vector<Fd> kept;
  for (auto& socket : left.sockets)
    socket.fd = kept.emplace_back(::dup(socket.fd)).get();
  Fd lock(::dup(left.lock));
  left.lock = lock.get();
  before.reset();
  auto next =
      Keeper::open({.pin_root = kPinRoot, .tcx = tcx, .abi_version = version, .before = left});
  EXPECT_TRUE(next) << (next ? "" : next.error().message);
  return next ? std::move(*next) : nullptr;
}

void expect_serves(const Topology& net, const Keeper& keeper) {
  Fd client = net.connect_from_client("10.2.0.2", 80);
  ASSERT_TRUE(client);
  Fd accepted = accept_any(keeper, 0, WayIn::forward);
  ASSERT_TRUE(accepted);
  EXPECT_TRUE(exchange(client.get(), accepted.get()));
}

TEST(KeeperHandOver, TheSameVersionKeepsSocketsLockAndQueue) {
  in_sandbox([] {
    Topology net;
    auto keeper = open_keeper();
    Plan plan = guarded_plan();
    put_in_force(*keeper, plan);
    const auto port = port_of(keeper->sockets().front().fd);
    Fd queued = net.connect_from_client("10.2.0.2", 80);  // before, and not accepted yet
    ASSERT_TRUE(queued);
    keeper = follow(std::move(keeper), 0);
    ASSERT_TRUE(keeper);
    EXPECT_FALSE(Keeper::open({.pin_root = kPinRoot})) << "locked all the time";
    plan.generation = keeper->generation() + 1;
    put_in_force(*keeper, plan);
    EXPECT_EQ(port_of(keeper->sockets().front().fd), port);
    Fd accepted = accept_any(*keeper, 0, WayIn::forward);
    ASSERT_TRUE(accepted);
    EXPECT_TRUE(exchange(queued.get(), accepted.get()));
    expect_serves(net, *keeper);
  });
}

// As between containers: both live, and know the same sockets and the same lock.
std::unique_ptr<Keeper> open_beside(const Keeper& before, std::uint32_t version = 0,
                                    bool tcx = true) {
  auto next = Keeper::open({.pin_root = kPinRoot,
                            .tcx = tcx,
                            .abi_version = version,
                            .before = before.hand_over(),
                            .beside = true});
  EXPECT_TRUE(next) << (next ? "" : next.error().message);
  return next ? std::move(*next) : nullptr;
}

TEST(KeeperHandOver, OneThatHasHandedOverHoldsNothingBack) {
  in_sandbox([] {
    Topology net;
    auto first = open_keeper();
    Plan plan = guarded_plan();
    put_in_force(*first, plan);
    auto second = open_beside(*first);
    ASSERT_TRUE(second);
    ASSERT_TRUE(first->ban(prefix("10.1.0.77"), std::chrono::hours(1), "meanwhile"));
    plan.generation = second->generation() + 1;
    put_in_force(*second, plan);
    first->retire();
    EXPECT_FALSE(first->ban(prefix("10.1.0.78"), std::chrono::hours(1), "too late"));
    EXPECT_FALSE(first->unban(prefix("10.1.0.77"))) << "the table is the second one's";
    EXPECT_EQ(second->bans().size(), 1U);
    EXPECT_EQ(second->unban(prefix("10.1.0.77")).value_or(false), true);
    expect_serves(net, *second);
    EXPECT_FALSE(Keeper::open({.pin_root = kPinRoot})) << "the second one has the lock";
    const auto port = port_of(second->sockets().front().fd);
    second.reset();
    EXPECT_FALSE(connect_to("10.1.0.1", port)) << "nobody has the socket any more";
    auto third = open_keeper();
    ASSERT_TRUE(third) << "the first one has let go of the lock";
    plan.generation = third->generation() + 1;
    put_in_force(*third, plan);
    expect_serves(net, *third);
  });
}

class KeeperHandOverTo : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Guard, KeeperHandOverTo, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "ByTcx" : "ByClsact"; });

TEST_P(KeeperHandOverTo, OneWhoseSuccessorDiesResumesWhatItHad) {
  const bool tcx = GetParam();
  for (const std::uint32_t version : {0U, 99U}) {
    in_sandbox([tcx, version] {
      Topology net;
      auto opened = Keeper::open({.pin_root = kPinRoot, .tcx = tcx});
      ASSERT_TRUE(opened) << opened.error().message;
      auto first = std::move(*opened);
      Plan plan = guarded_plan();
      put_in_force(*first, plan);
      const auto port = port_of(first->sockets().front().fd);
      auto second = open_beside(*first, version, tcx);
      ASSERT_TRUE(second);
      Plan other = plan;
      other.generation = second->generation() + 1;
      other.intercepts = {entry(WayIn::forward, {"10.9.0.0/16"}, {{80, 80}}, 0)};
      other.guard.rules.clear();
      ::flock(first->hand_over().lock, LOCK_UN);
      put_in_force(*second, other);
      second.reset();
      ::flock(first->hand_over().lock, LOCK_EX | LOCK_NB);
      ASSERT_TRUE(first->prepare(plan));
      const auto committed = first->commit();
      ASSERT_TRUE(committed) << committed.error().message;
      first->tick(true);
      first->remove_other_versions();
      EXPECT_EQ(shell(std::string("ls ") + kPinRoot + " | wc -l"), "1\n");
      EXPECT_EQ(port_of(first->sockets().front().fd), port);
      expect_serves(net, *first);
      net.in_client([version] {
        shell(
            "ip addr replace 10.1.0.99/24 dev $(ip -o -4 addr show to 10.1.0.2 | awk '{print "
            "$2}')");
        EXPECT_FALSE(connect_to("10.1.0.1", 9, "10.1.0.99", 1) || errno == ECONNREFUSED)
            << "its drop rule is in force again, after version " << version;
      });
      EXPECT_TRUE(cleanup({.pin_root = kPinRoot}));
    });
  }
}

TEST_P(KeeperHandOverTo, AnotherVersionTakesBansOverAndTheOldPinsAway) {
  const bool tcx = GetParam();
  in_sandbox([tcx] {
    Topology net;
    auto opened = Keeper::open({.pin_root = kPinRoot, .tcx = tcx});
    ASSERT_TRUE(opened) << opened.error().message;
    auto keeper = std::move(*opened);
    Plan plan = guarded_plan();
    put_in_force(*keeper, plan);
    ASSERT_TRUE(keeper->ban(prefix("10.1.0.77"), std::chrono::hours(1), "by hand"));
    const auto ours = versions();
    ASSERT_EQ(ours.size(), 1U);
    for (const std::uint32_t version : {99U, 0U}) {  // to a newer one, and back
      keeper = follow(std::move(keeper), version, tcx);
      ASSERT_TRUE(keeper);
      EXPECT_EQ(versions().size(), 2U) << "new beside old";
      plan.generation++;
      put_in_force(*keeper, plan);
      EXPECT_EQ(versions(), version == 0 ? ours : std::set<std::string>{"99"});
      const auto bans = keeper->bans();
      ASSERT_EQ(bans.size(), 1U);
      EXPECT_EQ(bans[0].source, prefix("10.1.0.77"));
      EXPECT_EQ(bans[0].reason, "by hand");
      EXPECT_GT(bans[0].left, std::chrono::minutes(50));
      expect_serves(net, *keeper);
      net.in_client([] {
        shell(
            "ip addr replace 10.1.0.99/24 dev $(ip -o -4 addr show to 10.1.0.2 | awk '{print "
            "$2}')");
      });
      net.in_client([&] {
        EXPECT_FALSE(connect_to("10.1.0.1", 9, "10.1.0.99", 1) || errno == ECONNREFUSED)
            << "its drop rule is in force";
        EXPECT_TRUE(!connect_to("10.1.0.1", 9, "10.1.0.2", 1) && errno == ECONNREFUSED)
            << "and no more than that";
      });
    }
    EXPECT_TRUE(cleanup({.pin_root = kPinRoot}));
  });
}

TEST_P(KeeperHandOverTo, AnotherVersionTakesThePlaceAtTc) {
  const bool tcx = GetParam();
  if (tcx && !kernel_has_tcx()) GTEST_SKIP() << "no tcx";
  in_sandbox([tcx] {
    Topology net;
    auto opened = Keeper::open({.pin_root = kPinRoot, .tcx = tcx});
    ASSERT_TRUE(opened) << opened.error().message;
    auto keeper = std::move(*opened);
    Plan plan = guarded_plan();
    plan.intercepts[0].steering = SteerBy::tc;
    plan.intercepts[0].lease = std::chrono::milliseconds(1000);
    plan.tc_interfaces = {"tocl*"};
    put_in_force(*keeper, plan);
    for (const std::uint32_t version : {99U, 0U}) {
      keeper = follow(std::move(keeper), version, tcx);
      ASSERT_TRUE(keeper);
      plan.generation++;
      put_in_force(*keeper, plan);
      // A program that the other version had left would drop what comes without its lease.
      ::usleep(1'500'000);
      keeper->tick(true);
      expect_serves(net, *keeper);
    }
    EXPECT_TRUE(cleanup({.pin_root = kPinRoot}));
  });
}

// While they are taken over nobody renews leases: no look through all of them for each.
TEST(KeeperHandOver, ManyBansAreTakenOverAtOnce) {
  in_sandbox([] {
    constexpr std::size_t kBans = 6000;
    auto keeper = open_keeper();
    Plan plan = guarded_plan();
    plan.guard.max_bans = 10'000;
    put_in_force(*keeper, plan);
    Prefix source = prefix("198.18.0.0");
    for (std::size_t i = 0; i < kBans; ++i) {
      source.address[14] = static_cast<std::uint8_t>(i >> 8);
      source.address[15] = static_cast<std::uint8_t>(i);
      ASSERT_TRUE(keeper->ban(source, std::chrono::hours(1), "one of many"));
    }
    keeper = follow(std::move(keeper), 99);
    ASSERT_TRUE(keeper);
    plan.generation = keeper->generation() + 1;
    const auto begun = std::chrono::steady_clock::now();
    put_in_force(*keeper, plan);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(5));
    EXPECT_EQ(keeper->bans().size(), kBans);
    EXPECT_TRUE(cleanup({.pin_root = kPinRoot}));
  });
}

TEST(BuiltinProtect, ResolversGatewaysAndTheApiServerAreNotIntercepted) {
  in_sandbox([] {
    Topology net;
    shell(
        "file=$(mktemp); echo 'nameserver 10.2.0.53' >$file; "
        "mount --bind $file $(readlink -f /etc/resolv.conf); rm $file");
    net.in_origin([] {
      shell(
          "DEV=$(ip -o -4 addr show to 10.2.0.2 | awk '{print $2}'); "
          "for host in 53 1 60; do ip addr add 10.2.1.$host/32 dev $DEV; done; "
          "ip addr add 10.2.0.53/24 dev $DEV; ip addr add 10.2.0.254/24 dev $DEV");
    });
    shell("ip route add default via 10.2.0.254; ip route add 10.2.1.0/24 via 10.2.0.2");
    ::setenv("KUBERNETES_SERVICE_HOST", "10.2.1.60", 1);
    ::setenv("KUBERNETES_SERVICE_PORT", "6443", 1);
    auto keeper = open_keeper();
    Plan plan = plan_with({"web"});
    plan.intercepts = {entry(WayIn::forward, {"0.0.0.0/0"}, {{1, 65535}}, 0),
                       entry(WayIn::output, {"0.0.0.0/0"}, {{1, 65535}}, 0)};
    put_in_force(*keeper, plan);
    struct Case {
      const char* address;
      std::uint16_t port;
      bool caught;
      const char* what;
    };
    for (const auto& [address, port, caught, what] :
         {Case{"10.2.0.53", 53, false, "the resolver"},
          Case{"10.2.0.53", 853, false, "the resolver, over TLS"},
          Case{"10.2.0.53", 80, true, "another port of the resolver"},
          Case{"10.2.0.254", 80, false, "the default gateway"},
          Case{"10.2.1.60", 6443, false, "the API server"},
          Case{"10.2.1.60", 80, true, "another port of the API server"},
          Case{"10.2.0.2", 80, true, "an origin like any other"}}) {
      Fd straight = net.listen_at_origin(address, port);
      for (const bool forwarded : {true, false}) {
        Fd client = forwarded ? net.connect_from_client(address, port) : connect_to(address, port);
        ASSERT_TRUE(client) << what;
        const WayIn way = forwarded ? WayIn::forward : WayIn::output;
        Fd accepted = caught ? accept_any(*keeper, 0, way) : accept_from(straight.get());
        EXPECT_TRUE(accepted) << what << (forwarded ? ", forwarded" : ", from the node");
      }
    }
  });
}

}  // namespace
}  // namespace sluice::kernel
