#include "gateway/http1/head_writer.h"

#include <gtest/gtest.h>
#include <string>
#include <string_view>

#include "tests/unit/http1/head_summary.h"

namespace sluice::gateway::http1 {
namespace {

// A caller's head, for its method.
struct Caller {
  explicit Caller(std::string_view method)
      : text(std::string(method) + " / HTTP/1.1\r\nhost: a\r\n\r\n") {
    RequestParser parser;
    EXPECT_EQ(parser.parse(text, head), Progress::complete);
  }
  std::string text;
  RequestHead head;
};

struct Written {
  // With `more` fields besides those of every request.
  Written(std::string_view target, std::string_view authority, std::string_view value,
          std::uint64_t body, int more = 0, std::string_view method = "POST") {
    const Caller caller(method);
    RequestWriter writer(text, head);
    writer.method(caller.head);
    text.append(target);
    writer.host(authority);
    writer.field("authorization", value, KnownField::authorization, "Bearer ");
    writer.field("X-Other", value, KnownField::unknown);
    writer.field("accept", "", KnownField::accept);
    for (int i = 0; i < more; ++i)
      writer.field("x", "y", KnownField::unknown);
    good = writer.end(body);
  }
  std::string text;
  RequestHead head;
  bool good = false;
};

std::string parsed(std::string_view text) {
  RequestParser parser;
  RequestHead head;
  const Progress progress = parser.parse(text, head);
  return outcome(progress, parser.error(), head);
}

TEST(RequestWriter, WritesWhatTheParserReads) {
  for (const std::string_view target :
       {"/", "/v1/chat/completions", "/a?", "/a?b=c&d", "/a//b/../c", "/%41"}) {
    for (const std::string_view authority : {"a", "a.example:8080", "127.0.0.1:1", "[::1]:65535"}) {
      for (const std::uint64_t body : {0UL, 1UL, 12'345'678'901UL}) {
        const Written it(target, authority, "a value", body);
        ASSERT_TRUE(it.good) << target << " " << authority;
        EXPECT_EQ(summary(it.head), parsed(it.text));
        EXPECT_EQ(it.head.bytes(), it.text);
      }
    }
  }
  for (const std::string_view method : {"GET", "DELETE", "FOO"}) {
    const Written it("/", "a", "b", 0, 0, method);
    EXPECT_EQ(summary(it.head), parsed(it.text));
  }
}

// One head after the other, as of a request's tries.
TEST(RequestWriter, NothingStaysOfTheHeadBefore) {
  const Caller caller("POST");
  std::string text;
  RequestHead head;
  for (const bool first : {true, false}) {
    RequestWriter writer(text, head);
    writer.method(caller.head);
    text.append(first ? "/a?b" : "/c");
    writer.host(first ? "a:1" : "b");
    if (first) writer.field("authorization", "x", KnownField::authorization);
    ASSERT_TRUE(writer.end(first ? 7 : 0));
    EXPECT_EQ(summary(head), parsed(text));
  }
  EXPECT_FALSE(head.fields().has(KnownField::authorization));
}

TEST(RequestWriter, RefusesWhatTheParserRefuses) {
  EXPECT_FALSE(Written("/a b", "a", "b", 0).good);
  EXPECT_FALSE(Written("/a\r\nx: y", "a", "b", 0).good);
  EXPECT_FALSE(Written("/a?b c", "a", "b", 0).good);
  EXPECT_FALSE(Written("a", "a", "b", 0).good);
  EXPECT_FALSE(Written("", "a", "b", 0).good);
  EXPECT_FALSE(Written("/", "a b", "b", 0).good);
  EXPECT_FALSE(Written("/", "", "b", 0).good);
  // With host and three of its own.
  EXPECT_TRUE(Written("/", "a", "b", 0, 124).good);
  EXPECT_FALSE(Written("/", "a", "b", 0, 125).good);
  EXPECT_TRUE(Written("/", "a", "b", 1, 123).good);
  EXPECT_FALSE(Written("/", "a", "b", 1, 124).good);
}

TEST(RequestWriter, IsAsLargeAsTheParserAllows) {
  for (std::size_t size = 16 * 1024 - 20; size < 16 * 1024 + 2; ++size) {
    const Written it("/" + std::string(size, 'a'), "a", "b", 1);
    EXPECT_EQ(it.good ? summary(it.head) : "request_line_too_long", parsed(it.text)) << size;
  }
  for (std::size_t size = 16'290; size < 16'400; ++size) {
    const Written it("/", "a", std::string(size, 'b'), 1);
    EXPECT_EQ(it.good ? summary(it.head) : "head_too_large", parsed(it.text)) << size;
  }
  EXPECT_FALSE(Written("/", "a", std::string(100'000, 'b'), 1).good);
}

std::string own(std::string_view text) {
  ResponseHead head;
  return read_own_response(text, head) ? summary(head) : "refused";
}

std::string parsed_response(std::string_view text) {
  ResponseParser parser;
  ResponseHead head;
  return parser.parse(text, {}, head) == Progress::complete ? summary(head) : "refused";
}

TEST(OwnResponse, IsReadAsTheParserReadsIt) {
  for (const std::string_view start :
       {"HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 304 ", "HTTP/1.1 404 Not Found",
        "HTTP/1.1 999 "}) {
    for (const std::string_view framing :
         {"content-length: 0\r\n", "content-length: 7\r\n", "transfer-encoding: chunked\r\n", ""}) {
      for (const std::string_view lines :
           {"",
            "content-type: application/json\r\nX-Sluice-Provider: a b: c\r\nretry-after: \r\n"}) {
        const std::string text =
            std::string(start) + "\r\n" + std::string(lines) + std::string(framing) + "\r\n";
        EXPECT_EQ(own(text), parsed_response(text)) << text;
      }
    }
  }
}

TEST(OwnResponse, IsAsLargeAsTheParserAllows) {
  const std::string begin = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n";
  for (const std::size_t count : {126U, 127U, 128U}) {
    std::string text = begin;
    for (std::size_t i = 0; i < count; ++i)
      text += "a: b\r\n";
    text += "\r\n";
    EXPECT_EQ(own(text), parsed_response(text)) << count;
  }
  for (std::size_t size = 32'700; size < 32'740; ++size) {
    const std::string text = begin + "a: " + std::string(size, 'b') + "\r\n\r\n";
    EXPECT_EQ(own(text), parsed_response(text)) << size;
  }
}

TEST(OwnResponse, OfWhatIsNoHeadNothingIsRead) {
  for (const std::string_view text :
       {"", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\na: b",
        "HTTP/1.1 200 OK\r\na: b\r\n", "HTTP/1.1 200 OK\r\na:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nab\r\nc: d\r\n\r\n", "HTTP/1.1 200 OK\r\na: b\r\n\r\nmore",
        "HTTP/1.1 101 \r\n\r\n"})
    EXPECT_EQ(own(text), "refused") << text;
}

}  // namespace
}  // namespace sluice::gateway::http1
