#include "gateway/access_log.h"

#include <cstdio>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <boost/json.hpp>

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;
using Format = policy::AccessLogConfig::Format;

std::string file_name(const char* what) {
  return ::testing::TempDir() + what + "." + std::to_string(::getpid());
}

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);)
    lines.push_back(line);
  return lines;
}

AccessRecord full_record() {
  AccessRecord record;
  record.clear();
  record.way = WayIn{2};
  record.time = std::chrono::system_clock::time_point(1'700'000'000'123'456us);
  record.connection = 77;
  record.request = 2;
  record.attempts = 1;
  record.status = 200;
  record.bytes_in = 10;
  record.bytes_out = 1234;
  record.total = 12'345'678ns;
  record.first_byte = 1ms;
  record.client = *policy::SocketAddress::parse("10.1.0.2:40000");
  record.destination = *policy::SocketAddress::parse("[2001:db8::1]:443");
  record.endpoint = *policy::SocketAddress::parse("192.0.2.10:8080");
  record.listener.assign("web");
  record.method.assign("GET");
  record.host.assign("api.example.com");
  record.set_target("/v1/things?key=secret");
  record.route.assign("api");
  record.upstream.assign("pool");
  return record;
}

TEST(AccessFormatTest, JsonHasEveryField) {
  std::string line;
  format_access_json(full_record(), line);
  EXPECT_EQ(line,
            R"({"time":"2023-11-14T22:13:20.123456Z","kind":"request","connection":77,"request":2,)"
            R"("listener":"web","way":"forward","client":"10.1.0.2:40000",)"
            R"("destination":"[2001:db8::1]:443","method":"GET","host":"api.example.com",)"
            R"("path":"/v1/things?…","route":"api","upstream":"pool","endpoint":"192.0.2.10:8080",)"
            R"("attempts":1,"status":200,"bytes_in":10,"bytes_out":1234,"duration_ms":12.345,)"
            R"("first_byte_ms":1.000})");
}

TEST(AccessFormatTest, TextHasColumns) {
  AccessRecord record = full_record();
  record.host.assign("a b\r\n\"c\"");
  std::string line;
  format_access_text(record, line);
  EXPECT_EQ(
      line,
      "2023-11-14T22:13:20.123456Z request web/forward 10.1.0.2:40000>[2001:db8::1]:443 "
      "\"GET a\\x20b\\x0d\\x0a\\x22c\\x22 /v1/things?…\" api pool>192.0.2.10:8080 200 10/1234 "
      "12.345ms - -");
}

TEST(AccessFormatTest, SecretsOfTheTargetAreNotKept) {
  AccessRecord record = full_record();
  for (const char* target : {"http://user:hunter2@example.com/x?token=hunter2", "/x?hunter2",
                             "//u:hunter2@h/?hunter2", "ws://a:hunter2@b?hunter2"}) {
    record.set_target(target);
    std::string json;
    std::string text;
    format_access_json(record, json);
    format_access_text(record, text);
    EXPECT_THAT(json, HasSubstr("?…")) << target;
    if (std::string_view(target).starts_with("//")) continue;  // origin-form: a path that looks odd
    EXPECT_THAT(json, Not(HasSubstr("hunter2"))) << target;
    EXPECT_THAT(text, Not(HasSubstr("hunter2"))) << target;
  }
}

// Every byte value, alone and inside what looks like the start of a UTF-8 sequence.
TEST(AccessFormatTest, JsonIsValidWhateverTheBytes) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      std::string hostile = "a";
      hostile += static_cast<char>(first);
      hostile += static_cast<char>(second);
      AccessRecord record = full_record();
      record.host.assign(hostile);
      record.path.assign(hostile + hostile);
      std::string line;
      format_access_json(record, line);
      boost::system::error_code error;
      const auto parsed = boost::json::parse(line, error);  // refuses what is not UTF-8, too
      ASSERT_FALSE(error) << first << ' ' << second << ' ' << line;
      ASSERT_EQ(line.find('\n'), std::string::npos);
      if (first >= 0x20 && first < 0x7f && second >= 0x20 && second < 0x7f) {
        ASSERT_EQ(parsed.at("host").as_string(), hostile);
      }
    }
  }
}

TEST(AccessFormatTest, LongAndTruncatedTextIsMarked) {
  AccessRecord record = full_record();
  record.path.assign(std::string(255, 'x') + "é");  // cut inside the character
  std::string line;
  format_access_json(record, line);
  boost::system::error_code error;
  const auto parsed = boost::json::parse(line, error);
  ASSERT_FALSE(error) << line;
  EXPECT_THAT(std::string(parsed.at("path").as_string()), HasSubstr("x\u00c3…"));
}

TEST(AccessRingTest, CountsWhatDoesNotFit) {
  AccessRing ring(4);
  for (int i = 0; i < 4; ++i) {
    ASSERT_NE(ring.begin(), nullptr);
    ring.commit();
  }
  EXPECT_EQ(ring.begin(), nullptr);
  EXPECT_EQ(ring.begin(), nullptr);
  EXPECT_EQ(ring.dropped(), 2U);
}

