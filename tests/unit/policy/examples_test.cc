#include <filesystem>
#include <fstream>
#include <sstream>

#include "parsing.h"
#include "policy/snapshot.h"
#include "requests.h"

namespace sluice::policy {
namespace {

std::string read_example(const std::string& name) {
  std::ifstream in(std::string(SLUICE_SOURCE_DIR) + "/deploy/policies/" + name);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(Examples, FourLinesMakeAProxy) {
  const Config config = parse_good(read_example("proxy.yaml"));
  EXPECT_FALSE(config.needs_kernel());
  const auto snapshot = Snapshot::compile(config);
  const auto route = snapshot->routes(0).match(request_of("anything.example", "/any/path"));
  ASSERT_TRUE(route);
  EXPECT_EQ(snapshot->config().upstreams[snapshot->route(*route).targets[0].upstream].name, "app");
}

TEST(Examples, GatewayNode) {
  const Config config = parse_good(read_example("gateway-node.yaml"));
  EXPECT_TRUE(config.needs_kernel());
  const auto snapshot = Snapshot::compile(config);
  const auto web = snapshot->find_listener("web");
  ASSERT_TRUE(web);
  const auto route =
      snapshot->routes(*web).match(request_of("static.example.com", "/archive/2020"));
  ASSERT_TRUE(route);
  EXPECT_EQ(config.routes[*route].name, "web static.example.com /archive");
  const auto* forward = std::get_if<ForwardTo>(&snapshot->fallback(Way::forward));
  ASSERT_NE(forward, nullptr);
  EXPECT_TRUE(snapshot->config().upstreams[forward->upstream].original_destination);
}

TEST(Examples, EveryPolicyUnderDeployParses) {
  int seen = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(SLUICE_SOURCE_DIR) + "/deploy/policies")) {
    if (entry.path().extension() != ".yaml") continue;
    ++seen;
    SCOPED_TRACE(entry.path());
    const ParseResult result = parse_text(read_example(entry.path().filename()));
    EXPECT_EQ(shown(result.diagnostics), std::vector<std::string>{});
  }
  EXPECT_GE(seen, 2);
}

}  // namespace
}  // namespace sluice::policy
