#include "gateway/log.h"

#include <gtest/gtest.h>

namespace sluice::gateway {
namespace {

TEST(LogTest, KeysAndValues) {
  EXPECT_EQ(format_log_line(LogLevel::info, "listener", "ready",
                            {{"address", "0.0.0.0:80"}, {"workers", 2}, {"tls", false}}),
            "info  listener: ready address=0.0.0.0:80 workers=2 tls=false");
}

TEST(LogTest, HostileValuesStayOnTheirLine) {
  EXPECT_EQ(format_log_line(LogLevel::error, "http", "refused\nerror fake: line",
                            {{"host", "a b\r\n\x1b[2J\"\\"}, {"empty", ""}}),
            "error http: refused\\nerror fake: line "
            "host=\"a b\\x0d\\n\\x1b[2J\\\"\\\\\" empty=\"\"");
}

}  // namespace
}  // namespace sluice::gateway
