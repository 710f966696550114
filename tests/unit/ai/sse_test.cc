#include "gateway/ai/sse.h"

#include <gmock/gmock.h>
#include <string>
#include <utility>
#include <vector>

namespace sluice::gateway::ai {
namespace {

using testing::ElementsAre;
using testing::Pair;
using Events = std::vector<std::pair<std::string, std::string>>;

Events parse(std::string_view bytes, std::size_t cut) {
  SseParser parser;
  Events events;
  for (std::size_t at = 0; at < bytes.size(); at += cut)
    EXPECT_TRUE(parser.feed(bytes.substr(at, cut), [&](const SseEvent& event) {
      events.emplace_back(event.name, event.data);
    }));
  return events;
}

constexpr std::string_view kStream =
    "\xEF\xBB\xBF: a comment\n\nevent: first\r\ndata: one\r\ndata:two\r\n\r\nid: 7\ndata: plain\n\n"
    "event: none\n\ndata:\rdata:  kept\r\rdata: unfinished";

TEST(SseParser, ReadsTheSameHoweverItIsCut) {
  for (std::size_t cut = 1; cut <= kStream.size(); ++cut)
    EXPECT_THAT(parse(kStream, cut),
                ElementsAre(Pair("first", "one\ntwo"), Pair("", "plain"), Pair("", "\n kept")))
        << "in pieces of " << cut;
}

TEST(SseParser, KnowsWhetherSomethingIsUnfinished) {
  SseParser parser;
  const auto ignore = [](const SseEvent&) {};
  EXPECT_TRUE(parser.at_boundary());
  parser.feed("data: x", ignore);
  EXPECT_FALSE(parser.at_boundary());
  parser.feed("\n", ignore);
  EXPECT_FALSE(parser.at_boundary());
  parser.feed("\n", ignore);
  EXPECT_TRUE(parser.at_boundary());
}

TEST(SseParser, AnEventThatNeverEndsIsRefused) {
  SseParser parser;
  const std::string mebibyte(1024 * 1024, 'x');
  const auto ignore = [](const SseEvent&) {};
  ASSERT_TRUE(parser.feed("data: ", ignore));
  bool taken = true;
  for (int i = 0; i < 9 && taken; ++i)
    taken = parser.feed(mebibyte, ignore);
  EXPECT_FALSE(taken);
}

}  // namespace
}  // namespace sluice::gateway::ai
