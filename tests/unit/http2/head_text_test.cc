// HTTP/2 heads as HTTP/1.1 text: what is written, and what has no such form.
#include "gateway/http2/head_text.h"

#include <gtest/gtest.h>
#include <initializer_list>
#include <utility>

#include "gateway/http1/head.h"

namespace sluice::gateway::http2 {
namespace {

using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;

HeadText head_of(Fields fields) {
  HeadText text;
  text.reset();
  for (const auto& [name, value] : fields)
    text.add(name, value);
  return text;
}

HeadError request_error(Fields fields) {
  return head_of(fields).finish_request(false);
}

TEST(HeadText, WritesARequestThatTheParserReads) {
  HeadText text = head_of({{":method", "GET"},
                           {":scheme", "https"},
                           {":authority", "a.example"},
                           {":path", "/x?q"},
                           {"cookie", "a=1"},
                           {"accept", "*/*"},
                           {"cookie", "b=2"}});
  ASSERT_EQ(text.finish_request(false), HeadError::none);
  EXPECT_EQ(text.text(),
            "GET /x?q HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\ncookie: a=1; b=2\r\n\r\n");
  http1::RequestParser parser;
  http1::RequestHead head;
  EXPECT_EQ(parser.parse(text.text(), head), http1::Progress::complete);
  EXPECT_EQ(head.body(), http1::BodyKind::none);
}

TEST(HeadText, ABodyOfUnknownLengthIsChunked) {
  HeadText text =
      head_of({{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}});
  ASSERT_EQ(text.finish_request(true), HeadError::none);
  EXPECT_TRUE(text.text().ends_with("transfer-encoding: chunked\r\n\r\n"));
  HeadText known = head_of({{":method", "POST"},
                            {":scheme", "http"},
                            {":authority", "a"},
                            {":path", "/"},
                            {"content-length", "3"}});
  ASSERT_EQ(known.finish_request(true), HeadError::none);
  EXPECT_EQ(known.text().find("transfer-encoding"), std::string_view::npos);
}

TEST(HeadText, HostServesWhereThereIsNoAuthority) {
  HeadText text =
      head_of({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"host", "A.example"}});
  ASSERT_EQ(text.finish_request(false), HeadError::none);
  EXPECT_EQ(text.text(), "GET / HTTP/1.1\r\nhost: A.example\r\n\r\n");
  EXPECT_EQ(request_error({{":method", "GET"},
                           {":scheme", "http"},
                           {":authority", "a"},
                           {":path", "/"},
                           {"host", "b"}}),
            HeadError::bad_authority);
  EXPECT_EQ(request_error({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}}),
            HeadError::bad_authority);
}

TEST(HeadText, RefusesWhatWouldBecomeAnotherLine) {
  const auto with = [](std::string_view name, std::string_view value) {
    return request_error({{":method", "GET"},
                          {":scheme", "http"},
                          {":authority", "a"},
                          {":path", "/"},
                          {name, value}});
  };
  EXPECT_EQ(with("x", "a\r\nb: c"), HeadError::bad_value);
  EXPECT_EQ(with("x", "a\nb"), HeadError::bad_value);
  EXPECT_EQ(with("x", std::string_view("a\0b", 3)), HeadError::bad_value);
  EXPECT_EQ(with("x", " a"), HeadError::bad_value);
  EXPECT_EQ(with("x: y\r\nz", "a"), HeadError::bad_name);
  EXPECT_EQ(with("X", "a"), HeadError::bad_name);
  EXPECT_EQ(with("", "a"), HeadError::bad_name);
  EXPECT_EQ(with("transfer-encoding", "chunked"), HeadError::hop_by_hop);
  EXPECT_EQ(with("connection", "x"), HeadError::hop_by_hop);
  EXPECT_EQ(with("te", "gzip"), HeadError::hop_by_hop);
  EXPECT_EQ(with("te", "trailers"), HeadError::none);
  EXPECT_EQ(with(":late", "a"), HeadError::bad_pseudo);
  EXPECT_EQ(with(":path", "/twice"), HeadError::bad_pseudo);
  EXPECT_EQ(with(":status", "200"), HeadError::bad_pseudo);
}

TEST(HeadText, RefusesTargetsOfOtherForms) {
  const auto to = [](std::string_view method, std::string_view path) {
    return request_error(
        {{":method", method}, {":scheme", "http"}, {":authority", "a"}, {":path", path}});
  };
  EXPECT_EQ(to("GET", ""), HeadError::bad_path);
  EXPECT_EQ(to("GET", "x"), HeadError::bad_path);
  EXPECT_EQ(to("GET", "*"), HeadError::bad_path);
  EXPECT_EQ(to("OPTIONS", "*"), HeadError::none);
  EXPECT_EQ(to("GET", "http://b/"), HeadError::bad_path);
  EXPECT_EQ(to("GET", "/ HTTP/1.1"), HeadError::bad_path);
  EXPECT_EQ(to("GET /", "/"), HeadError::bad_pseudo);
}

TEST(HeadText, CountsTheListAsSettingsDo) {
  HeadText text;
  text.reset();
  const std::string value(1000, 'v');
  for (int i = 0; i < 32; ++i)
    text.add("x", value);
  EXPECT_EQ(text.error(), HeadError::too_large);
  EXPECT_EQ(text.list_size(), 32u * (1 + 1000 + 32));
}

TEST(HeadText, WritesAnAnswer) {
  HeadText text = head_of({{":status", "200"}, {"set-cookie", "a"}, {"set-cookie", "b"}});
  ASSERT_EQ(text.finish_response(true, false), HeadError::none);
  EXPECT_EQ(
      text.text(),
      "HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ntransfer-encoding: chunked\r\n\r\n");
  EXPECT_EQ(head_of({{":status", "101"}}).finish_response(true, false), HeadError::bad_pseudo);
  EXPECT_EQ(head_of({{"x", "y"}}).finish_response(true, false), HeadError::bad_pseudo);
  HeadText empty = head_of({{":status", "200"}});
  ASSERT_EQ(empty.finish_response(false, false), HeadError::none);
  EXPECT_TRUE(empty.text().ends_with("content-length: 0\r\n\r\n"));
  HeadText of_head = head_of({{":status", "200"}});
  ASSERT_EQ(of_head.finish_response(false, true), HeadError::none);
  EXPECT_EQ(of_head.text(), "HTTP/1.1 200 OK\r\n\r\n");
}

TEST(HeadText, TrailersLeaveOutWhatMustNotComeLate) {
  HeadText text;
  text.reset_for_trailers();
  text.add("grpc-status", "0");
  text.add("host", "evil");
  text.add("content-length", "5");
  ASSERT_EQ(text.finish_trailers(), HeadError::none);
  EXPECT_EQ(text.text(), "grpc-status: 0\r\n");
  text.reset_for_trailers();
  text.add(":path", "/");
  EXPECT_EQ(text.finish_trailers(), HeadError::bad_pseudo);
}

}  // namespace
}  // namespace sluice::gateway::http2
