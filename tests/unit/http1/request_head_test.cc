#include <gtest/gtest.h>

#include "gateway/http1/head.h"
#include "tests/unit/http1/head_summary.h"

namespace sluice::gateway::http1 {
namespace {

using namespace std::string_literals;

// One shot, and cut at every offset: always the same.
std::string parse(std::string_view bytes, HeadLimits limits = {}) {
  const std::string once = parse_in_two<RequestParser, RequestHead>(bytes, bytes.size(), limits);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_EQ((parse_in_two<RequestParser, RequestHead>(bytes, cut, limits)), once)
        << "cut at " << cut << " of:\n"
        << bytes;
  }
  return once;
}

// The head that a test looks into closely; keeps its bytes.
struct Parsed {
  explicit Parsed(std::string text) : bytes(std::move(text)) {
    RequestParser parser;
    progress = parser.parse(bytes, head);
    error = parser.error();
    EXPECT_EQ(progress, Progress::complete) << name(error) << " in:\n" << bytes;
    parse(bytes);
  }
  std::string bytes;
  RequestHead head;
  Progress progress;
  ParseError error;
};

std::string get(std::string_view fields) {
  return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}
std::string post(std::string_view fields) {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}
std::string target(std::string_view text) {
  return "GET " + std::string(text) + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

TEST(RequestHead, PlainGet) {
  const Parsed it(
      "GET /a/b?x=1&y HTTP/1.1\r\nHost: Example.com:8080\r\nAccept:  */* \t\r\nX-A:\r\n\r\n");
  EXPECT_EQ(it.head.method(), Method::get);
  EXPECT_EQ(it.head.target(), "/a/b?x=1&y");
  EXPECT_EQ(it.head.path(), "/a/b");
  EXPECT_TRUE(it.head.path_is_normal());
  EXPECT_TRUE(it.head.has_query());
  EXPECT_EQ(it.head.query(), "x=1&y");
  EXPECT_EQ(it.head.authority(), "Example.com:8080");
  EXPECT_EQ(it.head.host(), "Example.com");
  EXPECT_EQ(it.head.port(), 8080);
  EXPECT_EQ(it.head.minor_version(), 1);
  EXPECT_EQ(it.head.body(), BodyKind::none);
  EXPECT_TRUE(it.head.keep_alive());
  EXPECT_EQ(it.head.size(), it.bytes.size());
  ASSERT_EQ(it.head.fields().size(), 3u);
  EXPECT_EQ(it.head.fields().first(KnownField::accept), "*/*");
  EXPECT_EQ(it.head.fields().first("x-a"), "");
  EXPECT_EQ(it.head.fields()[2].name, "X-A");
  EXPECT_TRUE(it.head.fields().has(KnownField::host));
  EXPECT_FALSE(it.head.fields().has(KnownField::cookie));
}

TEST(RequestHead, BytesBehindTheHeadAreLeftAlone) {
  const std::string head = get("");
  const Parsed it(head + "GET / HTTP/1.1\r\n\x01 and whatever");
  EXPECT_EQ(it.head.size(), head.size());
}

TEST(RequestHead, OneEmptyLineInFrontIsTolerated) {
  const Parsed it("\r\n" + get(""));
  EXPECT_EQ(it.head.method(), Method::get);
  EXPECT_EQ(it.head.size(), get("").size() + 2);
  EXPECT_EQ(parse("\r\n\r\n" + get("")), "empty_lines");
  EXPECT_EQ(parse("\n" + get("")), "bare_lf");
}

TEST(RequestHead, MayMoveAfterParsing) {
  Parsed it(get("Cookie: a=b\r\n"));
  const std::string moved = it.bytes;
  std::fill(it.bytes.begin(), it.bytes.end(), 'x');
  it.head.rebase(moved.data());
  EXPECT_EQ(it.head.method_name(), "GET");
  EXPECT_EQ(it.head.host(), "a");
  EXPECT_EQ(it.head.fields().first(KnownField::cookie), "a=b");
}

TEST(RequestHead, ParserAndHeadAreUsedAgain) {
  RequestParser parser;
  RequestHead head;
  const std::string first = get("Cookie: a=b\r\nConnection: close\r\n");
  const std::string second = post("Content-Length: 3\r\n");
  ASSERT_EQ(parser.parse(first, head), Progress::complete);
  parser.reset();
  ASSERT_EQ(parser.parse(second, head), Progress::complete);
  EXPECT_EQ(summary(head), parse(second));
}

TEST(RequestHead, Methods) {
  const std::pair<std::string, Method> cases[] = {
      {"GET", Method::get},         {"HEAD", Method::head},      {"POST", Method::post},
      {"PUT", Method::put},         {"DELETE", Method::del},     {"TRACE", Method::trace},
      {"OPTIONS", Method::options}, {"PATCH", Method::patch},    {"PROPFIND", Method::other},
      {"get", Method::other},       {"M-SEARCH", Method::other}, {"G", Method::other},
  };
  for (const auto& [text, method] : cases) {
    const Parsed it(text + " / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(it.head.method(), method) << text;
    EXPECT_EQ(it.head.method_name(), text);
  }
  EXPECT_TRUE(is_idempotent(Method::put));
  EXPECT_FALSE(is_idempotent(Method::post));
  EXPECT_FALSE(is_idempotent(Method::other));
}

TEST(RequestHead, BadRequestLines) {
  const std::pair<std::string, std::string> cases[] = {
      {"GET", "bad_request_line"},
      {"GET /", "bad_request_line"},
      {"GET  HTTP/1.1", "bad_request_line"},
      {"GET HTTP/1.1", "bad_request_line"},
      {"GET / HTTP/1.1 ", "bad_version"},
      {"GET / HTTP/1.1\t", "bad_version"},
      {"GET  / HTTP/1.1", "bad_target_form"},
      {"GET /  HTTP/1.1", "bad_target"},
      {"GET / x HTTP/1.1", "bad_target"},
      {"GET\t/ HTTP/1.1", "bad_method"},
      {" GET / HTTP/1.1", "bad_method"},
      {"G(T / HTTP/1.1", "bad_method"},
      {"GET\x80 / HTTP/1.1", "bad_method"},
      {"G:T / HTTP/1.1", "bad_method"},
      {"GET / http/1.1", "bad_version"},
      {"GET / HTTP/1.", "bad_version"},
      {"GET / HTTP/11", "bad_version"},
      {"GET / HTTP/1.10", "bad_version"},
      {"GET / HTTP/01.1", "bad_version"},
      {"GET / HTTP/1.a", "bad_version"},
      {"GET / HTTPS/1.1", "bad_version"},
      {"GET / HTTP/1.2", "unsupported_version"},
      {"GET / HTTP/0.9", "unsupported_version"},
      {"GET / HTTP/2.0", "unsupported_version"},
      {"PRI * HTTP/2.0", "unsupported_version"},
  };
  for (const auto& [line, error] : cases) {
    EXPECT_EQ(parse(line + "\r\nHost: a\r\n\r\n"), error) << line;
  }
}

TEST(RequestHead, LineEndsAndControlBytes) {
  EXPECT_EQ(parse("GET / HTTP/1.1\nHost: a\n\n"), "bare_lf");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a\n\r\n"), "bare_lf");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a\r\n\n"), "bare_lf");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"), "bare_cr");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), "bare_cr");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a\r\n\rX"), "bare_cr");
  for (int c = 0; c < 0x20; ++c) {
    if (c == '\t' || c == '\r' || c == '\n') continue;
    const char octet = static_cast<char>(c);
    EXPECT_EQ(parse(get("X: a" + std::string(1, octet) + "b\r\n")), "control_byte") << c;
    EXPECT_EQ(parse(get("X" + std::string(1, octet) + ": a\r\n")), "control_byte") << c;
    EXPECT_EQ(parse(target("/" + std::string(1, octet))), "control_byte") << c;
  }
  EXPECT_EQ(parse(get("X: a\x7f\r\n")), "control_byte");
  const Parsed odd(get("X: \t a\tb \x80\xff \r\n"));
  EXPECT_EQ(odd.head.fields().first("x"), "a\tb \x80\xff");
}

