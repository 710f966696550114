// Kinds of limits beside the plain rate: cost, delay, concurrency, parts of keys; and what the
// policy's checks say of them.
#include <gmock/gmock.h>
#include <random>
#include <thread>

#include "parsing.h"
#include "policy/limits.h"
#include "policy/pod_owners.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kSecond = 1'000'000'000;

Limit limit_of(std::uint64_t count, std::uint64_t burst) {
  Limit limit;
  limit.name = "a";
  limit.rate_count = count;
  limit.burst = burst;
  return limit;
}

TEST(Gcra, ACostIsSoManyRequests) {
  LimitTable table(GcraParameters::of(limit_of(10, 10)), 64);
  EXPECT_EQ(table.admit({1, 0}, kSecond, 7).remaining, 3u);
  const LimitVerdict refused = table.admit({1, 0}, kSecond, 5);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after_ns, 2 * kSecond / 10);
  EXPECT_TRUE(table.admit({1, 0}, kSecond, 3).allowed);
  EXPECT_FALSE(table.admit({1, 0}, kSecond, 1).allowed);
}

TEST(Gcra, PeekChangesNothing) {
  LimitTable table(GcraParameters::of(limit_of(10, 1)), 64);
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(table.peek({1, 0}, kSecond).allowed);
  EXPECT_TRUE(table.admit({1, 0}, kSecond).allowed);
  const LimitVerdict refused = table.peek({1, 0}, kSecond);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after_ns, kSecond / 10);
}

// What is let in after its wait keeps the rate, whatever comes in between.
TEST(Gcra, DelaysUpToABoundAndKeepsTheRate) {
  Limit limit = limit_of(100, 5);
  limit.action = LimitAction::delay;
  limit.max_delay = 200ms;
  LimitTable table(GcraParameters::of(limit), 64);
  std::mt19937_64 random(3);
  std::vector<std::uint64_t> let_in;
  std::uint64_t now = kSecond;
  std::uint64_t refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    now += random() % 8'000'000;
    const LimitVerdict verdict = table.admit({1, 0}, now);
    ASSERT_LE(verdict.delay_ns, 200'000'000u);
    if (verdict.allowed) let_in.push_back(now + verdict.delay_ns);
    refused += verdict.allowed ? 0 : 1;
  }
  EXPECT_GT(refused, 1000u);
  std::ranges::sort(let_in);
  for (std::size_t i = 0; i < let_in.size(); ++i) {
    for (std::size_t j = i; j < std::min(let_in.size(), i + 200); ++j) {
      const double window = static_cast<double>(let_in[j] - let_in[i]) / 1e9;
      ASSERT_LE(static_cast<double>(j - i + 1), 5 + window * 100 + 1e-6);
    }
  }
}

TEST(ConcurrencyTable, NeverMoreThanMaxAndGivesBack) {
  auto table = std::make_shared<ConcurrencyTable>(64);
  std::vector<ConcurrencyLease> held;
  for (int i = 0; i < 3; ++i) {
    auto* count = table->acquire({5, 0}, 3);
    ASSERT_NE(count, nullptr);
    held.emplace_back(table, count);
  }
  EXPECT_EQ(table->acquire({5, 0}, 3), nullptr);
  EXPECT_EQ(table->stats().live, 1u);
  auto* other = table->acquire({6, 0}, 1);
  ASSERT_NE(other, nullptr);
  ConcurrencyLease(table, other);
  held.pop_back();
  EXPECT_NE(table->acquire({5, 0}, 3), nullptr);
}

