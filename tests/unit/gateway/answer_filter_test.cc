#include "gateway/ai/proxy/answer_filter.h"

#include <gmock/gmock.h>

namespace sluice::gateway::ai {
namespace {

// Of vendors' own operations no event says that it is the last.
TEST(AnswerFilter, AStreamThatJustEndsIsWhole) {
  const auto filter =
      TextFilter::compile({{.name = "all", .find = {"personal"}, .pattern = {}}}).value();
  AnswerFilter answer(Shape::openai, filter, false);
  std::string out;
  for (const char* text : {"mail jane", "@example.com"})
    EXPECT_TRUE(answer.feed("data: {\"type\":\"transcript.text.delta\",\"delta\":\"" +
                                std::string(text) + "\"}\n\n",
                            out));
  EXPECT_EQ(out.find("jane"), std::string::npos) << out;
  EXPECT_TRUE(answer.end(out));
  EXPECT_THAT(out, ::testing::EndsWith("\"[email]\"}\n\n"));
}

}  // namespace
}  // namespace sluice::gateway::ai