TEST(RequestHead, FaultsAreSeenBeforeTheHeadIsComplete) {
  for (const std::string& start : {"GET / HTTP/1.1\n"s, "GET /\x01"s, "\x16\x03\x01\x02"s,
                                   "GET / HTTP/1.1\r\nA: b\r\n c\r\n"s, "\r\n\r\n"s}) {
    RequestParser parser;
    RequestHead head;
    EXPECT_EQ(parser.parse(start, head), Progress::failed) << start;
    EXPECT_EQ(status(parser.error()), 400);
    EXPECT_EQ(parser.parse(start, head), Progress::failed);  // and it stays so
  }
}

TEST(RequestHead, BadFields) {
  const std::pair<std::string, std::string> cases[] = {
      {"X : a", "space_before_colon"},
      {"X\t: a", "space_before_colon"},
      {"X", "missing_colon"},
      {"Accept", "missing_colon"},
      {"Accept : a", "space_before_colon"},
      {"X Y", "space_before_colon"},
      {": a", "bad_field_name"},
      {"X(: a", "bad_field_name"},
      {"X\x80: a", "bad_field_name"},
      {"\"X\": a", "bad_field_name"},
      {"X@: a", "bad_field_name"},
      {" X: a", "obs_fold"},
      {"\tX: a", "obs_fold"},
      {"A: b\r\n c", "obs_fold"},
      {"A: b\r\n \r\nC: d", "obs_fold"},
      {"Transfer-Encoding : chunked", "space_before_colon"},
  };
  for (const auto& [field, error] : cases) {
    EXPECT_EQ(parse(get(field + "\r\n")), error) << field;
  }
}

