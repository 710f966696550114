#include "gateway/http/grpc.h"

#include <gtest/gtest.h>

#include "policy/config.h"

namespace sluice::gateway::http::grpc {
namespace {

TEST(Grpc, IsToldByItsContentType) {
  EXPECT_TRUE(is_content_type("application/grpc"));
  EXPECT_TRUE(is_content_type("application/grpc+proto"));
  EXPECT_TRUE(is_content_type("Application/GRPC;charset=x"));
  EXPECT_FALSE(is_content_type("application/grpc-web"));
  EXPECT_FALSE(is_content_type("application/json"));
  EXPECT_FALSE(is_content_type(""));
}

TEST(Grpc, ReadsTimeouts) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_timeout("100m"), 100ms);
  EXPECT_EQ(parse_timeout("2S"), 2s);
  EXPECT_GT(parse_timeout("99999999H"), 1h);  // longer than nanoseconds can say: bounded
  EXPECT_FALSE(parse_timeout("123456789m"));
  EXPECT_FALSE(parse_timeout("0n"));  // of a caller it would be none, and lift ours
  EXPECT_FALSE(parse_timeout("00000000H"));
  EXPECT_FALSE(parse_timeout("m"));
  EXPECT_FALSE(parse_timeout("-1S"));
  EXPECT_FALSE(parse_timeout("1s"));
  EXPECT_FALSE(parse_timeout(""));
}

TEST(Grpc, FindsTheStatusAmongTrailers) {
  EXPECT_EQ(status_of("x: y\r\ngrpc-status: 5\r\n"), 5);
  EXPECT_EQ(status_of("grpc-status: 99\r\n"), kUnknown);
  EXPECT_EQ(status_of("grpc-status-details: 5\r\n"), std::nullopt);
  EXPECT_EQ(status_of(""), std::nullopt);
}

TEST(Grpc, FailuresOfAnEndpointAreThoseOfHttp) {
  EXPECT_EQ(http_status_for(0), 200);
  EXPECT_EQ(http_status_for(kUnavailable), 503);
  EXPECT_EQ(http_status_for(kDeadlineExceeded), 504);
  EXPECT_EQ(http_status_for(kInternal), 500);
  EXPECT_EQ(http_status_for(5), 200);   // NOT_FOUND
  EXPECT_EQ(http_status_for(12), 200);  // UNIMPLEMENTED: the caller's mistake
}

TEST(Grpc, ConditionsOfRetriesAreOfCalls) {
  EXPECT_EQ(retry_condition(kUnavailable), policy::kRetryUnavailable);
  EXPECT_EQ(retry_condition(0), 0U);
  EXPECT_EQ(retry_condition(5), 0U);
  for (const int status : {kCancelled, kDeadlineExceeded, kResourceExhausted, kInternal})
    EXPECT_EQ(retry_condition(status) & ~policy::kRetryGrpc, 0U) << status;
}

TEST(Grpc, SaysNoInItsOwnWords) {
  EXPECT_EQ(status_for(503), kUnavailable);
  EXPECT_EQ(status_for(429), 8);
  EXPECT_EQ(status_for(504), kDeadlineExceeded);
  EXPECT_EQ(message_of("a%\n"), "a%25%0A");
}

}  // namespace
}  // namespace sluice::gateway::http::grpc