TEST(AccessLogTest, EveryRecordIsWrittenOrCounted) {
  const std::string path = file_name("access-load");
  constexpr std::uint64_t kRecords = 20'000;
  std::uint64_t dropped = 0;
  {
    auto log = AccessLog::open({.workers = 2, .ring_capacity = 256}, {Format::json, path});
    ASSERT_TRUE(log) << log.error();
    const auto produce = [&](std::uint32_t worker) {
      for (std::uint64_t i = 0; i < kRecords; ++i) {
        if (AccessRecord* record = (*log)->ring(worker).begin()) {
          record->connection = worker * kRecords + i;
          (*log)->ring(worker).commit();
        }
      }
    };
    std::thread other(produce, 1);
    produce(0);
    other.join();
    (*log)->flush();
    dropped = (*log)->dropped();
    EXPECT_EQ((*log)->written() + dropped, 2 * kRecords);
  }
  std::set<std::int64_t> seen;
  for (const std::string& line : lines_of(path)) {
    seen.insert(boost::json::parse(line).at("connection").as_int64());
  }
  EXPECT_EQ(seen.size() + dropped, 2 * kRecords) << "a line is there twice, or torn";
  std::remove(path.c_str());
}

TEST(AccessLogTest, WakesFromItsSleep) {
  const std::string path = file_name("access-sleep");
  auto log = AccessLog::open({.workers = 1, .ring_capacity = 64}, {Format::json, path});
  ASSERT_TRUE(log) << log.error();
  std::this_thread::sleep_for(1500ms);  // long enough for the writer to go to sleep
  AccessRecord* record = (*log)->ring(0).begin();
  record->connection = 5;
  (*log)->ring(0).commit();
  for (int i = 0; i < 1000 && (*log)->written() == 0; ++i)
    std::this_thread::sleep_for(20ms);
  EXPECT_EQ((*log)->written(), 1U);
  std::remove(path.c_str());
}

TEST(AccessLogTest, ReopenFollowsRotationAndConfigureMoves) {
  const std::string path = file_name("access-rotate");
  const std::string moved = path + ".1";
  const std::string text = path + ".text";
  auto log = AccessLog::open({.workers = 1, .ring_capacity = 64}, {Format::json, path});
  ASSERT_TRUE(log) << log.error();
  const auto write = [&](std::uint64_t id) {
    (*log)->ring(0).begin()->connection = id;
    (*log)->ring(0).commit();
    (*log)->flush();
  };
  write(1);
  ASSERT_EQ(std::rename(path.c_str(), moved.c_str()), 0);
  write(2);  // still the same file
  ASSERT_TRUE((*log)->reopen());
  write(3);
  EXPECT_FALSE((*log)->configure({Format::json, "/nonexistent/dir/access.log"}));
  write(4);
  ASSERT_TRUE((*log)->configure({Format::text, text}));
  write(5);
  ASSERT_TRUE((*log)->configure({Format::none, ""}));
  EXPECT_FALSE((*log)->enabled());
  EXPECT_EQ(lines_of(moved).size(), 2U);
  EXPECT_EQ(lines_of(path).size(), 2U);
  EXPECT_EQ(lines_of(text).size(), 1U);
  for (const std::string& file : {path, moved, text})
    std::remove(file.c_str());
}

TEST(AccessLogTest, WhatCouldNotBeOpenedIsTriedAgainByReopen) {
  const std::string path = file_name("access-before");
  const std::string rotated = path + ".1";
  const std::string directory = file_name("access-later");
  const std::string wanted = directory + "/access.log";
  auto log = AccessLog::open({.workers = 1, .ring_capacity = 64}, {Format::json, path});
  ASSERT_TRUE(log) << log.error();
  const auto write = [&](std::uint64_t id) {
    (*log)->ring(0).begin()->connection = id;
    (*log)->ring(0).commit();
    (*log)->flush();
  };
  EXPECT_EQ((*log)->problem(), "");
  EXPECT_FALSE((*log)->configure({Format::text, wanted}));
  EXPECT_THAT((*log)->problem(), HasSubstr(wanted));
  ASSERT_EQ(std::rename(path.c_str(), rotated.c_str()), 0);
  EXPECT_FALSE((*log)->reopen());
  write(1);
  EXPECT_EQ(lines_of(path).size(), 1U) << "the one that goes on is opened anew all the same";
  ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
  EXPECT_TRUE((*log)->reopen());
  EXPECT_EQ((*log)->problem(), "");
  write(2);
  ASSERT_EQ(lines_of(wanted).size(), 1U);
  EXPECT_FALSE(lines_of(wanted).front().starts_with("{")) << "the format of the policy";
  EXPECT_FALSE((*log)->configure({Format::json, directory + "/none/access.log"}));
  EXPECT_TRUE((*log)->configure({Format::json, path}));
  EXPECT_EQ((*log)->problem(), "") << "a policy that can be followed ends it";
  for (const std::string& file : {path, rotated, wanted})
    std::remove(file.c_str());
  ::rmdir(directory.c_str());
}

TEST(AccessLogTest, FullDiskIsCountedNotFatal) {
  auto log = AccessLog::open({.workers = 1, .ring_capacity = 64}, {Format::json, "/dev/full"});
  ASSERT_TRUE(log) << log.error();
  ASSERT_NE((*log)->ring(0).begin(), nullptr);
  (*log)->ring(0).commit();
  (*log)->flush();
  EXPECT_EQ((*log)->dropped(), 1U);
  EXPECT_EQ((*log)->written(), 0U);
}

TEST(AccessLogTest, RefusedPathIsNamed) {
  const auto log = AccessLog::open({}, {Format::json, "/nonexistent/dir/access.log"});
  ASSERT_FALSE(log);
  EXPECT_THAT(log.error(), HasSubstr("/nonexistent/dir/access.log"));
  EXPECT_THAT(log.error(), HasSubstr("No such file"));
}

}  // namespace
}  // namespace sluice::gateway