TEST(RequestHead, TargetForms) {
  {
    const Parsed it("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(it.head.form(), TargetForm::asterisk);
    EXPECT_EQ(it.head.path(), "*");
    EXPECT_EQ(it.head.host(), "a");
  }
  {
    const Parsed it("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    EXPECT_EQ(it.head.form(), TargetForm::authority);
    EXPECT_EQ(it.head.method(), Method::connect);
    EXPECT_EQ(it.head.host(), "a.example");
    EXPECT_EQ(it.head.port(), 443);
    EXPECT_EQ(it.head.path(), "");
  }
  {
    const Parsed it("GET http://B.example:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(it.head.form(), TargetForm::absolute);
    EXPECT_EQ(it.head.path(), "/x");
    EXPECT_EQ(it.head.query(), "y");
    EXPECT_EQ(it.head.authority(), "B.example:81");
    EXPECT_EQ(it.head.host(), "B.example");
    EXPECT_TRUE(it.head.host_overridden());
  }
  {
    const Parsed it("GET HTTPS://[::1]:81 HTTP/1.1\r\nHost: [::1]:81\r\n\r\n");
    EXPECT_EQ(it.head.path(), "/");
    EXPECT_EQ(it.head.host(), "::1");
    EXPECT_EQ(it.head.host_kind(), HostKind::ipv6);
    EXPECT_FALSE(it.head.host_overridden());
  }
  {
    const Parsed it("GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(it.head.path(), "/");
    EXPECT_EQ(it.head.query(), "q");
  }
  {
    const Parsed it("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(it.head.path(), "*");
  }
  const std::pair<std::string, std::string> bad[] = {
      {"GET *", "bad_target_form"},
      {"GET a", "bad_target_form"},
      {"GET a:80", "bad_target_form"},
      {"GET ftp://a/", "bad_target_form"},
      {"GET ://a/", "bad_target_form"},
      {"GET http:/a", "bad_target_form"},
      {"GET http://", "bad_host"},
      {"GET http:///x", "bad_host"},
      {"GET http://u@a/", "bad_host"},
      {"GET http://a:x/", "bad_host"},
      {"GET http://a\\b/", "bad_host"},
      {"GET http://a#b", "bad_target"},
      {"CONNECT a", "bad_target_form"},
      {"CONNECT /", "bad_target_form"},
      {"CONNECT a:", "bad_target_form"},
      {"CONNECT a:0", "bad_target_form"},
      {"CONNECT http://a/", "bad_target_form"},
      {"CONNECT *", "bad_target_form"},
      {"OPTIONS **", "bad_target_form"},
  };
  for (const auto& [line, error] : bad) {
    EXPECT_EQ(parse(line + " HTTP/1.1\r\nHost: a\r\n\r\n"), error) << line;
  }
}

TEST(RequestHead, TargetOctets) {
  for (const char* good : {"/", "//", "/a%20b", "/a;b=c", "/~u/|[]^{}'!$&()*+,;=:@", "/?", "/?a?b",
                           "/?\"<>\\^`{|}", "/%zz"}) {
    EXPECT_NE(parse(target(good)).find(good), std::string::npos) << good;
  }
  for (const char* bad :
       {"/#", "/a#b", "/?a#b", "/\\", "/\"", "/<", "/>", "/\x80", "/?\xff", "/\xc3\xa4", "/a\tb"}) {
    EXPECT_EQ(parse(target(bad)), "bad_target") << bad;
  }
}

TEST(RequestHead, NoticesPathsThatAreNotNormal) {
  for (const char* normal : {"/", "/a.b", "/a./b", "/a/b/", "/a?x//%2e/../"}) {
    EXPECT_TRUE(Parsed(target(normal)).head.path_is_normal()) << normal;
  }
  for (const char* odd : {"//", "/.", "/a/../b", "/a/.b", "/%41", "/a//"}) {
    EXPECT_FALSE(Parsed(target(odd)).head.path_is_normal()) << odd;
  }
}

TEST(RequestHead, Host) {
  const auto with = [](std::string_view host) {
    return parse("GET / HTTP/1.1\r\nHost:" + std::string(host) + "\r\n\r\n");
  };
  for (const char* good :
       {" a", "a", " a.b-c_d.e", " A.EXAMPLE.", " 1.2.3.4", " 1.2.3.4:80", " [::1]",
        " [2001:db8::1]:443", " a:", " xn--bcher-kva.example", " 1.2.3.4.com"}) {
    EXPECT_NE(with(good).find("|1.1|"), std::string::npos) << good;
  }
  for (const char* bad : {"",           " ",      " a b",      " a,b",   " a:80:80",
                          " a:x",       " a:0",   " a:65536",  " a:-1",  " a:+1",
                          " :80",       " u@a",   " a/",       " a?b",   " a#",
                          " [::1",      " ::1",   " [::1]x",   " [::g]", " [fe80::1%25eth0]",
                          " 1.2.3.256", " 1.2.3", " 01.2.3.4", " .a",    " a..b",
                          " .",         " a\\b",  " \xc3\xa4", " %61",   " a:80 ,",
                          " http://a",  " *",     " a;b",      " [v1.x]"}) {
    EXPECT_EQ(with(bad), "bad_host") << bad;
  }
  EXPECT_EQ(parse("GET / HTTP/1.1\r\n\r\n"), "missing_host");
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "duplicate_host");
  EXPECT_EQ(parse("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), "duplicate_host");
  EXPECT_EQ(parse("GET http://a/ HTTP/1.1\r\n\r\n"), "missing_host");
  EXPECT_EQ(parse("GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n"), "bad_host");
  EXPECT_EQ(parse("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "duplicate_host");
  EXPECT_EQ(Parsed("GET / HTTP/1.0\r\n\r\n").head.authority(), "");
}

TEST(RequestHead, ContentLength) {
  EXPECT_EQ(Parsed(post("Content-Length: 5\r\n")).head.content_length(), 5u);
  EXPECT_EQ(Parsed(post("content-length:\t007 \r\n")).head.content_length(), 7u);
  EXPECT_EQ(Parsed(post("Content-Length: 9223372036854775807\r\n")).head.content_length(),
            9223372036854775807u);
  EXPECT_EQ(Parsed(post("Content-Length: 0\r\n")).head.body(), BodyKind::none);
  EXPECT_EQ(Parsed(get("Content-Length: 3\r\n")).head.body(), BodyKind::length);
  for (const char* bad :
       {"", "+5", "-5", "5,", "5, 5", "5,5", ",5", "5 5", "0x5", "5.0", "5e1", "\"5\"", "five",
        "18446744073709551616", "00000000000000000005", "5;", "\xb2"}) {
    EXPECT_EQ(parse(post("Content-Length: " + std::string(bad) + "\r\n")), "bad_content_length")
        << bad;
  }
  EXPECT_EQ(parse(post("Content-Length: 5\r\nContent-Length: 5\r\n")), "duplicate_content_length");
  EXPECT_EQ(parse(post("Content-Length: 5\r\ncontent-length: 6\r\n")), "duplicate_content_length");
  EXPECT_EQ(parse(post("Content-Length: 0\r\nContent-Length: 5\r\n")), "duplicate_content_length");
}

TEST(RequestHead, TransferEncoding) {
  EXPECT_EQ(Parsed(post("Transfer-Encoding: chunked\r\n")).head.body(), BodyKind::chunked);
  EXPECT_EQ(Parsed(post("transfer-encoding:\t ChUnKeD \r\n")).head.body(), BodyKind::chunked);
  const std::pair<std::string, std::string> bad[] = {
      {"", "bad_transfer_encoding"},
      {"chunked, chunked", "bad_transfer_encoding"},
      {"chunked, gzip", "bad_transfer_encoding"},
      {"chunked, identity", "bad_transfer_encoding"},
      {"identity", "bad_transfer_encoding"},
      {"gzip", "bad_transfer_encoding"},
      {"xchunked", "bad_transfer_encoding"},
      {"chunked;q=1", "bad_transfer_encoding"},
      {"chunked,", "bad_transfer_encoding"},
      {",chunked", "bad_transfer_encoding"},
      {"chunked chunked", "bad_transfer_encoding"},
      {"\"chunked\"", "bad_transfer_encoding"},
      {"'chunked'", "bad_transfer_encoding"},
      {"gzip;a=\"b, chunked\"", "bad_transfer_encoding"},
      {"gzip, chunked", "unknown_transfer_coding"},
      {"foo, chunked", "unknown_transfer_coding"},
      {"foo,bar,\tCHUNKED", "unknown_transfer_coding"},
  };
  for (const auto& [value, error] : bad) {
    EXPECT_EQ(parse(post("Transfer-Encoding: " + value + "\r\n")), error) << value;
  }
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
            "bad_transfer_encoding");
  EXPECT_EQ(parse(post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n")),
            "bad_transfer_encoding");
  EXPECT_EQ(parse(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
            "content_length_with_transfer_encoding");
  EXPECT_EQ(parse(post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")),
            "content_length_with_transfer_encoding");
  EXPECT_EQ(parse("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "transfer_encoding_in_http10");
}

TEST(RequestHead, KeepAlive) {
  EXPECT_TRUE(Parsed(get("")).head.keep_alive());
  EXPECT_TRUE(Parsed(get("Connection: keep-alive\r\n")).head.keep_alive());
  EXPECT_FALSE(Parsed(get("Connection: close\r\n")).head.keep_alive());
  EXPECT_FALSE(Parsed(get("Connection: x, CLOSE\r\n")).head.keep_alive());
  EXPECT_FALSE(Parsed(get("Connection: keep-alive\r\nConnection: close\r\n")).head.keep_alive());
  const auto http10 = [](std::string fields) {
    return Parsed("GET / HTTP/1.0\r\n" + fields + "\r\n").head.keep_alive();
  };
  EXPECT_FALSE(http10(""));
  EXPECT_TRUE(http10("Connection: Keep-Alive\r\n"));
  EXPECT_FALSE(http10("Connection: keep-alive, close\r\n"));
  EXPECT_FALSE(http10("Proxy-Connection: keep-alive\r\n"));
}

TEST(RequestHead, Expect) {
  EXPECT_TRUE(Parsed(post("Expect: 100-Continue\r\nContent-Length: 1\r\n")).head.expect_continue());
  EXPECT_FALSE(Parsed(post("Expect: 100-continue\r\n")).head.expect_continue());
  EXPECT_FALSE(Parsed(post("Expect: other\r\nContent-Length: 1\r\n")).head.expect_continue());
  EXPECT_FALSE(Parsed("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
                   .head.expect_continue());
}

TEST(RequestHead, Upgrade) {
  const std::string ws = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
  EXPECT_EQ(Parsed(get(ws)).head.upgrade(), "websocket");
  EXPECT_EQ(Parsed(get("Upgrade: websocket\r\n")).head.upgrade(), "");
  EXPECT_EQ(Parsed(get("Connection: upgrade\r\n")).head.upgrade(), "");
  EXPECT_EQ(Parsed(get("Connection: upgrade\r\nUpgrade: h2c\r\n")).head.upgrade(), "");
  EXPECT_EQ(Parsed(get("Connection: upgrade\r\nUpgrade: websocket, H2C\r\n")).head.upgrade(), "");
  EXPECT_EQ(Parsed(get(ws + "Upgrade: h2c\r\n")).head.upgrade(), "");
  EXPECT_EQ(Parsed(get("Upgrade: h2c\r\n" + ws)).head.upgrade(), "");
  EXPECT_EQ(Parsed(post(ws + "Content-Length: 5\r\n")).head.upgrade(), "");
  EXPECT_EQ(Parsed("GET / HTTP/1.0\r\n" + ws + "\r\n").head.upgrade(), "");
}

TEST(RequestHead, NominatedFields) {
  const Parsed it(
      get("Connection: x-one, Host, ,authorization, X-TWO,cookie\r\nX-One: 1\r\n"
          "Authorization: b\r\nCookie: c\r\nx-two: 2\r\nX-Three: 3\r\nX-TWO: 2\r\n"));
  std::string nominated;
  for (std::size_t i = 0; i < it.head.fields().size(); ++i) {
    if (it.head.fields().entry(i).nominated)
      nominated += std::string(it.head.fields()[i].name) + " ";
  }
  EXPECT_EQ(nominated, "X-One x-two X-TWO ");
  EXPECT_EQ(parse(get("Connection: a b\r\n")), "bad_connection");
  EXPECT_EQ(parse(get("Connection: \"close\"\r\n")), "bad_connection");
  std::string many = "Connection: x";
  for (int i = 0; i < 40; ++i)
    many += ",x" + std::to_string(i);
  EXPECT_EQ(parse(get(many + "\r\n")), "bad_connection");
}

TEST(RequestHead, Limits) {
  const HeadLimits limits{.max_bytes = 256, .max_request_line = 64, .max_fields = 4};
  const auto line = [](std::size_t size) {
    return "GET /" + std::string(size - 14, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n";
  };
  EXPECT_NE(parse(line(64), limits).find("|keep"), std::string::npos);
  EXPECT_EQ(parse(line(65), limits), "request_line_too_long");
  EXPECT_EQ(parse(line(300), limits), "request_line_too_long");
  EXPECT_EQ(parse(std::string(300, 'G'), limits), "request_line_too_long");

  const auto sized = [](std::size_t size) {
    return get("X: " + std::string(size - get("").size() - 5, 'a') + "\r\n");
  };
  ASSERT_EQ(sized(256).size(), 256u);
  EXPECT_NE(parse(sized(256), limits).find("|keep"), std::string::npos);
  EXPECT_EQ(parse(sized(257), limits), "head_too_large");
  EXPECT_EQ(parse(sized(1000), limits), "head_too_large");
  EXPECT_EQ(parse(get("A: \r\nB: \r\nC: \r\n"), limits).find("too"), std::string::npos);
  EXPECT_EQ(parse(get("A: \r\nB: \r\nC: \r\nD: \r\n"), limits), "too_many_fields");
  EXPECT_EQ(status(ParseError::request_line_too_long), 414);
  EXPECT_EQ(status(ParseError::head_too_large), 431);
  EXPECT_EQ(status(ParseError::too_many_fields), 431);

  std::string many;
  for (int i = 0; i < 127; ++i)
    many += "A:\r\n";
  RequestParser parser;
  RequestHead head;
  EXPECT_EQ(parser.parse(get(many), head), Progress::complete);
  EXPECT_EQ(head.fields().size(), 128u);
  parser.reset();
  EXPECT_EQ(parser.parse(get(many + "A:\r\n"), head), Progress::failed);
}

TEST(ParseErrors, EachSaysWhatAndAnswersSomethingFitting) {
  for (int i = 1; i <= static_cast<int>(ParseError::forwarded_head_too_large); ++i) {
    const auto error = static_cast<ParseError>(i);
    EXPECT_FALSE(name(error).empty());
    EXPECT_GT(reason(error).size(), 10u) << name(error);
    const int code = status(error);
    EXPECT_TRUE(code == 400 || code == 414 || code == 431 || code == 501 || code == 505)
        << name(error);
  }
  EXPECT_EQ(status(ParseError::unknown_transfer_coding), 501);
  EXPECT_EQ(status(ParseError::unsupported_version), 505);
}

TEST(KnownFields, EveryNameIsFoundInAnyCaseAndNothingElse) {
  for (std::size_t i = 1; i < kKnownFieldCount; ++i) {
    const auto id = static_cast<KnownField>(i);
    std::string text(known_field_name(id));
    EXPECT_EQ(known_field(text), id) << text;
    for (char& c : text)
      c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    EXPECT_EQ(known_field(text), id) << text;
    for (std::size_t at = 0; at < text.size(); ++at) {
      std::string other = text;
      other[at] = other[at] == '~' ? 'q' : '~';
      EXPECT_EQ(known_field(other), KnownField::unknown) << other;
    }
    EXPECT_EQ(known_field(text + "x"), KnownField::unknown);
  }
}

// What is no token is not taken for a name either: who looks for the name first need not look at
// its octets.
TEST(KnownFields, AnyOtherOctetThatALineMayHaveMakesAnotherName) {
  for (std::size_t i = 1; i < kKnownFieldCount; ++i) {
    const std::string text(known_field_name(static_cast<KnownField>(i)));
    for (std::size_t at = 0; at < text.size(); ++at) {
      for (int octet = 0; octet < 256; ++octet) {
        std::string other = text;
        other[at] = static_cast<char>(octet);
        const bool control = (octet < 0x20 && octet != '\t') || octet == 0x7f;
        if (control || std::tolower(octet) == text[at]) continue;
        EXPECT_EQ(known_field(other), KnownField::unknown) << other;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::gateway::http1
