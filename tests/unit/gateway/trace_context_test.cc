// Ids of requests and traces.
#include "gateway/http/trace_context.h"

#include <gtest/gtest.h>
#include <string>

namespace sluice::gateway::http {
namespace {

constexpr std::string_view kGood = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContext, AGoodParentIsRead) {
  const auto parent = parse_traceparent(kGood);
  ASSERT_TRUE(parent);
  EXPECT_EQ(parent->trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(parent->parent_id, "00f067aa0ba902b7");
  EXPECT_TRUE(parent->sampled);
  std::string odd(kGood);
  odd.back() = 'b';  // 11: sampled
  EXPECT_TRUE(parse_traceparent(odd)->sampled);
  odd.back() = 'a';
  EXPECT_FALSE(parse_traceparent(odd)->sampled);
}

TEST(TraceContext, ALaterVersionMaySayMore) {
  std::string later(kGood);
  later.replace(0, 2, "01");
  EXPECT_TRUE(parse_traceparent(later));
  EXPECT_TRUE(parse_traceparent(later + "-more"));
  EXPECT_FALSE(parse_traceparent(later + "more"));
  EXPECT_FALSE(parse_traceparent(std::string(kGood) + "-more"));
}

TEST(TraceContext, WhatIsNoneIsNone) {
  for (const char* bad : {"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                          "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                          "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                          "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                          "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g"})
    EXPECT_FALSE(parse_traceparent(bad)) << bad;
}

TEST(TraceContext, IsWrittenAsItIsRead) {
  std::array<char, kTraceIdSize> trace;
  write_trace_id(0, 0, trace);
  std::array<char, kTraceParentSize> text;
  write_traceparent({trace.data(), trace.size()}, 0, true, text);
  const auto parent = parse_traceparent({text.data(), text.size()});
  ASSERT_TRUE(parent) << "ids of zeros are never written";
  EXPECT_TRUE(parent->sampled);
}

TEST(RequestId, IsAUuidOfVersionFour) {
  std::array<char, kUuidSize> id;
  write_uuid(~0ULL, ~0ULL, id);
  EXPECT_EQ(std::string(id.data(), id.size()), "ffffffff-ffff-4fff-bfff-ffffffffffff");
  write_uuid(0x0123456789abcdef, 0x0123456789abcdef, id);
  EXPECT_EQ(std::string(id.data(), id.size()), "01234567-89ab-4def-8123-456789abcdef");
  EXPECT_TRUE(is_request_id({id.data(), id.size()}));
}

TEST(RequestId, OthersAreTakenOnlyWhereTheyCanDoNoHarm) {
  EXPECT_TRUE(is_request_id("Root=1-67891233-abcdef012345678912345678"));
  for (const std::string& bad : {std::string(), std::string("a b"), std::string("a\"b"),
                                 std::string("a%b"), std::string("a\xc3\xa4"), std::string(65, 'a')})
    EXPECT_FALSE(is_request_id(bad)) << bad;
}

}  // namespace
}  // namespace sluice::gateway::http
