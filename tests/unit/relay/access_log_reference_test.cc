// docs/access-log.md has every field of a line, in the order of the line, and no other.
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "gateway/access_log.h"

namespace sluice::gateway {
namespace {

AccessRecord record_with_everything() {
  using namespace std::chrono_literals;
  AccessRecord record;
  record.clear();
  record.connection = 1;
  record.request = record.attempts = 1;
  record.status = 200;
  record.grpc_status = 14;
  record.total = record.wait = record.connect = record.first_byte = 1ms;
  record.client = record.destination = record.endpoint =
      *policy::SocketAddress::parse("192.0.2.1:1");
  record.listener.assign("a");
  record.method.assign("GET");
  record.host.assign("a");
  record.path.assign("/");
  record.route.assign("a");
  record.upstream.assign("a");
  record.request_id.assign("a");
  record.trace_id.assign("a");
  record.reason.assign("a");
  return record;
}

std::vector<std::string> documented() {
  std::ifstream page(SLUICE_SOURCE_DIR "/docs/access-log.md");
  std::vector<std::string> fields;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("| `")) fields.push_back(line.substr(3, line.find('`', 3) - 3));
  }
  return fields;
}

TEST(AccessLogReferenceTest, TheTableInDocsIsWhatALineHas) {
  std::string line;
  format_access_json(record_with_everything(), line);
  std::vector<std::string> written;
  for (const auto& [key, value] : boost::json::parse(line).as_object())
    written.emplace_back(key);
  EXPECT_EQ(documented(), written);
}

// A slot of the ring is used again and again: nothing of the last line may stay in it.
TEST(AccessLogReferenceTest, AClearedRecordHasNothingLeft) {
  AccessRecord record = record_with_everything();
  record.clear();
  std::string line;
  format_access_json(record, line);
  EXPECT_EQ(line,
            R"({"time":"1970-01-01T00:00:00.000000Z","kind":"request","connection":0,"way":"bind",)"
            R"("bytes_in":0,"bytes_out":0})");
}

}  // namespace
}  // namespace sluice::gateway
