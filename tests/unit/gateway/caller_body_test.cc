#include "gateway/ai/proxy/vendor_body.h"

#include <gmock/gmock.h>

namespace sluice::gateway::ai {
namespace {

TEST(CallerBody, GeminisPathsSayWhomACallIsForAndNotTheBody) {
  const char* text = R"({"model":"gemini-flash"})";
  for (const std::string_view path :
       {"/v1beta/tunedModels/mine:generateContent", "/v1beta/tunedModels/mine%3AgenerateContent"}) {
    const auto endpoint = parse_endpoint(path, {});
    EXPECT_EQ(CallerBody(text, *endpoint).model(), "") << path;
  }
  const auto caching = parse_endpoint("/v1beta/cachedContents", {});
  EXPECT_EQ(CallerBody(text, *caching).model(), "gemini-flash");
}

}  // namespace
}  // namespace sluice::gateway::ai
