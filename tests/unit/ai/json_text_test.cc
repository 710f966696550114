#include "gateway/ai/json_text.h"

#include <gmock/gmock.h>

namespace sluice::gateway::ai {
namespace {

TEST(JsonText, ReadsMembersAtTheTopOnly) {
  const auto json =
      JsonText::scan(R"( {"a": {"model": "inner"}, "model" : "m\u00fc\"x", "n": -12, "s": true} )");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->string("model"), "mü\"x");
  EXPECT_EQ(json->find("a"), R"({"model": "inner"})");
  EXPECT_EQ(json->integer("n"), -12);
  EXPECT_TRUE(json->is_true("s"));
  EXPECT_FALSE(json->string("n"));
  EXPECT_FALSE(json->find("inner"));
}

TEST(JsonText, KeysThatBeginAlikeAreNotOne) {
  EXPECT_TRUE(JsonText::scan(
      R"({"a":1,"ab":2,"":3,"B":4,"\u00e4":5,"\u00c4":6,"b\u0062":7,"Abc":8,"a\u0062cd":9})"));
}

TEST(JsonText, ChangesWhatIsSetAndNothingElse) {
  auto json = JsonText::scan("{ \"z\":[1,2 , {\"model\":1}],\n\"model\":\"a\" ,\"u\":\"\\u00fc\"}");
  ASSERT_TRUE(json);
  EXPECT_FALSE(json->changed());
  json->set("model", json_string("b\"c"));
  json->set("more", "{}");
  EXPECT_EQ(json->text(),
            "{\"more\":{}, \"z\":[1,2 , {\"model\":1}],\n\"model\":\"b\\\"c\" ,\"u\":\"\\u00fc\"}");
  auto empty = JsonText::scan("{}");
  empty->set("a", "1");
  EXPECT_EQ(empty->text(), "{\"a\":1}");
}

// Several bytes are looked at together.
TEST(JsonText, SeesWhatEndsAStringWhereverItIs) {
  for (std::size_t size = 1; size < 40; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      std::string text(size, '\xc3');
      text[at] = '\x1f';
      EXPECT_FALSE(JsonText::scan("{\"k\":\"" + text + "\"}")) << size << " " << at;
      text[at] = '"';
      EXPECT_FALSE(JsonText::scan("{\"k\":\"" + text + "\"}")) << size << " " << at;
      text[at] = ' ';
      const std::string escaped = text.substr(0, at) + "\\\"" + text.substr(at);
      for (const std::string& good : {text, escaped}) {
        const std::string whole = "{\"k\":\"" + good + "\"}";
        const auto json = JsonText::scan(whole);
        ASSERT_TRUE(json) << size << " " << at;
        EXPECT_EQ(json->find("k"), "\"" + good + "\"");
      }
    }
  }
}

// Two readers could take different ones: the vendor the last, the gateway the first.
TEST(JsonText, RefusesWhatCouldBeReadInTwoWays) {
  for (const std::string_view text : {R"({"model":"a","model":"b"})",
                                      R"({"mod\u0065l":"a","model":"b"})",
                                      R"({"model":"a","mod\u0065l":"b"})",
                                      R"({"model":"a","Model":"b"})",
                                      R"({"MODEL":"a","mod\u0065L":"b"})",
                                      R"({"max_tokens":1,"max_to\u212aens":2})",
                                      "{\"stream\":1,\"\xc5\xbftream\":2}",
                                      R"({"a":1}{"model":2})",
                                      R"({"a":1,})",
                                      R"({"a" 1})",
                                      R"([])",
                                      R"({"a":tru})",
                                      R"({"a":truex})",
                                      R"({"a":1x})",
                                      R"({"a":-"1"})",
                                      R"({"a":nulll})",
                                      R"({"a":[1 2]})",
                                      R"({"a":{"b"}})",
                                      R"({"a":{b:1}})",
                                      R"({"a":[1,]})",
                                      R"({"a":[})",
                                      R"({"model":1,"\u00e4":2,"MODEL":3})",
                                      R"({"\u00e4":1,"\u00e4":2})",
                                      R"({"\ud800":1})",
                                      "{\"\xc3\xa4\":1,\"\\u00e4\":2}",
                                      R"({"a":/* } */1})",
                                      R"({"a":"x)",
                                      "{\"a\":\"line\nbreak\"}",
                                      "",
                                      R"({"a":'b'})"}) {
    EXPECT_FALSE(JsonText::scan(text)) << text;
  }
  EXPECT_FALSE(JsonText::scan("{\"a\":" + std::string(100'000, '[')));  // and does not run deep
}

std::string with_keys(std::size_t count, const std::string& last) {
  std::string text = "{";
  for (std::size_t i = 0; i < count; ++i)
    text.append("\"key-").append(std::to_string(i)).append("\":1,");
  return text + last + "}";
}

TEST(JsonText, SeesARepeatedKeyAlsoAmongMany) {
  for (const std::size_t count : {31U, 32U, 33U, 1000U}) {
    const std::string good = with_keys(count, R"("model":"m","k\u0065y":2)");
    const auto json = JsonText::scan(good);
    ASSERT_TRUE(json) << count;
    EXPECT_EQ(json->string("model"), "m");
    EXPECT_EQ(json->find("key"), "2");
    for (const std::string_view last :
         {R"("key-0":2)", R"("key-30":2)", R"("k\u0065y-30":2)", R"("\ud800":2)"})
      EXPECT_FALSE(JsonText::scan(with_keys(count, std::string(last)))) << count << " " << last;
  }
}

// Each with all those before it would take minutes.
TEST(JsonText, ManyKeysAreNotComparedWithEachOther) {
  EXPECT_TRUE(JsonText::scan(with_keys(400'000, R"("model":"m")")));
}

}  // namespace
}  // namespace sluice::gateway::ai
