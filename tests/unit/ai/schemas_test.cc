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

TEST(GeminisSchemas, WhatIsSaidOfATypeStandsWithIt) {
  const Written out = for_gemini(
      R"("q":{"type":["string","array"],"items":{"type":"integer"},"maxLength":9,"minItems":2},
    "w":{"type":["object","string","null"],"properties":{"a":{"type":"string"}},"required":["a"]},
    "n":{"type":["number","integer","string"],"minimum":1,"format":"int64"},
    "l":{"items":{"type":"string"},"type":["array","boolean"]},"e":{"type":["array","string"]},
    "o":{"type":["string","integer"],"properties":{"a":{"type":"string"}},"items":{}},
    "s":{"type":"string","properties":{},"items":{}},
    "t":{"type":"string","properties":{"a":{}},"required":["a"],"items":{"type":"string"}})");
  EXPECT_EQ(out.at("/properties/q"),
            R"({"anyOf":[{"type":"string","maxLength":9},)"
            R"({"type":"array","items":{"type":"integer"},"minItems":2}]})");
  EXPECT_EQ(out.at("/properties/w/anyOf"),
            R"([{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},)"
            R"({"type":"string"}])");
  EXPECT_EQ(out.at("/properties/w/nullable"), "true");
  EXPECT_EQ(out.at("/properties/w/properties"), "none");
  EXPECT_EQ(out.at("/properties/n"),
            R"({"anyOf":[{"type":"number","minimum":1},{"type":"integer","minimum":1,)"
            R"("format":"int64"},{"type":"string"}]})");
  EXPECT_EQ(out.at("/properties/l"),
            R"({"anyOf":[{"type":"array","items":{"type":"string"}},{"type":"boolean"}]})");
  EXPECT_EQ(out.at("/properties/e"),
            R"({"anyOf":[{"type":"array","items":{"type":"string"}},{"type":"string"}]})");
  EXPECT_EQ(out.at("/properties/o"), R"({"anyOf":[{"type":"string"},{"type":"integer"}]})");
  EXPECT_EQ(out.at("/properties/s"), R"({"type":"string"})");
  EXPECT_EQ(out.at("/properties/t"), R"({"type":"string"})");
  const std::string before = "tools[0].parameters.properties.";
  EXPECT_THAT(out.dropped, testing::IsSupersetOf({before + "o.properties", before + "t.properties",
                                                  before + "t.items", before + "t.required"}));
}

// --- from Gemini

// Its SDK for JavaScript has them as strings, as JSON of protobuf's int64 is.
TEST(GeminisSchemas, CountsAreNumbersElsewhere) {
  for (const Shape to : {Shape::openai, Shape::anthropic}) {
    const Written out =
        written(Shape::gemini, to,
                R"({"model":"m","contents":[{"parts":[{"text":"x"}]}],
    "tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT",
      "minProperties":"1","max_properties":"3","properties":{
        "a":{"type":"ARRAY","items":{"type":"STRING","minLength":"1","maxLength":"9"},
          "minItems":"2","maxItems":"7"},
        "minItems":{"type":"STRING","pattern":"7","description":"8"}}}}]}]})",
                to == Shape::openai ? "/tools/0/function/parameters" : "/tools/0/input_schema");
    EXPECT_EQ(out.at("/minProperties"), "1");
    EXPECT_EQ(out.at("/maxProperties"), "3");
    EXPECT_EQ(out.at("/properties/a/minItems"), "2");
    EXPECT_EQ(out.at("/properties/a/maxItems"), "7");
    EXPECT_EQ(out.at("/properties/a/items/minLength"), "1");
    EXPECT_EQ(out.at("/properties/a/items/maxLength"), "9");
    EXPECT_EQ(out.at("/properties/minItems/pattern"), R"("7")");
    EXPECT_EQ(out.at("/properties/minItems/description"), R"("8")");
  }
}

TEST(GeminisSchemas, NullableIsATypeElsewhere) {
  const Written out = written(Shape::gemini, Shape::openai,
                              R"({"model":"m","contents":[{"parts":[{"text":"x"}]}],
    "generationConfig":{"responseMimeType":"application/json","responseSchema":{"type":"OBJECT",
      "properties":{"a":{"type":"STRING","nullable":true},"b":{"type":"STRING","nullable":false},
        "c":{"type":"STRING","enum":["x"],"nullable":true},
        "d":{"anyOf":[{"type":"STRING"},{"type":"NUMBER"}],"nullable":true},
        "nullable":{"type":"BOOLEAN"}}}}})",
                              "/response_format/json_schema/schema/properties");
  EXPECT_EQ(out.at("/a"), R"({"type":["string","null"]})");
  EXPECT_EQ(out.at("/b"), R"({"type":"string"})");
  EXPECT_EQ(out.at("/c"), R"({"type":["string","null"],"enum":["x",null]})");
  EXPECT_EQ(out.at("/d"), R"({"anyOf":[{"type":"string"},{"type":"number"},{"type":"null"}]})");
  EXPECT_EQ(out.at("/nullable"), R"({"type":"boolean"})");
}

