// The pitfalls of caching answers of language models that others have fallen into, each by its name.
#include <gmock/gmock.h>

#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/proxy/response_cache.h"

namespace sluice::gateway::ai {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kBody =
    R"({"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]})";

class CachePitfalls : public ::testing::Test {
 protected:
  CachePitfalls() {
    chat_.operation = Operation::chat;
    chat_.version = "v1";
    chat_.path = "/chat/completions";
  }
  CacheQuestion question(std::string_view body = kBody) const {
    return {.tenant = "k1",
            .route = "r",
            .provider = "openai",
            .address = "a",
            .model = "gpt-5",
            .endpoint = &chat_,
            .api_fields = "",
            .query = "",
            .body = body};
  }
  static CacheKey key(const CacheQuestion& question) { return cache_key(question).value(); }
  void differs(std::string_view body) const {
    EXPECT_NE(key(question()), key(question(body))) << body;
  }

  Endpoint chat_;
};

TEST_F(CachePitfalls, TheKeyHasTheTenant) {
  CacheQuestion other = question();
  other.tenant = "k2";
  EXPECT_NE(key(question()), key(other));
  // Nor can one part be made to look like the beginning of the next.
  CacheQuestion shifted = question();
  shifted.tenant = "k1r";
  shifted.route = "";
  EXPECT_NE(key(question()), key(shifted));
}

// A filter that is extended to a team is for what was kept of it before, too.
TEST_F(CachePitfalls, TheKeyHasTheFiltersThatAreForTheCall) {
  policy::AiFilter filter;
  filter.name = "f";
  filter.pattern = "secret";
  filter.scope.teams = {"red"};
  const auto text = [&](std::string_view team) {
    Catalog::Parts parts;
    parts.filters = {filter};
    return Catalog(std::move(parts)).filters_text({.team = team});
  };
  const std::string red = text("red");
  const std::string blue = text("blue");
  EXPECT_NE(red, blue);
  filter.scope.teams = {"red", "blue"};
  EXPECT_EQ(text("red"), red);
  EXPECT_NE(text("blue"), blue);
}

TEST_F(CachePitfalls, TheKeyHasSystemPromptAndTools) {
  differs(R"({"model":"m","messages":[{"role":"system","content":"t"},{"role":"user","content":"u"}]})");
  differs(R"({"model":"m","messages":[{"role":"user","content":"u"}]})");
  differs(R"({"model":"m","tools":[{}],"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]})");
}

TEST_F(CachePitfalls, TheKeyHasEverySettingAndOneThatIsMissingIsNotZero) {
  for (const char* setting :
       {R"("temperature":0)", R"("temperature":1)", R"("temperature":1.0)", R"("top_p":1)",
        R"("max_tokens":5)", R"("max_tokens":6)", R"("tool_choice":"none")", R"("seed":null)",
        R"("user":"x")", R"("stream":true)", R"("stream":false)", R"("unknown_yet":1)"}) {
    differs("{" + std::string(setting) + "," + std::string(kBody.substr(1)));
  }
}

TEST_F(CachePitfalls, TheKeyHasProviderModelAndShape) {
  CacheQuestion other = question();
  other.provider = "azure";
  EXPECT_NE(key(question()), key(other));
  other = question();
  other.address = "b";
  EXPECT_NE(key(question()), key(other));
  other = question();
  other.model = "gpt-5-mini";
  EXPECT_NE(key(question()), key(other));
  other = question();
  Endpoint anthropic = chat_;
  anthropic.shape = Shape::anthropic;
  other.endpoint = &anthropic;
  EXPECT_NE(key(question()), key(other));
  other = question();
  other.query = "alt=sse";
  EXPECT_NE(key(question()), key(other));
  other = question();
  other.api_fields = "anthropic-beta: context-1m\n";
  EXPECT_NE(key(question()), key(other));
}

TEST_F(CachePitfalls, SimilarIsNotTheSame) {
  differs(R"({"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"U"}]})");
  differs(R"({"model":"m","messages":[{"role":"user","content":"u"},{"role":"system","content":"s"}]})");
}

TEST_F(CachePitfalls, HowTheSameIsWrittenDoesNotMatter) {
  EXPECT_EQ(key(question()), key(question(R"( {"messages": [ {"content":"\u0073","role":"system"},
      {"role":"user","content":"u"} ], "model": "m"} )")));
  EXPECT_FALSE(cache_key(question("{no json")));
}

TEST_F(CachePitfalls, MemoryIsBoundedAndTheOldestGoesFirst) {
  ResponseCache cache;
  cache.configure(1 << 20, 1h);
  const auto now = ResponseCache::Clock::now();
  const auto put = [&](unsigned char number, std::size_t size) {
    CacheKey of{};
    of[0] = number;
    cache.put(of, {.content_type = "t", .body = std::string(size, 'x'), .made = now});
    return of;
  };
  EXPECT_EQ(cache.find(put(0, 1 << 20), now), nullptr);  // larger than its share
  const CacheKey first = put(1, 100'000);
  const CacheKey second = put(2, 100'000);
  for (unsigned char i = 3; i < 11; ++i)
    put(i, 100'000);
  EXPECT_NE(cache.find(first, now), nullptr);
  put(11, 100'000);
  EXPECT_NE(cache.find(first, now), nullptr);
  EXPECT_EQ(cache.find(second, now), nullptr);
  EXPECT_LE(cache.stats().bytes, 1U << 20);
  EXPECT_EQ(cache.stats().evictions, 1U);
  cache.configure(0, 1h);
  EXPECT_EQ(cache.stats().entries, 0U);
}

TEST_F(CachePitfalls, AnAnswerIsGoodForItsTimeAlone) {
  ResponseCache cache;
  cache.configure(1 << 20, 10min);
  const auto now = ResponseCache::Clock::now();
  cache.put(key(question()), {.content_type = "t", .body = "b", .made = now});
  EXPECT_NE(cache.find(key(question()), now + 9min), nullptr);
  EXPECT_EQ(cache.find(key(question()), now + 10min), nullptr);
  EXPECT_EQ(cache.stats().bytes, 0U);
}

}  // namespace
}  // namespace sluice::gateway::ai
