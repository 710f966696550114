// What is made from the schema's table: the reference page and the JSON Schema.
#include "policy/reference.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <regex>
#include <sstream>

#include <boost/json.hpp>

#include "policy/json_schema.h"

namespace sluice::policy {
namespace {

constexpr const char* kPath = SLUICE_SOURCE_DIR "/policy/REFERENCE.md";

// After a change of the table: SLUICE_WRITE_REFERENCE=1 build/ci/unit_policy
// --gtest_filter='Reference.*'
TEST(Reference, IsUpToDate) {
  if (std::getenv("SLUICE_WRITE_REFERENCE")) std::ofstream(kPath) << reference();
  std::ifstream in(kPath);
  std::ostringstream kept;
  kept << in.rdbuf();
  EXPECT_TRUE(kept.str() == reference())
      << "policy/REFERENCE.md is not what the table says; SLUICE_WRITE_REFERENCE=1 writes it";
}

TEST(JsonSchema, IsAnObjectThatDescribesEveryTopLevelKey) {
  const boost::json::value schema = boost::json::parse(json_schema());
  EXPECT_EQ(schema.at("$schema"), "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema.at("required").at(0), "version");
  for (const auto* key : {"protect", "intercept", "listeners", "upstreams", "routes", "limits"})
    EXPECT_TRUE(schema.at("properties").at(key).is_object()) << key;
  const auto& route = schema.at("properties").at("routes").at("items").at("properties");
  EXPECT_EQ(route.at("timeout").at("default"), "0s");
  EXPECT_EQ(route.at("path").at("anyOf").as_array().size(), 2u);  // `path: /v1`, and the map
}

bool has_type(const boost::json::value& value, const boost::json::value& type) {
  if (type.is_array())
    return std::ranges::any_of(type.as_array(), [&](auto& one) { return has_type(value, one); });
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_bool();
  if (type == "integer") return value.is_int64();
  return type == "number" && value.is_number();
}

// As far as the schema's nodes for single values go.
bool suits(const boost::json::value& value, const boost::json::object& node) {
  if (const auto* any = node.if_contains("anyOf")) {
    return std::ranges::any_of(any->as_array(),
                               [&](auto& one) { return suits(value, one.as_object()); });
  }
  if (const auto* words = node.if_contains("enum"))
    return std::ranges::find(words->as_array(), value) != words->as_array().end();
  if (!has_type(value, node.at("type"))) return false;
  const auto* pattern = node.if_contains("pattern");
  return pattern == nullptr ||
         std::regex_search(value.as_string().c_str(), std::regex(pattern->as_string().c_str()));
}

int check_defaults(const boost::json::value& schema, const std::string& path) {
  int checked = 0;
  if (const auto* list = schema.if_array()) {
    for (const auto& one : *list)
      checked += check_defaults(one, path);
  }
  const auto* node = schema.if_object();
  if (node == nullptr) return checked;
  // A property may have that name, too.
  if (const auto* value = node->if_contains("default"); value && !value->is_object()) {
    EXPECT_TRUE(suits(*value, *node)) << path << ": " << *value;
    if (value->is_string()) {
      EXPECT_FALSE(value->as_string().starts_with('"')) << path << ": " << *value;
    }
    ++checked;
  }
  for (const auto& [name, child] : *node)
    checked += check_defaults(child, path + "/" + std::string(name));
  return checked;
}

TEST(JsonSchema, WhatMustNotBeEmptyIsNot) {
  const boost::json::value schema = boost::json::parse(json_schema());
  const auto& upstream = schema.at("properties").at("upstreams").at("additionalProperties");
  EXPECT_EQ(upstream.at("properties").at("endpoints").at("anyOf").at(1).at("minItems"), 1);
  const auto& route = schema.at("properties").at("routes").at("items").at("properties");
  EXPECT_EQ(route.at("to").at("minItems"), 1);
  EXPECT_FALSE(schema.at("properties").at("routes").as_object().contains("minItems"));
}

TEST(JsonSchema, EveryDefaultIsValid) {
  EXPECT_GT(check_defaults(boost::json::parse(json_schema()), ""), 100);
}

}  // namespace
}  // namespace sluice::policy
