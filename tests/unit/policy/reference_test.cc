// What is made from the schema's table: the reference page and the JSON Schema.
#include "policy/reference.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <sstream>
#include <yaml-cpp/yaml.h>

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

// JSON is YAML.
TEST(JsonSchema, IsAnObjectThatDescribesEveryTopLevelKey) {
  const YAML::Node schema = YAML::Load(json_schema());
  EXPECT_EQ(schema["$schema"].as<std::string>(), "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["required"][0].as<std::string>(), "version");
  for (const auto* key : {"protect", "intercept", "listeners", "upstreams", "routes", "limits"})
    EXPECT_TRUE(schema["properties"][key].IsMap()) << key;
  const YAML::Node route = schema["properties"]["routes"]["items"]["properties"];
  EXPECT_EQ(route["timeout"]["default"].as<std::string>(), "0s");
  EXPECT_EQ(route["path"]["anyOf"].size(), 2u);  // `path: /v1`, and the map
}

}  // namespace
}  // namespace sluice::policy
