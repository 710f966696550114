// How long a vendor's key rests, by what the vendor says.
#include "gateway/ai/proxy/rate_limit_rest.h"

#include <gtest/gtest.h>
#include <string>

#include <boost/json/parse.hpp>

#include "gateway/http1/head_writer.h"

namespace sluice::gateway::ai {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr std::int64_t kEvening = 1'796'061'600;  // 2026-11-30 18:00:00 UTC

std::optional<milliseconds> rest_of(const std::string& lines) {
  const std::string text =
      "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n" + lines + "\r\n";
  http1::ResponseHead head;
  EXPECT_TRUE(http1::read_own_response(text, head));
  return rest_said(head, kEvening);
}

TEST(RateLimitRest, IsWhatRetryAfterSays) {
  EXPECT_EQ(rest_of("retry-after: 7\r\n"), 7s);
  EXPECT_EQ(rest_of("Retry-After: Mon, 30 Nov 2026 18:00:04 GMT\r\n"), 4s);
  EXPECT_EQ(rest_of("retry-after-ms: 3000\r\n"), 3s);
  EXPECT_EQ(rest_of("retry-after-ms: 250.5\r\nretry-after: 1\r\n"), 250ms);
}

TEST(RateLimitRest, IsUntilTheLimitThatIsUsedUpIsThereAgain) {
  EXPECT_EQ(rest_of("x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 4s\r\n"
                    "x-ratelimit-remaining-tokens: 900\r\nx-ratelimit-reset-tokens: 6m0s\r\n"),
            4s);
  EXPECT_EQ(rest_of("x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 120ms\r\n"
                    "x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m1.5s\r\n"),
            61500ms);
  EXPECT_EQ(rest_of("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 17\r\n"), 17s);
  EXPECT_EQ(rest_of("anthropic-ratelimit-input-tokens-remaining: 0\r\n"
                    "anthropic-ratelimit-input-tokens-reset: 2026-11-30T18:00:42Z\r\n"),
            42s);
}

TEST(RateLimitRest, IsNotKnownFromWhatSaysNothing) {
  for (const char* lines :
       {"", "retry-after: 0\r\n", "retry-after: soon\r\n", "retry-after-ms: -5\r\n",
        "retry-after-ms: nan\r\n", "Retry-After: Mon, 30 Nov 2026 17:00:00 GMT\r\n",
        "x-ratelimit-remaining-requests: 3\r\nx-ratelimit-reset-requests: 4s\r\n",
        "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 4 hours\r\n",
        "anthropic-ratelimit-requests-remaining: 0\r\n"
        "anthropic-ratelimit-requests-reset: 2026-11-30T17:59:00Z\r\n"})
    EXPECT_EQ(rest_of(lines), std::nullopt) << lines;
}

TEST(RateLimitRest, OfGeminiIsInTheError) {
  const auto error = boost::json::parse(
      R"({"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[)"
      R"({"@type":"type.googleapis.com/google.rpc.QuotaFailure"},)"
      R"({"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}})");
  EXPECT_EQ(rest_said(error), 34500ms);
  EXPECT_EQ(rest_said(boost::json::parse(R"({"error":{"details":[{"retryDelay":5}]}})")),
            std::nullopt);
}

}  // namespace
}  // namespace sluice::gateway::ai