TEST(ConcurrencyTable, AFloodOfKeysSharesTheOverflow) {
  ConcurrencyTable table(64);
  std::mt19937_64 random(1);
  std::uint64_t flood = 0;
  for (int i = 0; i < 10'000; ++i)
    flood += table.acquire({random(), 7}, 2) != nullptr ? 1 : 0;
  EXPECT_LE(flood, table.stats().entries + 2);
  EXPECT_NE(table.acquire({random(), 8}, 2), nullptr);  // another network
}

// Threads take and give back the same few keys; a count of its own beside each place says whether
// the bound was ever passed.
TEST(ConcurrencyTable, HoldsForManyThreads) {
  constexpr std::uint32_t kMax = 3;
  constexpr std::uint64_t kKeys = 40;
  auto table = std::make_shared<ConcurrencyTable>(28);
  std::array<std::atomic<std::uint32_t>, kKeys> inside{};
  std::atomic<int> passed{0};
  std::atomic<std::uint64_t> taken{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<std::uint64_t>(t));
      for (int i = 0; i < 20'000; ++i) {
        const std::uint64_t key = random() % kKeys;
        auto* count = table->acquire({(key + 1) * 0x9e3779b97f4a7c15, key}, kMax);
        if (count == nullptr) continue;
        const ConcurrencyLease lease(table, count);
        if (inside[key].fetch_add(1) >= kMax + kMax) passed = 1;  // its own place and the overflow
        ++taken;
        if (i % 64 == 0) std::this_thread::yield();
        inside[key].fetch_sub(1);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(passed, 0);
  EXPECT_GT(taken, 1000u);
  EXPECT_EQ(table->stats().live, 0u);
}

std::vector<std::string> problems_of(const std::string& limits, const std::string& more = "",
                                     const std::string& listener = "") {
  return shown(parse_text("version: 1\nlisteners: { web: { " + listener +
                          " } }\nupstreams: { api: { endpoints: "
                          "[\"192.0.2.77:80\"] } }\nlimits: { " +
                          limits + " }\n" + more)
                   .diagnostics);
}

class Fields final : public FieldSource {
 public:
  explicit Fields(std::string value) : value_(std::move(value)) {}
  std::optional<std::string_view> field(std::string_view name) const override {
    if (name != "x-api-key") return std::nullopt;
    return value_;
  }

 private:
  std::string value_;
};

std::uint64_t key_of(const std::vector<LimitKeyPart>& parts, const RequestView& request,
                     std::uint64_t route = 1) {
  Limit limit = limit_of(1, 1);
  limit.key = parts;
  return LimitKeyHasher(limit, HashKey{1, 2}).of(request, route).own;
}

TEST(LimitKey, EachPartCountsApart) {
  const Fields alice("alice");
  const Fields bob("bob");
  RequestView request;
  request.client = *IpAddress::parse("192.0.2.1");
  request.destination = SocketAddress::parse("203.0.113.1:80");
  request.method = "GET";
  request.host = "a.example";
  request.fields = &alice;
  const std::vector<LimitKeyPart> all{LimitKey::client_ip,   LimitKey::route,
                                      LimitKey::method,      LimitKey::host,
                                      LimitKey::destination, {LimitKey::header, "x-api-key"}};
  const std::uint64_t before = key_of(all, request);
  EXPECT_EQ(key_of({all.rbegin(), all.rend()}, request), before);  // no order
  const auto differs = [&](auto change) {
    RequestView changed = request;
    change(changed);
    return key_of(all, changed) != before;
  };
  EXPECT_TRUE(differs([](RequestView& r) { r.client = *IpAddress::parse("192.0.2.2"); }));
  EXPECT_TRUE(differs([](RequestView& r) { r.method = "HEAD"; }));
  EXPECT_TRUE(differs([](RequestView& r) { r.host = "b.example"; }));
  EXPECT_TRUE(differs([](RequestView& r) { r.destination->port = 81; }));
  EXPECT_TRUE(differs([](RequestView& r) { r.destination.reset(); }));
  EXPECT_TRUE(differs([&](RequestView& r) { r.fields = &bob; }));
  EXPECT_TRUE(differs([](RequestView& r) { r.fields = nullptr; }));
  EXPECT_NE(key_of(all, request, 2), before);
  EXPECT_FALSE(differs([](RequestView& r) { r.path = "/other"; }));
}

TEST(LimitKey, AnAddressCountsForThePodThatHasIt) {
  const auto key = [](const char* pods, const char* client, std::uint8_t ipv4_prefix = 32) {
    Limit limit = limit_of(1, 1);
    limit.ipv4_prefix = ipv4_prefix;
    const PodSelector batch{.name_space = "shop", .labels = {{"tier", "batch"}}};
    limit.pods = std::make_shared<PodOwners>(parse_pods(pods), std::span(&batch, 1));
    RequestView request;
    request.client = *IpAddress::parse(client);
    return LimitKeyHasher(limit, HashKey{1, 2}).of(request, 1).own;
  };
  const char* first = "shop/one 10.1.0.7,2001:db8::7 tier=batch";
  const char* next = "shop/two 10.1.0.7,2001:db8::7 tier=batch";
  EXPECT_NE(key(first, "10.1.0.7"), key(next, "10.1.0.7"));
  EXPECT_NE(key(first, "10.1.0.7"), key("", "10.1.0.7"));
  EXPECT_EQ(key(first, "10.1.0.7"), key("shop/one 10.1.0.7 app=x,tier=batch", "10.1.0.7"));
  EXPECT_EQ(key(first, "10.1.0.8"), key(next, "10.1.0.8")) << "an address of no pod";
  EXPECT_EQ(key("shop/one 10.1.0.7 tier=web", "10.1.0.7"), key("", "10.1.0.7")) << "not named";
  EXPECT_EQ(key(first, "10.1.0.7", 24), key(next, "10.1.0.9", 24)) << "a network is whoever is in it";
  EXPECT_EQ(key(first, "2001:db8::7"), key(next, "2001:db8::8")) << "a /64 unless said otherwise";
}

class Claims final : public AttributeSource {
 public:
  std::optional<std::string_view> attribute(std::string_view name) const override {
    if (name == "sub") return "alice";
    return std::nullopt;
  }
  bool has(std::string_view /*name*/, std::string_view /*element*/) const override { return false; }
};

TEST(LimitKey, ByTheFirstNameOfACertificate) {
  RequestView request;
  const std::uint64_t nobody = key_of({{LimitKey::identity, ""}}, request);
  const std::string_view names[] = {"a.example", "spiffe://example.org/a"};
  const std::string_view others[] = {"b.example", "spiffe://example.org/a"};
  const ClientIdentity a{names};
  const ClientIdentity b{others};
  request.identity = &a;
  const std::uint64_t key = key_of({{LimitKey::identity, ""}}, request);
  EXPECT_NE(key, nobody);
  request.identity = &b;
  EXPECT_NE(key_of({{LimitKey::identity, ""}}, request), key);
}

TEST(LimitKey, ByAClaimOfTheCaller) {
  const Claims alice;
  RequestView request;
  const std::uint64_t nobody = key_of({{LimitKey::claim, "sub"}}, request);
  request.attributes = &alice;
  EXPECT_NE(key_of({{LimitKey::claim, "sub"}}, request), nobody);
  EXPECT_EQ(key_of({{LimitKey::claim, "tenant"}}, request),
            key_of({{LimitKey::claim, "sub"}}, RequestView{}));
  EXPECT_THAT(problems_of("a: { rate: 1/s, key: [{ claim: sub }] }",
                          "routes: [{ upstream: api, limits: [a] }]\n"),
              ElementsAre(HasSubstr("counts by a claim")));
}

TEST(LimitKey, AnAbsentFieldIsNotAnEmptyOne) {
  const Fields empty("");
  RequestView request;
  const std::uint64_t absent = key_of({{LimitKey::header, "x-api-key"}}, request);
  request.fields = &empty;
  EXPECT_NE(key_of({{LimitKey::header, "x-api-key"}}, request), absent);
  EXPECT_EQ(key_of({{LimitKey::header, "x-other"}}, request), absent);
}

TEST(LimitKey, ANetworkOfIpv4IsOneClientWhereAskedFor) {
  Limit limit = limit_of(1, 1);
  limit.ipv4_prefix = 24;
  const LimitKeyHasher hasher(limit, HashKey{1, 2});
  RequestView a;
  RequestView b;
  a.client = *IpAddress::parse("192.0.2.1");
  b.client = *IpAddress::parse("192.0.2.200");
  EXPECT_EQ(hasher.of(a, 0).own, hasher.of(b, 0).own);
  b.client = *IpAddress::parse("192.0.3.1");
  EXPECT_NE(hasher.of(a, 0).own, hasher.of(b, 0).own);
}

TEST(LimitChecks, SayWhatIsMissingOrMeaningless) {
  EXPECT_THAT(problems_of("a: { unit: concurrency }"), ElementsAre(HasSubstr("needs `max`")));
  EXPECT_THAT(problems_of("a: { unit: concurrency, max: 3 }"), IsEmpty());
  EXPECT_THAT(problems_of("a: { rate: 1/s, unit: concurrency, max: 3 }").size(), 1);
  EXPECT_THAT(problems_of("a: { max: 3 }"),
              testing::Contains(HasSubstr("which only unit concurrency has")));
  EXPECT_THAT(problems_of("a: { unit: concurrency, max: 3, action: delay }"),
              ElementsAre(HasSubstr("cannot delay")));
  EXPECT_THAT(problems_of("a: { rate: 1/s, scope: cluster }"),
              ElementsAre(HasSubstr("needs `cluster.redis`")));
  EXPECT_THAT(problems_of("a: { rate: 1/s, key: [route, route] }"),
              ElementsAre(HasSubstr("names a part of its key twice")));
  EXPECT_THAT(problems_of("a: { rate: 1/s, key: [] }"), ElementsAre(HasSubstr("empty key")));
  EXPECT_THAT(
      problems_of("a: { rate: 1/s }", "cluster: { redis: { url: \"redis://redis\" } }\n"),
      ElementsAre(HasSubstr("redis://host:port")));
}

TEST(LimitChecks, HoldLimitsToTheirPlace) {
  const std::string limits = "a: { rate: 1/s }, c: { unit: connections, rate: 1/s }";
  EXPECT_THAT(problems_of(limits, "routes: [{ upstream: api, limits: [c] }]\n"),
              ElementsAre(HasSubstr("counts new connections")));
  EXPECT_THAT(problems_of(limits, "", "limits: [a, c]"), ElementsAre(HasSubstr("counts requests")));
  EXPECT_THAT(problems_of("c: { unit: connections, rate: 1/s, key: [host] }", "", "limits: [c]"),
              ElementsAre(HasSubstr("not known when a connection comes")));
  EXPECT_THAT(problems_of(limits, "routes: [{ upstream: api, limits: [{ name: a, cost: 2 }] }]\n"),
              ElementsAre(HasSubstr("more than it ever has")));
}

TEST(LimitChecks, TellOfLimitsThatNeverDecide) {
  const std::string limits =
      "a: { rate: 10/s, burst: 10 }, b: { rate: 20/s, burst: 10 }, c: { rate: 20/s, key: [route] }";
  EXPECT_THAT(problems_of(limits, "routes: [{ upstream: api, limits: [a, b] }]\n"),
              ElementsAre(HasSubstr("`a` always forestalls")));
  EXPECT_THAT(problems_of(limits, "routes: [{ upstream: api, limits: [b, a] }]\n"),
              ElementsAre(HasSubstr("`b` never decides")));
  EXPECT_THAT(problems_of(limits, "routes: [{ upstream: api, limits: [a, c] }]\n"), IsEmpty());
  EXPECT_THAT(problems_of(limits, "routes: [{ upstream: api, limits: [a, a] }]\n"),
              ElementsAre(HasSubstr("twice")));
}

// In whole seconds it is a second more as soon as it is a nanosecond too long.
TEST(ConcurrencyTable, AsManyKeysAsThereShouldBeFindAPlace) {
  ConcurrencyTable table(65'536);
  std::mt19937_64 random(5);
  for (int i = 0; i < 65'536; ++i)
    EXPECT_NE(table.acquire({random(), random()}, 1), nullptr);
  EXPECT_EQ(table.stats().overflow, 0u);
}

TEST(LimitStore, AWindowIsExactWhereTheRateDividesNoSecond) {
  const auto window = [](std::uint64_t count, Duration period, std::uint64_t burst,
                         LimitScope scope) {
    Limit limit = limit_of(count, burst);
    limit.rate_period = period;
    limit.scope = scope;
    RedisConfig redis;
    return LimitStore(HashKey{1, 2}).resolve({limit}, redis)[0].window_ns();
  };
  for (const LimitScope scope : {LimitScope::per_node, LimitScope::cluster}) {
    EXPECT_EQ(window(300, 1s, 300, scope), kSecond);
    EXPECT_EQ(window(3, 1s, 0, scope), kSecond);
    EXPECT_EQ(window(7, 1min, 7, scope), 60 * kSecond);
    EXPECT_EQ(window(7, 1min, 21, scope), 180 * kSecond);
    EXPECT_EQ(window(300, 1s, 100, scope), kSecond / 3);
    EXPECT_EQ(window(7, 24h, 4'000'000'000 / 7 * 7, scope), 4'000'000'000 / 7 * 86400 * kSecond);
  }
}

TEST(LimitStore, AConcurrencyLimitGoesOnWithAnotherMax) {
  Limit limit = limit_of(0, 0);
  limit.unit = LimitUnit::concurrency;
  limit.max = 1;
  LimitStore store(HashKey{1, 2});
  const LimitHandle before = store.resolve({limit})[0];
  const LimitKeys keys{7, 7};
  const auto held = before.acquire(keys);
  ASSERT_TRUE(held);
  EXPECT_FALSE(before.acquire(keys));
  limit.max = 2;
  const LimitHandle after = store.resolve({limit})[0];
  const auto second = after.acquire(keys);
  EXPECT_TRUE(second);
  EXPECT_FALSE(after.acquire(keys));
}

}  // namespace
}  // namespace sluice::policy
