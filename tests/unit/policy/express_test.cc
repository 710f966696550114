// Whose connections may go by the express lane.
#include "policy/express.h"

#include <gtest/gtest.h>

#include "parsing.h"

namespace sluice::policy {
namespace {

constexpr const char* kTwo = R"(version: 1
listeners: { plain: {}, lane: { express: upstream }, whole: { express: both } }
upstreams: { far: { endpoints: ["192.0.2.1:80"] }, near: { endpoints: ["127.0.0.1:80"], express: both } }
)";

TEST(Express, NobodyAsksWithoutTheKey) {
  const Config config = parse_good(R"(version: 1
listeners: { web: {} }
upstreams: { api: { endpoints: ["127.0.0.1:80"] } }
routes: [{ listener: web, upstream: api }]
)");
  EXPECT_FALSE(upstreams_in_lane(config));
  EXPECT_FALSE(clients_in_lane(config, config.listeners[0]));
  EXPECT_FALSE(config.needs_kernel());
}

TEST(Express, UpstreamsByTheListenerOrByThemselves) {
  const Config config = parse_good(kTwo);
  EXPECT_TRUE(upstreams_in_lane(config));
  EXPECT_TRUE(config.needs_kernel());
  for (const Listener& listener : config.listeners) {
    for (const Upstream& upstream : config.upstreams) {
      EXPECT_EQ(upstream_in_lane(listener, upstream),
                listener.name != "plain" || upstream.name == "near")
          << listener.name << " to " << upstream.name;
    }
  }
}

TEST(Express, ClientsByTheListenerOrByWhereItsRoutesLead) {
  const auto clients = [](const std::string& rest) {
    const Config config = parse_good(kTwo + rest);
    std::string out;
    for (const Listener& listener : config.listeners)
      if (clients_in_lane(config, listener)) out += listener.name + " ";
    return out;
  };
  EXPECT_EQ(clients(""), "whole ");
  EXPECT_EQ(clients("routes: [{ listener: plain, upstream: far }]\n"), "whole ");
  EXPECT_EQ(clients("routes: [{ listener: plain, upstream: near }]\n"), "plain whole ");
  EXPECT_EQ(clients("default_route: { forward: near }\n"), "plain lane whole ");
}

}  // namespace
}  // namespace sluice::policy
