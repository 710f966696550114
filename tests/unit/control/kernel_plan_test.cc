// What main/ computes without a kernel: the plan, bans that a gateway may ask for, workers,
// arguments.
#include "gateway/main/kernel_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/main/arguments.h"
#include "gateway/main/ban_bridge.h"
#include "gateway/main/machine_limits.h"
#include "gateway/main/named_upstreams.h"
#include "tests/unit/control/scratch_directory.h"

namespace sluice::control {
namespace {

using namespace std::chrono_literals;

policy::Prefix prefix(std::string_view text) {
  return *policy::Prefix::parse(text);
}

TEST(KernelPlan, PrefixesBecomeSixteenBytesAndComeBack) {
  const kernel::Prefix v4 = to_kernel(prefix("10.0.0.0/8"));
  EXPECT_TRUE(v4.v4);
  EXPECT_EQ(v4.length, 104);
  EXPECT_EQ(v4.address[10], 0xff);
  EXPECT_EQ(v4.address[12], 10);
  EXPECT_EQ(to_kernel(prefix("0.0.0.0/0")).length, 96);
  const kernel::Prefix v6 = to_kernel(prefix("2001:db8::/32"));
  EXPECT_FALSE(v6.v4);
  EXPECT_EQ(v6.length, 32);
  EXPECT_EQ(to_kernel(prefix("::/0")).length, 0);
  for (const char* text :
       {"10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "::1/128"})
    EXPECT_EQ(from_kernel(to_kernel(prefix(text))), prefix(text)) << text;
}

TEST(NamedPeers, AreWhereTheGatewayFoundThem) {
  policy::Config config;
  config.redis.emplace().name = "redis.internal";
  config.upstreams.emplace_back().name = "plain";
  config.upstreams.back().endpoints.emplace_back().address =
      *policy::SocketAddress::parse("192.0.2.1:80");
  constexpr std::string_view kStatus = R"({
    "upstreams": [{"name": "plain", "endpoints": [{"address": "192.0.2.1:80"}]},
                  {"name": "made up", "endpoints": [{"address": "192.0.2.2:80"}]}],
    "redis": [{"host": "redis.internal", "connected": true, "address": "192.0.2.6:6379"},
              {"host": "redis.internal", "connected": false}]})";
  EXPECT_TRUE(has_named_peers(config));
  const auto hosts = hosts_of_named_peers(config, kStatus);
  ASSERT_EQ(hosts.size(), 1U);
  EXPECT_EQ(from_kernel(hosts[0]), prefix("192.0.2.6/32"));
  EXPECT_TRUE(hosts_of_named_peers(config, R"({"redis": [{"address": 6}, 7, {}]})").empty());
  EXPECT_TRUE(hosts_of_named_peers(config, "no JSON").empty());
  config.redis->name.clear();  // its address is in the plan
  EXPECT_FALSE(has_named_peers(config));
  EXPECT_TRUE(hosts_of_named_peers(config, kStatus).empty());
}

policy::Config sample_config() {
  policy::Config config;
  config.listeners.emplace_back().name = "web";
  config.listeners[0].bind = policy::SocketAddress::parse("127.0.0.1:80");
  config.listeners.emplace_back().name = "llm";
  policy::Intercept rule;
  rule.to = {prefix("192.0.2.0/24")};
  rule.ports = {{.first = 443, .last = 443}};
  rule.listener = "llm";
  rule.on_exit = policy::OnExit::bypass;
  rule.lease = 5s;
  config.intercept.forward.push_back(rule);
  policy::Upstream upstream;
  upstream.name = "api";
  for (const char* address : {"192.0.2.10:8080", "192.0.2.10:8081", "[2001:db8::1]:80"})
    upstream.endpoints.push_back(
        {.address = *policy::SocketAddress::parse(address), .weight = 1, .where = {}});
  config.upstreams.push_back(upstream);
  config.protect.from.push_back(
      {.cidr = prefix("10.9.0.0/24"), .to_ports = {{22, 22}}, .interfaces = {"eth0"}, .where = {}});
  return config;
}

TEST(KernelPlan, SaysWhatThePolicySays) {
  const kernel::Plan plan = make_kernel_plan(sample_config(), 7, 3);
  EXPECT_EQ(plan.generation, 7U);
  EXPECT_EQ(plan.workers, 3U);
  ASSERT_EQ(plan.listeners.size(), 2U);
  EXPECT_EQ(plan.listeners[0].bind_port, 80);
  EXPECT_EQ(plan.listeners[0].bind_address->length, 128);
  EXPECT_FALSE(plan.listeners[1].bind_address);
  ASSERT_EQ(plan.intercepts.size(), 1U);
  EXPECT_EQ(plan.intercepts[0].way, kernel::WayIn::forward);
  EXPECT_EQ(plan.intercepts[0].listener, 1U);
  EXPECT_EQ(plan.intercepts[0].on_exit, kernel::OnExit::bypass);
  EXPECT_EQ(plan.intercepts[0].lease, 5000ms);
  EXPECT_FALSE(plan.guard.enabled);
}

TEST(KernelPlan, ProtectsTheOperatorsAndEachUpstreamOnce) {
  const kernel::Plan plan = make_kernel_plan(sample_config(), 1, 1);
  ASSERT_EQ(plan.protect.size(), 3U);
  EXPECT_FALSE(plan.protect[0].upstream);
  EXPECT_THAT(plan.protect[0].interfaces, testing::ElementsAre("eth0"));
  EXPECT_TRUE(plan.protect[1].upstream);
  EXPECT_EQ(from_kernel(plan.protect[1].peer), prefix("192.0.2.10"));
  EXPECT_EQ(from_kernel(plan.protect[2].peer), prefix("2001:db8::1"));
}

TEST(KernelPlan, BansAloneNeedTheGuard) {
  policy::Config config;
  config.bans.rules.push_back({});
  config.bans.max = 500;
  const kernel::Plan plan = make_kernel_plan(config, 1, 1);
  EXPECT_TRUE(plan.guard.enabled);
  EXPECT_EQ(plan.guard.max_bans, 500U);
  EXPECT_EQ(own_mark(config), 0x200000U) << "a reload may add the first intercept rule";
  EXPECT_EQ(own_mark(sample_config()), 0x200000U);
}

kernel::protocol::Ban ban_of(std::string_view text, std::uint32_t seconds = 60) {
  return {.source = to_kernel(prefix(text)), .seconds = seconds, .reason = "limit"};
}

TEST(BanBridge, AdmitsNarrowBansOnly) {
  BanBridge bridge;
  const auto now = BanBridge::Clock::now();
  EXPECT_TRUE(bridge.admit(ban_of("192.0.2.1"), now));
  EXPECT_FALSE(bridge.admit(ban_of("192.0.2.0/31"), now)) << "policies ban hosts";
  EXPECT_TRUE(bridge.admit(ban_of("2001:db8::/64"), now));
  EXPECT_FALSE(bridge.admit(ban_of("192.0.0.0/16"), now));
  EXPECT_FALSE(bridge.admit(ban_of("0.0.0.0/0"), now));
  EXPECT_FALSE(bridge.admit(ban_of("2001:db8::/32"), now));
  EXPECT_FALSE(bridge.admit(ban_of("192.0.2.1", 0), now));
}

TEST(BanBridge, RefusesPrefixesThatLie) {
  BanBridge bridge;
  const auto now = BanBridge::Clock::now();
  auto request = ban_of("2001:db8::/64");
  request.source.address[15] = 1;  // a host bit
  EXPECT_FALSE(bridge.admit(request, now));
  request = ban_of("192.0.2.1");
  request.source.v4 = false;
  EXPECT_FALSE(bridge.admit(request, now));
}

TEST(BanBridge, LeavesOperatorsRoomForPrefixesOfOtherLengths) {
  BanBridge bridge;
  auto now = BanBridge::Clock::now();
  for (const char* source : {"2001:db8::/48", "2001:db8::/56", "2001:db8::/64", "2001:db8::1"})
    EXPECT_TRUE(bridge.admit(ban_of(source, 60), now)) << source;
  EXPECT_FALSE(bridge.admit(ban_of("2001:db8::/60", 60), now));
  EXPECT_TRUE(bridge.admit(ban_of("2001:db8:1::/64", 120), now)) << "one of those";
  now += 61s;
  EXPECT_TRUE(bridge.admit(ban_of("2001:db8::/60", 60), now));
}

TEST(BanBridge, CapsTheRateTheDurationAndTheReason) {
  BanBridge bridge;
  auto now = BanBridge::Clock::now();
  auto request = ban_of("192.0.2.1", UINT32_MAX);
  request.reason = "a\nb" + std::string(1000, 'x');
  const auto admitted = bridge.admit(request, now);
  ASSERT_TRUE(admitted);
  EXPECT_EQ(admitted->seconds, BanBridge::kMaxSeconds);
  EXPECT_EQ(admitted->reason.size(), BanBridge::kMaxReason);
  EXPECT_EQ(admitted->reason.substr(0, 3), "a?b");
  for (int i = 1; i < static_cast<int>(BanBridge::kBurst); ++i)
    ASSERT_TRUE(bridge.admit(request, now)) << i;
  EXPECT_FALSE(bridge.admit(request, now));
  now += 1s;
  EXPECT_TRUE(bridge.admit(request, now));
}

TEST(MachineLimits, ReadsTheQuotaOfBothCgroupVersions) {
  const ScratchDirectory v2;
  v2.write("proc/self/cgroup", "0::/a/b\n");
  v2.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  v2.write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(v2.path() + "/"), 1.5);

