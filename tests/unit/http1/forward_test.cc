#include "gateway/http1/forward.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace sluice::gateway::http1 {
namespace {

std::string joined(const OutgoingHead& out) {
  std::string text;
  for (const iovec& slice : out.slices()) {
    text.append(static_cast<const char*>(slice.iov_base), slice.iov_len);
  }
  EXPECT_EQ(text.size(), out.bytes());
  return text;
}

// What a request looks like on the other side, with its path normalised as a connection does.
struct Forwarded {
  explicit Forwarded(const std::string& bytes, RequestForwarding options = {},
                     std::size_t scratch_size = 1024) {
    RequestParser parser;
    RequestHead head;
    EXPECT_EQ(parser.parse(bytes, head), Progress::complete) << name(parser.error()) << bytes;
    std::vector<char> path_scratch(bytes.size());
    std::vector<char> scratch(scratch_size);
    if (!head.path_is_normal()) options.path = normalise_path(head.path(), path_scratch).value();
    OutgoingHead out(scratch);
    const auto result = forward_request(head, options, out);
    if (!result) {
      text = name(result.error());
      return;
    }
    text = joined(out);
    slices = out.slices().size();
    expect_parses(text);
  }
  // What we send must be what we would accept.
  static void expect_parses(const std::string& sent) {
    RequestParser parser;
    RequestHead head;
    EXPECT_EQ(parser.parse(sent, head), Progress::complete) << name(parser.error()) << "\n" << sent;
    EXPECT_EQ(head.size(), sent.size());
  }
  std::string text;
  std::size_t slices = 0;
};

TEST(ForwardRequest, UntouchedIsTwoSlices) {
  const std::string in = "GET /a?b HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n";
  const Forwarded it(in);
  EXPECT_EQ(it.text, in);
  EXPECT_EQ(it.slices, 2u);
}

TEST(ForwardRequest, KeepAliveAtTheEndIsTwoSlicesToo) {
  const Forwarded it("GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(it.text, "GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
  EXPECT_EQ(it.slices, 2u);
}

TEST(ForwardRequest, HopByHopFieldsAndNominatedOnesGo) {
  const ExtraField extra[] = {{"x-forwarded-for", "192.0.2.1"}, {"x-forwarded-proto", "http"}};
  const Forwarded it(
      "POST /p HTTP/1.1\r\nHost: x\r\nConnection: close, X-Hop, Host, Content-Length, "
      "Authorization\r\n"
      "X-Hop: 1\r\nKeep-Alive: timeout=5\r\nAuthorization: Basic a\r\nProxy-Connection: "
      "keep-alive\r\n"
      "Content-Length: 3\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Forwarded-For: "
      "6.6.6.6\r\n"
      "Expect: 100-continue\r\nX-Last: 1\r\n\r\n",
      {.add = extra, .remove = KnownFieldSet{KnownField::x_forwarded_for}});
  EXPECT_EQ(
      it.text,
      "POST /p HTTP/1.1\r\nHost: x\r\nAuthorization: Basic a\r\nContent-Length: 3\r\nX-Last: 1\r\n"
      "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\n\r\n");
}

TEST(ForwardRequest, PathAsItWasMatched) {
  EXPECT_EQ(Forwarded("GET /a/../%62//c?x=%2e%2e//%zz HTTP/1.1\r\nHost: x\r\n\r\n").text,
            "GET /b/c?x=%2e%2e//%zz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Forwarded("GET //admin/./x HTTP/1.1\r\nHost: x\r\n\r\n").text,
            "GET /admin/x HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string in = "GET /.a/b%20c HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(Forwarded(in).text, in);
}

TEST(ForwardRequest, TargetForms) {
  EXPECT_EQ(Forwarded("GET http://y:81/a?b HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n").text,
            "GET /a?b HTTP/1.1\r\nhost: y:81\r\nA: b\r\n\r\n");
  EXPECT_EQ(Forwarded("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n").text,
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Forwarded("OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n").text,
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Forwarded("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").text,
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Forwarded("\r\nGET /? HTTP/1.1\r\nHost: x\r\n\r\n").text,
            "GET /? HTTP/1.1\r\nHost: x\r\n\r\n");
}

TEST(ForwardRequest, Http10) {
  EXPECT_EQ(Forwarded("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n").text,
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Forwarded("GET / HTTP/1.0\r\n\r\n", {.host = "192.0.2.1:80"}).text,
            "GET / HTTP/1.1\r\nhost: 192.0.2.1:80\r\n\r\n");
}

TEST(ForwardRequest, HostMayBeReplaced) {
  EXPECT_EQ(Forwarded("GET / HTTP/1.1\r\nA: b\r\nHost: x\r\n\r\n", {.host = "y"}).text,
            "GET / HTTP/1.1\r\nhost: y\r\nA: b\r\n\r\n");
  EXPECT_EQ(Forwarded("GET / HTTP/1.1\r\nA: b\r\nHost: x\r\n\r\n", {.host = "x"}).text,
            "GET / HTTP/1.1\r\nA: b\r\nHost: x\r\n\r\n");
}

TEST(ForwardRequest, Chunked) {
  EXPECT_EQ(
      Forwarded("POST / HTTP/1.1\r\nHost: x\r\nConnection: transfer-encoding, te\r\n"
                "Transfer-Encoding: Chunked\r\nTE: trailers, gzip\r\nTrailer: x\r\n\r\n")
          .text,
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\nte: trailers\r\n"
      "connection: te\r\n\r\n");
}

TEST(ForwardRequest, Upgrade) {
  EXPECT_EQ(Forwarded("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: k\r\n\r\n")
                .text,
            "GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: k\r\nupgrade: websocket\r\n"
            "connection: upgrade\r\n\r\n");
  EXPECT_EQ(Forwarded("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c, websocket\r\n"
                      "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n")
                .text,
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
}

TEST(ForwardRequest, Expect) {
  const std::string in =
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
  EXPECT_EQ(Forwarded(in, {.keep_expect = true}).text, in);
  EXPECT_EQ(
      Forwarded("POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
                {.keep_expect = true})
          .text,
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n");
}

TEST(ForwardRequest, FragmentedHeadsFitOrAreRefused) {
  std::string in = "GET / HTTP/1.1\r\nHost: x\r\nConnection: x\r\n";
  std::string expected = "GET / HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 50; ++i) {
    const std::string kept = "A" + std::to_string(i) + ": " + std::string(150, 'b') + "\r\n";
    in += kept + "X: gone\r\n";
    expected += kept;
  }
  EXPECT_EQ(Forwarded(in + "\r\n", {}, in.size() + 512).text, expected + "\r\n");
  EXPECT_EQ(Forwarded(in + "\r\n", {}, 1024).text, "forwarded_head_too_large");
  EXPECT_EQ(Forwarded(in + "\r\n", {}, 0).text, "forwarded_head_too_large");
}

struct Answered {
  Answered(const std::string& bytes, ResponseForwarding options = {},
           ResponseContext context = {}) {
    ResponseParser parser;
    ResponseHead head;
    EXPECT_EQ(parser.parse(bytes, context, head), Progress::complete) << name(parser.error());
    std::vector<char> scratch(1024);
    OutgoingHead out(scratch);
    const auto result = forward_response(head, options, out);
    EXPECT_TRUE(result);
    if (!result) return;
    plan = *result;
    text = joined(out);
    slices = out.slices().size();
  }
  std::string text;
  ForwardedResponse plan;
  std::size_t slices = 0;
};

constexpr ResponseForwarding kToHttp10{.client_minor_version = 0};
constexpr ResponseForwarding kClosing{.client_keep_alive = false};

TEST(ForwardResponse, Untouched) {
  const std::string in = "HTTP/1.1 200 OK\r\nServer: o\r\nContent-Length: 5\r\n\r\n";
  const Answered it(in);
  EXPECT_EQ(it.text, in);
  EXPECT_EQ(it.slices, 2u);
  EXPECT_EQ(it.plan.body, BodyRelay::verbatim);
  EXPECT_FALSE(it.plan.close);
}

TEST(ForwardResponse, HopByHopFieldsGo) {
  const ExtraField extra[] = {{"via", "1.1 s"}};
  EXPECT_EQ(Answered("HTTP/1.0 200 OK\r\nConnection: keep-alive, X\r\nX: 1\r\nKeep-Alive: "
                     "a\r\nUpgrade: h2,h2c\r\n"
                     "Content-Length: 5\r\n\r\n",
                     {.add = extra})
                .text,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nvia: 1.1 s\r\n\r\n");
  EXPECT_EQ(Answered("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n").text,
            "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n");
}

TEST(ForwardResponse, Chunked) {
  const std::string in = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n";
  EXPECT_EQ(Answered(in).text, in);
  const Answered old(in, kToHttp10);
  EXPECT_EQ(old.text, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(old.plan.body, BodyRelay::dechunk);
  EXPECT_TRUE(old.plan.close);
}

TEST(ForwardResponse, UntilClose) {
  const std::string in = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
  const Answered it(in);
  EXPECT_EQ(it.text, "HTTP/1.1 200 OK\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n");
  EXPECT_EQ(it.plan.body, BodyRelay::enchunk);
  EXPECT_FALSE(it.plan.close);
  for (const ResponseForwarding& options : {kToHttp10, kClosing}) {
    const Answered closed(in, options);
    EXPECT_EQ(closed.text, "HTTP/1.1 200 OK\r\nA: b\r\nconnection: close\r\n\r\n");
    EXPECT_EQ(closed.plan.body, BodyRelay::verbatim);
    EXPECT_TRUE(closed.plan.close);
  }
}

TEST(ForwardResponse, Connection) {
  const std::string in = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(Answered(in).text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(Answered(in, kClosing).text,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(Answered(in, kToHttp10).text,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: keep-alive\r\n\r\n");
}

TEST(ForwardResponse, WithoutBodies) {
  EXPECT_EQ(Answered("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n").text,
            "HTTP/1.1 204 No\r\n\r\n");
  EXPECT_EQ(Answered("HTTP/1.1 100 Continue\r\n\r\n", kClosing).text,
            "HTTP/1.1 100 Continue\r\n\r\n");
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
  const Answered it(head, {}, {.request_method = Method::head});
  EXPECT_EQ(it.text, head);
  EXPECT_EQ(it.plan.body, BodyRelay::none);
}

TEST(ForwardResponse, Switching) {
  const Answered it(
      "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
      "k\r\n\r\n",
      kClosing, {.upgrade_offered = true});
  EXPECT_EQ(it.text,
            "HTTP/1.1 101 S\r\nSec-WebSocket-Accept: k\r\nupgrade: websocket\r\nconnection: "
            "upgrade\r\n\r\n");
  EXPECT_FALSE(it.plan.close);
  EXPECT_EQ(Answered("HTTP/1.1 426 U\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n").text,
            "HTTP/1.1 426 U\r\nContent-Length: 0\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
}

}  // namespace
}  // namespace sluice::gateway::http1
