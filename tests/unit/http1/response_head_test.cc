#include <gtest/gtest.h>

#include "gateway/http1/head.h"
#include "tests/unit/http1/head_summary.h"

namespace sluice::gateway::http1 {
namespace {

constexpr ResponseContext kGet{};
constexpr ResponseContext kHead{.request_method = Method::head};
constexpr ResponseContext kUpgrade{.upgrade_offered = true};

std::string parse(std::string_view bytes, const ResponseContext& context = kGet) {
  const auto cut_at = [&](std::size_t cut) {
    return parse_in_two<ResponseParser, ResponseHead>(bytes, cut, HeadLimits{}, context);
  };
  const std::string once = cut_at(bytes.size());
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_EQ(cut_at(cut), once) << "cut at " << cut << " of:\n" << bytes;
  }
  return once;
}

struct Parsed {
  explicit Parsed(std::string text, const ResponseContext& context = kGet)
      : bytes(std::move(text)) {
    ResponseParser parser;
    EXPECT_EQ(parser.parse(bytes, context, head), Progress::complete)
        << name(parser.error()) << " in:\n"
        << bytes;
    parse(bytes, context);
  }
  std::string bytes;
  ResponseHead head;
};

std::string response(std::string_view code, std::string_view fields) {
  return "HTTP/1.1 " + std::string(code) + " X\r\n" + std::string(fields) + "\r\n";
}

TEST(ResponseHead, Plain) {
  const Parsed it("HTTP/1.1 404 Not \tFound \xe4\r\nServer: x\r\nContent-Length: 12\r\n\r\nbody");
  EXPECT_EQ(it.head.status(), 404);
  EXPECT_EQ(it.head.reason(), "Not \tFound \xe4");
  EXPECT_EQ(it.head.body(), BodyKind::length);
  EXPECT_EQ(it.head.content_length(), 12u);
  EXPECT_TRUE(it.head.keep_alive());
  EXPECT_FALSE(it.head.interim());
  EXPECT_EQ(it.head.size(), it.bytes.size() - 4);
  EXPECT_EQ(it.head.fields().first(KnownField::server), "x");
}

TEST(ResponseHead, StatusLines) {
  EXPECT_EQ(Parsed("HTTP/1.1 200\r\n\r\n").head.reason(), "");
  EXPECT_EQ(Parsed("HTTP/1.1 200 \r\n\r\n").head.status(), 200);
  EXPECT_EQ(Parsed("HTTP/1.0 999 x\r\n\r\n").head.minor_version(), 0);
  for (const char* bad :
       {"HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK", "HTTP/1.1 000 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 20a OK",
        "HTTP/1.1 200OK", "HTTP/1.1 200\tOK", "HTTP/1.1\t200 OK", "http/1.1 200 OK", "ICY 200 OK",
        "200 OK", " HTTP/1.1 200 OK", "HTTP/1.12 00 OK"}) {
    EXPECT_EQ(parse(std::string(bad) + "\r\n\r\n"), "bad_status_line") << bad;
  }
  EXPECT_EQ(parse("HTTP/2.0 200 OK\r\n\r\n"), "unsupported_version");
  EXPECT_EQ(parse("\r\nHTTP/1.1 200 OK\r\n\r\n"), "bad_status_line");
  EXPECT_EQ(parse("HTTP/1.1 200 a\rb\r\n\r\n"), "bare_cr");
  EXPECT_EQ(parse("HTTP/1.1 200 OK\n\n"), "bare_lf");
  EXPECT_EQ(parse(std::string("HTTP/1.1 200 a\0b\r\n\r\n", 19)), "control_byte");
}

TEST(ResponseHead, Bodies) {
  const auto body = [](std::string_view code, std::string_view fields,
                       const ResponseContext& context = kGet) {
    const Parsed it(response(code, fields), context);
    return body_summary(it.head.body(), it.head.content_length());
  };
  EXPECT_EQ(body("200", "Content-Length: 5\r\n"), "length 5");
  EXPECT_EQ(body("200", "Content-Length: 0\r\n"), "none");
  EXPECT_EQ(body("200", "Transfer-Encoding: chunked\r\n"), "chunked");
  EXPECT_EQ(body("200", ""), "until_close");
  EXPECT_EQ(body("205", ""), "until_close");
  EXPECT_EQ(body("204", ""), "none");
  EXPECT_EQ(body("204", "Content-Length: 0\r\n"), "none");
  EXPECT_EQ(body("304", "Content-Length: 500\r\n"), "none");
  EXPECT_EQ(body("304", ""), "none");
  EXPECT_EQ(body("100", ""), "none");
  EXPECT_EQ(body("103", "Link: x\r\n"), "none");
  EXPECT_EQ(body("200", "Content-Length: 5\r\n", kHead), "none");
  EXPECT_EQ(body("200", "Transfer-Encoding: chunked\r\n", kHead), "none");
  EXPECT_EQ(body("200", "", kHead), "none");
}

TEST(ResponseHead, RefusedFraming) {
  const std::pair<const char*, const char*> cases[] = {
      {"Content-Length: 5\r\nContent-Length: 5\r\n", "duplicate_content_length"},
      {"Content-Length: 5, 5\r\n", "bad_content_length"},
      {"Content-Length: +5\r\n", "bad_content_length"},
      {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
       "content_length_with_transfer_encoding"},
      {"Transfer-Encoding: gzip\r\n", "bad_transfer_encoding"},
      {"Transfer-Encoding: gzip, chunked\r\n", "unknown_transfer_coding"},
      {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "bad_transfer_encoding"},
      {"A: b\r\n c\r\n", "obs_fold"},
      {"A : b\r\n", "space_before_colon"},
      {"Connection: a b\r\n", "bad_connection"},
  };
  for (const auto& [fields, error] : cases) {
    EXPECT_EQ(parse(response("200", fields)), error) << fields;
    EXPECT_EQ(parse(response("200", fields), kHead), error) << fields;
    EXPECT_EQ(parse(response("304", fields)), error) << fields;
  }
  EXPECT_EQ(parse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "transfer_encoding_in_http10");
  EXPECT_EQ(parse(response("204", "Content-Length: 1\r\n")), "body_not_allowed");
  EXPECT_EQ(parse(response("204", "Transfer-Encoding: chunked\r\n")), "body_not_allowed");
  EXPECT_EQ(parse(response("100", "Content-Length: 1\r\n")), "body_not_allowed");
}

TEST(ResponseHead, KeepAlive) {
  const auto keep = [](std::string_view bytes) {
    return Parsed(std::string(bytes)).head.keep_alive();
  };
  EXPECT_TRUE(keep("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_FALSE(keep("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
  EXPECT_FALSE(keep("HTTP/1.1 200 OK\r\n\r\n"));
  EXPECT_FALSE(keep("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_TRUE(keep("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_FALSE(keep("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
}

TEST(ResponseHead, Interim) {
  EXPECT_TRUE(Parsed(response("100", "")).head.interim());
  EXPECT_TRUE(Parsed(response("199", "")).head.interim());
  EXPECT_FALSE(Parsed(response("200", "")).head.interim());

  // One after the other on the same parser, as they come from an origin.
  const std::string bytes = response("100", "") + response("200", "Content-Length: 1\r\n");
  ResponseParser parser;
  ResponseHead head;
  ASSERT_EQ(parser.parse(bytes, kGet, head), Progress::complete);
  ASSERT_TRUE(head.interim());
  parser.reset();
  ASSERT_EQ(parser.parse(std::string_view(bytes).substr(head.size()), kGet, head),
            Progress::complete);
  EXPECT_EQ(head.status(), 200);
  EXPECT_EQ(head.content_length(), 1u);
}

TEST(ResponseHead, Switching) {
  const std::string fields = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
  const Parsed it(response("101", fields), kUpgrade);
  EXPECT_TRUE(it.head.switching());
  EXPECT_FALSE(it.head.interim());
  EXPECT_FALSE(it.head.keep_alive());
  EXPECT_EQ(it.head.body(), BodyKind::none);
  EXPECT_EQ(parse(response("101", fields), kGet), "unexpected_upgrade");
  EXPECT_EQ(parse(response("101", ""), kUpgrade), "unexpected_upgrade");
  EXPECT_EQ(parse(response("101", "Upgrade: h2c\r\n"), kUpgrade), "unexpected_upgrade");
  EXPECT_EQ(parse("HTTP/1.0 101 X\r\n" + fields + "\r\n", kUpgrade), "unexpected_upgrade");
  EXPECT_EQ(parse(response("101", fields + "Content-Length: 5\r\n"), kUpgrade), "body_not_allowed");
}

}  // namespace
}  // namespace sluice::gateway::http1
