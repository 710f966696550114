// JSON Schema as callers have it, in what each vendor takes of it.
#include <gmock/gmock.h>

#include "tests/unit/ai/translating.h"

namespace sluice::gateway::ai {
namespace {

struct Written {
  json::value schema;
  std::vector<std::string> dropped;

  std::string at(std::string_view pointer) const {
    boost::system::error_code error;
    const json::value* found = schema.find_pointer(pointer, error);
    return found == nullptr ? "none" : json::serialize(*found);
  }
};

Written written(Shape from, Shape to, const std::string& body, std::string_view where) {
  const auto out = translate_request(from, to, body);
  if (!out) {
    ADD_FAILURE() << describe(out.error());
    return {};
  }
  const json::value whole = out->body;
  boost::system::error_code error;
  const json::value* found = whole.find_pointer(where, error);
  EXPECT_NE(found, nullptr) << json::serialize(whole);
  return {found != nullptr ? *found : json::value(), out->dropped};
}

Written for_gemini(const std::string& properties, const std::string& more = "") {
  return written(Shape::openai, Shape::gemini,
                 R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[
    {"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{)" +
                     properties + "}" + more + "}}}]}",
                 "/tools/0/functionDeclarations/0/parameters");
}

// --- Gemini

TEST(GeminisSchemas, AnEnumIsOfStrings) {
  const Written out = for_gemini(R"("mode":{"enum":["a","b"]},"kind":{"const":"x"},
    "maybe":{"type":["string","null"],"enum":["a",null]},"some":{"type":"string","enum":["","a"]},
    "level":{"type":"integer","enum":[0,1,2]},"one":{"const":1},"on":{"enum":[true]},
    "odd":{"type":"integer","enum":["a"]},"mixed":{"enum":["a",1]})");
  EXPECT_EQ(out.at("/properties/mode"), R"({"type":"string","enum":["a","b"]})");
  EXPECT_EQ(out.at("/properties/kind"), R"({"type":"string","enum":["x"]})");
  EXPECT_EQ(out.at("/properties/maybe"), R"({"nullable":true,"type":"string","enum":["a"]})");
  EXPECT_EQ(out.at("/properties/some"), R"({"type":"string","enum":["a"]})");
  EXPECT_EQ(out.at("/properties/level"), R"({"type":"integer"})");
  EXPECT_EQ(out.at("/properties/one"), R"({"type":"integer"})");
  EXPECT_EQ(out.at("/properties/on"), R"({"type":"boolean"})");
  EXPECT_EQ(out.at("/properties/odd"), R"({"type":"integer"})");
  EXPECT_EQ(out.at("/properties/mixed/enum"), "none");
  for (const auto* name : {"level", "one", "on", "odd", "mixed", "some"})
    EXPECT_THAT(out.dropped,
                testing::Contains("tools[0].parameters.properties." + std::string(name) + ".enum"));
}

TEST(GeminisSchemas, AFormatIsOneThatItKnowsOfTheType) {
  const Written out = for_gemini(R"("url":{"type":"string","format":"uri"},
    "at":{"type":"string","format":"date-time"},"n":{"type":"integer","format":"int64"},
    "x":{"type":"number","format":"double"},"y":{"type":"number","format":"date-time"})");
  EXPECT_EQ(out.at("/properties/url"), R"({"type":"string"})");
  EXPECT_EQ(out.at("/properties/at/format"), R"("date-time")");
  EXPECT_EQ(out.at("/properties/n/format"), R"("int64")");
  EXPECT_EQ(out.at("/properties/x/format"), R"("double")");
  EXPECT_EQ(out.at("/properties/y"), R"({"type":"number"})");
  EXPECT_THAT(out.dropped,
              testing::UnorderedElementsAre("tools[0].parameters.properties.url.format",
                                            "tools[0].parameters.properties.y.format"));
}

TEST(GeminisSchemas, AListHasItems) {
  const Written out = for_gemini(R"("a":{"type":"array"},"b":{"type":"array","items":{}},
    "c":{"type":"array","items":{"type":"array"}},"d":{"items":{"type":"integer"}},
    "e":{"type":"array","items":true})");
  for (const auto* name : {"a", "b", "e"})
    EXPECT_EQ(out.at("/properties/" + std::string(name)),
              R"({"type":"array","items":{"type":"string"}})");
  EXPECT_EQ(out.at("/properties/c/items/items"), R"({"type":"string"})");
  EXPECT_EQ(out.at("/properties/d/type"), R"("array")");
}

TEST(GeminisSchemas, OnlyWhatIsThereIsRequired) {
  const Written out = for_gemini(R"("a":{"type":"string"},
    "o":{"type":"object","required":["x"]},"p":{"properties":{"q":{"type":"string"}}})",
                                 R"(,"required":["a","b"])");
  EXPECT_EQ(out.at("/required"), R"(["a"])");
  EXPECT_EQ(out.at("/properties/o"), R"({"type":"object"})");
  EXPECT_EQ(out.at("/properties/p/type"), R"("object")");
  EXPECT_THAT(out.dropped,
              testing::UnorderedElementsAre("tools[0].parameters.required",
                                            "tools[0].parameters.properties.o.required"));
}

TEST(GeminisSchemas, AlternativesThatSayNothingAreLeftOut) {
  const Written out = for_gemini(
      R"("a":{"type":"string"},"b":{"anyOf":[{"type":"string"},{"type":"integer"}]},"c":{"anyOf":[{"required":["a"]},{"required":["b"]}]})");
  EXPECT_EQ(out.at("/properties/b"), R"({"anyOf":[{"type":"string"},{"type":"integer"}]})");
  EXPECT_EQ(out.at("/properties/c"), "{}");
}

}  // namespace
}  // namespace sluice::gateway::ai
