#include "gateway/ai/proxy/virtual_keys.h"

#include <atomic>
#include <gmock/gmock.h>
#include <thread>

#include "gateway/ai/proxy/key_state.h"
#include "gateway/ai/proxy/key_store.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kNow = 1'000'000 * kSecond;

VirtualKey full() {
  VirtualKey key;
  key.id = "k1";
  key.name = "alice";
  key.owner = "Alice \"A\" Ä";
  key.team = "search";
  key.sha256 = hash_of_key("secret");
  key.models = {"gpt-5", "claude-*"};
  key.created = 1;
  key.expires = 2;
  key.requests_per_minute = 3;
  key.tokens_per_minute = 4;
  key.tokens_per_day = 5;
  key.budget = 6;
  key.period = policy::AiPeriod::week;
  return key;
}

TEST(VirtualKeys, SurviveTheFile) {
  const std::string text = write_keys({full()});
  EXPECT_THAT(text, ::testing::Not(::testing::HasSubstr("secret")));
  const auto keys = parse_keys(text);
  ASSERT_TRUE(keys);
  EXPECT_EQ(write_keys(*keys), text);
  EXPECT_EQ(keys->front().sha256, full().sha256);
  EXPECT_TRUE(parse_keys("")->empty());
  for (const std::string_view bad : {"{", "[]", "{\"version\":1}", "{\"version\":2,\"keys\":[]}",
                                     "{\"version\":1,\"keys\":[{\"id\":\"a\",\"sha256\":\"00\"}]}"})
    EXPECT_FALSE(parse_keys(bad)) << bad;
}

TEST(VirtualKeys, AreForTheirModels) {
  EXPECT_TRUE(full().may_use("gpt-5"));
  EXPECT_TRUE(full().may_use("claude-x"));
  EXPECT_FALSE(full().may_use("gpt-5-mini"));
  EXPECT_TRUE(VirtualKey{}.may_use("anything"));
}

TEST(KeyStore, FindsByWhatIsShownAndKeepsWhatWasUsed) {
  KeyStates states;
  const KeyStore first({full()}, states);
  ASSERT_NE(first.find("secret"), nullptr);
  EXPECT_EQ(first.find("other"), nullptr);
  const auto state = first.find("secret")->state;
  const KeyStore second({full()}, states);
  EXPECT_EQ(second.find("secret")->state, state);
  const KeyStore none({}, states);
  EXPECT_TRUE(states.empty());
}

TEST(KeyState, WhatOneLimitRefusesUsesUpNoOther) {
  VirtualKey key;
  key.requests_per_minute = 2;
  key.tokens_per_minute = 100;
  KeyState state;
  EXPECT_FALSE(state.admit(key, 60, kNow));
  const auto refused = state.admit(key, 60, kNow);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->limit, "tokens per minute");
  EXPECT_EQ(refused->retry_after_ns, 12 * kSecond);
  EXPECT_EQ(state.requests(key, kNow).remaining, 1U);
  EXPECT_FALSE(state.admit(key, 40, kNow));
  EXPECT_EQ(state.admit(key, 0, kNow)->limit, "requests per minute");
}

TEST(KeyState, IsSettledByWhatWasUsed) {
  VirtualKey key;
  key.tokens_per_minute = 600;
  KeyState state;
  EXPECT_FALSE(state.admit(key, 500, kNow));
  EXPECT_EQ(state.tokens(key, kNow).remaining, 100U);
  state.settle(key, 500, 50, kNow);
  EXPECT_EQ(state.tokens(key, kNow).remaining, 550U);
  // More than was left: the next ones wait until it has come back.
  EXPECT_FALSE(state.admit(key, 10, kNow));
  state.settle(key, 10, 1200, kNow);
  const auto refused = state.admit(key, 1, kNow);
  ASSERT_TRUE(refused);
  EXPECT_FALSE(state.admit(key, 1, kNow + refused->retry_after_ns));
}

TEST(KeyState, ARequestLargerThanTheLimitIsLetInAlone) {
  VirtualKey key;
  key.tokens_per_minute = 100;
  KeyState state;
  EXPECT_FALSE(state.admit(key, 1000, kNow));
  EXPECT_TRUE(state.admit(key, 1, kNow));
}

TEST(KeyState, WhatOthersLetInIsCountedWhateverIsLeft) {
  VirtualKey key;
  key.requests_per_minute = 2;
  key.tokens_per_minute = 600;
  KeyState state;
  for (int i = 0; i < 3; ++i)
    state.charge(key, 100, kNow);
  EXPECT_EQ(state.requests(key, kNow).remaining, 0U);
  EXPECT_EQ(state.tokens(key, kNow).remaining, 300U);
  EXPECT_EQ(state.ahead_ns(kNow)[0], 90 * kSecond);
  EXPECT_EQ(state.ahead_ns(kNow)[1], 30 * kSecond);
  EXPECT_TRUE(state.admit(key, 1, kNow));
}

TEST(KeyState, AShareOfALimitIsNeverNothing) {
  VirtualKey key;
  key.requests_per_minute = 2;
  key.tokens_per_minute = 600;
  const VirtualKey share = share_of(key, 3);
  EXPECT_EQ(share.requests_per_minute, 1U);
  EXPECT_EQ(share.tokens_per_minute, 200U);
  EXPECT_EQ(share.tokens_per_day, 0U);
}

TEST(KeyState, ManyThreadsTakeNoMoreThanThereIs) {
  VirtualKey key;
  key.tokens_per_day = 1000;
  KeyState state;
  std::atomic<int> admitted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 1000; ++n)
        if (!state.admit(key, 1, kNow)) ++admitted;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(admitted, 1000);
}

}  // namespace
}  // namespace sluice::gateway::ai
