// Rates for `sluice top`, from one reading of the monitor after another.
#include "gateway/main/top_rates.h"

#include <gmock/gmock.h>

#include "gateway/main/kernel_plan.h"
#include "policy/document.h"

namespace sluice::control {
namespace {

using namespace std::chrono_literals;
using kernel::Seen;
using kernel::SeenBy;

const TopRates::Clock::time_point kStart{1h};

policy::Config config() {
  const policy::PolicyFile file{
      "p.yaml",
      "version: 1\nlisteners: { web: {}, api: { bind: \"0.0.0.0:8080\" } }\n"
      "intercept: { local: [{ to: [203.0.113.0/24], ports: [80-90], listener: web,\n"
      "                       except: { to: [203.0.113.9] } }] }\n"};
  const auto parsed = policy::parse({&file, 1});
  EXPECT_TRUE(parsed.config);
  return parsed.config.value_or(policy::Config{});
}

Seen seen(const char* address, std::uint16_t port, std::uint64_t packets,
          std::uint64_t requests = 0) {
  Seen out;
  out.address = to_kernel(*policy::Prefix::parse(address));
  out.port = port;
  out.packets = packets;
  out.bytes = packets * 100;
  out.requests = requests;
  return out;
}

TEST(TopRates, AreDifferencesPerSecond) {
  TopRates rates;
  const auto policy = config();
  EXPECT_TRUE(rates.update({seen("203.0.113.1", 80, 1000)}, SeenBy::service, policy, kStart).empty())
      << "one reading is no rate";
  const auto rows = rates.update(
      {seen("203.0.113.1", 80, 1600, 30), seen("203.0.113.9", 80, 10), seen("10.0.0.1", 8080, 4)},
      SeenBy::service, policy, kStart + 2s);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].name, "203.0.113.1:80");
  EXPECT_EQ(rows[0].listener, "web");
  EXPECT_DOUBLE_EQ(rows[0].packets, 300);
  EXPECT_DOUBLE_EQ(rows[0].bytes, 30000);
  EXPECT_DOUBLE_EQ(rows[0].requests, 15);
  EXPECT_EQ(rows[1].listener, "") << "excepted";
  EXPECT_DOUBLE_EQ(rows[1].packets, 5) << "new since the last reading";
  EXPECT_EQ(rows[2].listener, "api");
  // Nothing came to it: no row. Forgotten and made again: from 0.
  const auto next =
      rates.update({seen("203.0.113.1", 80, 1600, 30), seen("203.0.113.9", 80, 7)},
                   SeenBy::service, policy, kStart + 3s);
  ASSERT_EQ(next.size(), 1U);
  EXPECT_DOUBLE_EQ(next[0].packets, 7);
}

TEST(TopRates, SourcesAreAddressesOrNetworks) {
  TopRates rates;
  const auto policy = config();
  (void)rates.update({}, SeenBy::source, policy, kStart);
  const auto rows = rates.update({seen("198.51.100.7", 0, 1), seen("2001:db8::/64", 0, 1)},
                                 SeenBy::source, policy, kStart + 1s);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_THAT((std::vector{rows[0].name, rows[1].name}),
              testing::UnorderedElementsAre("198.51.100.7", "2001:db8::/64"));
}

TEST(TopRates, TheLargestOfEveryColumnAreKept) {
  std::vector<TopRow> rows;
  for (int i = 0; i < 100; ++i) {
    TopRow& row = rows.emplace_back();
    row.name = std::to_string(i);
    row.packets = i;
    row.bytes = 100 - i;
    row.resets = i == 50 ? 1 : 0;
  }
  const auto top = top_of(rows, 2);
  std::vector<std::string> names;
  for (const TopRow& row : top)
    names.push_back(row.name);
  EXPECT_THAT(names, testing::ElementsAre("99", "98", "50", "1", "0"));
}

}  // namespace
}  // namespace sluice::control