// --- Anthropic

Written for_anthropic(const std::string& schema) {
  return written(Shape::openai, Shape::anthropic,
                 R"({"model":"m","messages":[{"role":"user","content":"x"}],"response_format":
    {"type":"json_schema","json_schema":{"name":"n","schema":)" +
                     schema + "}}}",
                 "/output_config/format/schema");
}

TEST(AnthropicsSchemas, EveryObjectIsClosed) {
  const Written out = for_anthropic(R"({"$schema":"s","type":"object","required":["a"],
    "$defs":{"D":{"type":"object","properties":{"x":{"type":"string"}}}},
    "definitions":{"E":{"properties":{}}},"properties":{
      "a":{"type":"array","items":{"type":"object","properties":{}}},
      "b":{"$ref":"#/$defs/D","description":"d"},
      "c":{"oneOf":[{"type":"object"},{"type":["object","null"]}]},
      "d":{"allOf":[{"type":"object"}]}}})");
  EXPECT_EQ(out.at("/additionalProperties"), "false");
  EXPECT_EQ(out.at("/$schema"), "none");
  EXPECT_EQ(out.at("/required"), R"(["a"])");
  EXPECT_EQ(out.at("/$defs/D/additionalProperties"), "false");
  EXPECT_EQ(out.at("/definitions/E/additionalProperties"), "false");
  EXPECT_EQ(out.at("/properties/a/items/additionalProperties"), "false");
  EXPECT_EQ(out.at("/properties/b"), R"({"$ref":"#/$defs/D"})");
  EXPECT_EQ(out.at("/properties/c/oneOf"), "none");
  for (const auto* one :
       {"/properties/c/anyOf/0", "/properties/c/anyOf/1", "/properties/d/allOf/0"})
    EXPECT_EQ(out.at(std::string(one) + "/additionalProperties"), "false");
  EXPECT_THAT(out.dropped, testing::IsEmpty());
}

TEST(AnthropicsSchemas, WhatItHasNoWordForIsDescribedAndNamed) {
  const Written out = for_anthropic(R"({"type":"object","properties":{
      "n":{"type":"integer","description":"Years.","minimum":0,"maximum":9},
      "s":{"type":"string","maxLength":3,"format":"enum"},"t":{"type":"string","format":"date"},
      "l":{"type":"array","items":{"type":"string"},"minItems":2},
      "m":{"type":"array","items":{"type":"string"},"minItems":1},
      "e":{"type":"string","enum":["a"]},
      "any":{"type":"object","additionalProperties":{"type":"string"}}}})");
  EXPECT_EQ(out.at("/properties/n"),
            R"({"type":"integer","description":"Years.\n\n{minimum: 0, maximum: 9}"})");
  EXPECT_EQ(out.at("/properties/s"),
            R"({"type":"string","description":"{maxLength: 3, format: \"enum\"}"})");
  EXPECT_EQ(out.at("/properties/t"), R"({"type":"string","format":"date"})");
  EXPECT_EQ(out.at("/properties/l/description"), R"("{minItems: 2}")");
  EXPECT_EQ(out.at("/properties/m/minItems"), "1");
  EXPECT_EQ(out.at("/properties/e"), R"({"enum":["a"]})");
  const std::string before = "response_format.schema.properties.";
  EXPECT_THAT(out.dropped, testing::UnorderedElementsAre(before + "n.minimum", before + "n.maximum",
                                                         before + "s.maxLength",
                                                         before + "s.format", before + "l.minItems",
                                                         before + "any.additionalProperties"));
}

TEST(AnthropicsSchemas, AStrictToolsIsClosedAndAnyOtherGoesAsItIs) {
  for (const bool strict : {true, false}) {
    const Written out = written(
        Shape::openai, Shape::anthropic,
        R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",
      "function":{"name":"f","strict":)" +
            std::string(strict ? "true" : "false") +
            R"(,"parameters":{"type":"object","properties":{"n":{"type":"integer","minimum":0}}}}}]})",
        "/tools/0/input_schema");
    EXPECT_EQ(out.at("/additionalProperties"), strict ? "false" : "none");
    EXPECT_EQ(out.at("/properties/n/minimum"), strict ? "none" : "0");
  }
}

TEST(AnthropicsSchemas, GeminisAreClosedToo) {
  const Written out = written(Shape::gemini, Shape::anthropic,
                              R"({"model":"m","contents":[{"parts":[{"text":"x"}]}],
    "generationConfig":{"responseMimeType":"application/json","responseSchema":{"type":"OBJECT",
      "properties":{"o":{"type":"OBJECT","nullable":true,"properties":{"a":{"type":"STRING"}}}}}}})",
                              "/output_config/format/schema");
  EXPECT_EQ(out.at("/additionalProperties"), "false");
  EXPECT_EQ(out.at("/properties/o"),
            R"({"type":["object","null"],"properties":{"a":{"type":"string"}},)"
            R"("additionalProperties":false})");
}

}  // namespace
}  // namespace sluice::gateway::ai