  const ScratchDirectory v1;
  v1.write("proc/self/cgroup", "9:name=systemd:/x\n1:cpu,cpuacct:/docker/1\n0::/\n");
  v1.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us",
           "200000\n");  // inside the container: the mount's root
  v1.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_quota(v1.path() + "/"), 2.0);

  const ScratchDirectory none;
  none.write("proc/self/cgroup", "1:cpu:/\n");
  none.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  none.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(cgroup_cpu_quota(none.path() + "/"));
}

TEST(MachineLimits, WorkersStayInBounds) {
  EXPECT_EQ(worker_count(5), 5U);
  EXPECT_EQ(worker_count(1000), kMaxWorkers);
  EXPECT_GE(worker_count(0), 1U);
}

TEST(CommandArguments, AreReadAndRefused) {
  static constexpr OptionSpec kSpecs[] = {{"for", "TIME", ""}, {"force", "", ""}};
  const auto parse = [](std::vector<std::string_view> words) {
    return Arguments::parse(words, kSpecs);
  };
  const auto good = parse({"a", "--for", "10s", "--force", "--", "--for"});
  ASSERT_TRUE(good);
  EXPECT_EQ(good->get("for"), "10s");
  EXPECT_TRUE(good->has("force"));
  EXPECT_THAT(good->words(), testing::ElementsAre("a", "--for"));
  EXPECT_EQ(parse({"--for=1h"})->get("for"), "1h");
  EXPECT_FALSE(parse({"--for"}));
  EXPECT_FALSE(parse({"--force=1"}));
  EXPECT_FALSE(parse({"--fro", "1"}));
  EXPECT_FALSE(parse({"-x"}));
}

TEST(CommandArguments, DurationsHaveUnits) {
  EXPECT_EQ(parse_seconds("10s"), 10);
  EXPECT_EQ(parse_seconds("10m"), 600);
  EXPECT_EQ(parse_seconds("2h"), 7200);
  EXPECT_EQ(parse_seconds("1d"), 86400);
  for (const char* bad :
       {"", "10", "-1s", "0s", "500ms", "1.5h", "10 s", "s", "9999999999999999999s"})
    EXPECT_FALSE(parse_seconds(bad)) << bad;
}

}  // namespace
}  // namespace sluice::control
