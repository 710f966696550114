// Which coding an answer gets (RFC 9110 section 12.5.3).
#include "policy/compression.h"

#include <gtest/gtest.h>

namespace sluice::policy {
namespace {

TEST(Compression, TakesWhatTheClientLikesBest) {
  const Compression both;
  EXPECT_EQ(choose_coding(both, "gzip, deflate, br"), Coding::br);
  EXPECT_EQ(choose_coding(both, "gzip, deflate"), Coding::gzip);
  EXPECT_EQ(choose_coding(both, "GZIP;Q=1.0, br ; q=0.999"), Coding::gzip);
  EXPECT_EQ(choose_coding(both, "*"), Coding::br);
  EXPECT_EQ(choose_coding(both, "br;q=0, *"), Coding::gzip);
  EXPECT_EQ(choose_coding(both, "x-gzip"), Coding::gzip);
  EXPECT_EQ(choose_coding(both, "identity, gzip;q=0.5"), std::nullopt);
  EXPECT_EQ(choose_coding(both, "identity;q=0.5, gzip;q=0.5"), Coding::gzip);
  for (const char* none : {"", "identity", "deflate", "gzip;q=0", "gzip;q=0.000", "*;q=0",
                           "gzip;q=nonsense", "gzip;q=2", "gzipped", ",", ";q=1"}) {
    EXPECT_EQ(choose_coding(both, none), std::nullopt) << none;
  }
  Compression gzip;
  gzip.algorithms = {Coding::gzip};
  EXPECT_EQ(choose_coding(gzip, "br"), std::nullopt);
}

TEST(Compression, IsOfTextAndNeverOfStreams) {
  Compression config;
  EXPECT_TRUE(is_compressible(config, "text/html; charset=utf-8"));
  EXPECT_TRUE(is_compressible(config, "Application/JSON"));
  EXPECT_FALSE(is_compressible(config, "image/png"));
  EXPECT_FALSE(is_compressible(config, ""));
  config.types = {"text/*", "application/*"};
  EXPECT_TRUE(is_compressible(config, "text/anything"));
  EXPECT_FALSE(is_compressible(config, "text/event-stream"));
  EXPECT_FALSE(is_compressible(config, "application/grpc+proto"));
}

TEST(Compression, FindsDirectives) {
  EXPECT_TRUE(has_directive("public, No-Transform", "no-transform"));
  EXPECT_FALSE(has_directive("public, max-age=5", "no-transform"));
}

}  // namespace
}  // namespace sluice::policy
