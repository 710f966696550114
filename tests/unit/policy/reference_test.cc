// What is made from the schema's table: the reference page and the JSON Schema.
#include "policy/reference.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
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

}  // namespace
}  // namespace sluice::policy
