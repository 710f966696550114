// Requests and answers through a running gateway, in shapes that ordinary clients do not make.
#include <gmock/gmock.h>

#include "gateway_fixture.h"

namespace sluice::gateway::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(GatewayTest, KeepsBothConnectionsForTheNextRequest) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  EXPECT_THAT(origin.read_until("\r\n\r\n"), HasSubstr("X-Forwarded-For: 127.0.0.1\r\n"));
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), EndsWith("\r\n\r\nok"));
  client.send(kGet);
  EXPECT_THAT(origin.read_until("\r\n\r\n"), StartsWith("GET / HTTP/1.1\r\n"));
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), EndsWith("\r\n\r\nok"));
  EXPECT_FALSE(origin_.has_connection());
}

TEST_F(GatewayTest, AnswersPipelinedRequestsInOrder) {
  apply();
  Wire client = this->client();
  client.send(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n"
      "Content-Length: 4\r\n\r\nbodyGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
  Wire origin = origin_.accept();
  for (const std::string n : {"1", "2", "3"}) {
    EXPECT_THAT(origin.read_until("\r\n\r\n"), HasSubstr(" /" + n + " "));
    if (n == "2") {
      EXPECT_EQ(origin.read_bytes(4), "body");
    }
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + n);
    EXPECT_THAT(client.read_response(), EndsWith("\r\n\r\n" + n));
  }
}

TEST_F(GatewayTest, AnswersAClientThatHasHalfClosed) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  client.half_close();
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send(kOk);
  EXPECT_THAT(client.read_all(), EndsWith("\r\n\r\nok"));
}

TEST_F(GatewayTest, PassesAnEarlyAnswerOnAndClosesThen) {
  apply();
  Wire client = this->client();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst");
  Wire origin = origin_.accept();
  origin.read_until("first");
  origin.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
  const std::string answer = client.read_response();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(answer, HasSubstr("connection: close\r\n"));
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(origin.at_end());
}

TEST_F(GatewayTest, ForwardsAContinueAndThenTheBody) {
  apply();
  Wire client = this->client();
  client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  Wire origin = origin_.accept();
  EXPECT_THAT(origin.read_until("\r\n\r\n"), HasSubstr("Expect: 100-continue\r\n"));
  origin.send("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 100 "));
  client.send("data");
  EXPECT_EQ(origin.read_bytes(4), "data");
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, GarbageFromTheOriginIsA502AndItsConnectionIsClosed) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send("SSH-2.0-OpenSSH_9.2\r\n\r\n");
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 502 "));
  EXPECT_TRUE(origin.at_end());
  client.send(kGet);  // the client's connection is still good
  Wire second = origin_.accept();
  second.read_until("\r\n\r\n");
  second.send(kOk);
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, BytesBehindAnAnswerNeverReachAnotherClient) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send(std::string(kOk) + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!");
  EXPECT_THAT(client.read_response(), EndsWith("\r\n\r\nok"));
  EXPECT_TRUE(origin.at_end());
  Wire other = this->client();
  other.send(kGet);
  Wire second = origin_.accept();
  second.read_until("\r\n\r\n");
  second.send(kOk);
  EXPECT_THAT(other.read_response(), EndsWith("\r\n\r\nok"));
}

TEST_F(GatewayTest, APooledConnectionThatTheOriginResetsIsReplacedUnnoticed) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  {
    Wire origin = origin_.accept();
    origin.read_until("\r\n\r\n");
    origin.send(kOk);
    EXPECT_THAT(client.read_response(), EndsWith("ok"));
    client.send(kGet);
    origin.read_until("\r\n\r\n");
    origin.reset();  // as if it had closed just when the request was on its way
  }
  Wire fresh = origin_.accept();
  fresh.read_until("\r\n\r\n");
  fresh.send(kOk);
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, APostThatTheOriginTookIsNotSentTwice) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send(kOk);
  client.read_response();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  origin.read_until("hi");
  origin.reset();
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 502 "));
  EXPECT_FALSE(origin_.has_connection());
}

TEST_F(GatewayTest, ATruncatedAnswerIsNeverACompleteOne) {
  apply();
  Wire client = this->client();
  client.send("GET / HTTP/1.0\r\n\r\n");
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.read_until("abc");
  origin.close();  // the last chunk never comes, and HTTP/1.0 has no other way to say so
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(client.was_reset());
}

TEST_F(GatewayTest, ChunksAreMadeOfABodyThatEndsByClosing) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send("HTTP/1.0 200 OK\r\n\r\nhello");
  origin.close();
  const std::string answer = client.read_until("0\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("transfer-encoding: chunked\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nhello\r\n0\r\n\r\n"));
}

TEST_F(GatewayTest, AnUpgradeBecomesATunnel) {
  apply();
  Wire client = this->client();
  client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  Wire origin = origin_.accept();
  EXPECT_THAT(origin.read_until("\r\n\r\n"), HasSubstr("upgrade: websocket\r\n"));
  origin.send(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
      "Upgrade: websocket\r\n\r\nfrom origin");
  EXPECT_THAT(client.read_until("from origin"), StartsWith("HTTP/1.1 101 "));
  client.send("from client");
  EXPECT_EQ(origin.read_bytes(11), "from client");
  origin.close();
  EXPECT_TRUE(client.at_end());
}

TEST_F(GatewayTest, ASlowReaderHoldsTheOriginBack) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  constexpr std::size_t kSize = 256u << 20;
  origin.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kSize) + "\r\n\r\n");
  // Kernel buffers take a few MiB; the gateway itself must not take the rest.
  EXPECT_LT(origin.send_until_blocked(), 64u << 20);
}

TEST_F(GatewayTest, ASlowOriginHoldsTheClientBack) {
  apply();
  Wire client = this->client();
  client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 268435456\r\n\r\n");
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  EXPECT_LT(client.send_until_blocked(), 64u << 20);
}

TEST_F(GatewayTest, AHeadThatDoesNotComeInTimeIsA408) {
  apply(", timeouts: { head: 100ms }");
  Wire client = this->client();
  client.send("GET / HTTP/1.1\r\nHo");
  EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 408 "));
}

TEST_F(GatewayTest, AnOriginThatSaysNothingIsA504) {
  apply("", ", timeouts: { first_byte: 100ms }");
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 504 "));
}

TEST_F(GatewayTest, ARequestThatCouldSmuggleIsRefusedAndTheConnectionClosed) {
  apply();
  Wire client = this->client();
  client.send(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
      "\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
  client.half_close();
  const std::string answer = client.read_all();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer.substr(1), Not(HasSubstr("HTTP/1.1")));
  EXPECT_FALSE(origin_.has_connection());
}

TEST_F(GatewayTest, OverTheLimitIsA429AndLoopbackIsNeverBanned) {
  apply("", "", ", limits: [few]",
        "limits: { few: { key: [client_ip], rate: 1/h, burst: 1 } }\n"
        "bans: { rules: [{ when: { limit: few, count: 2, within: 10s }, for: 5m }] }\n");
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 200 "));
  client.send(kGet);
  const std::string refused = client.read_response();
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 429 "));
  EXPECT_THAT(refused, HasSubstr("Retry-After: "));
  // Refused often enough for the rule, but loopback is never banned: the connection lives on.
  for (int i = 0; i < 3; ++i) {
    client.send(kGet);
    EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 429 "));
  }
}

TEST_F(GatewayTest, ReloadMovesTheNextRequestAndDrainLetsTheRunningOneFinish) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  apply("", "", ", path: /new");
  std::latch drained(1);
  gateway_->drain(std::chrono::seconds(10), [&] { drained.count_down(); });
  EXPECT_FALSE(drained.try_wait());
  origin.send(kOk);
  EXPECT_THAT(client.read_response(), HasSubstr("connection: close\r\n"));
  drained.wait();
  EXPECT_TRUE(client.at_end());
}

TEST_F(GatewayTest, DrainAnswersARequestThatHasArrivedAndClosesIdleConnections) {
  apply();
  Wire idle = client();
  idle.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  origin.send(kOk);
  EXPECT_THAT(idle.read_response(), EndsWith("ok"));
  std::latch drained(1);
  gateway_->drain(std::chrono::seconds(10), [&] { drained.count_down(); });
  EXPECT_TRUE(idle.at_end());
  drained.wait();
}

TEST_F(GatewayTest, TheDeadlineEndsWhatDoesNotFinish) {
  apply();
  Wire stuck = client();
  stuck.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  std::latch drained(1);
  gateway_->drain(std::chrono::milliseconds(50), [&] { drained.count_down(); });
  drained.wait();
  EXPECT_TRUE(stuck.at_end());
  EXPECT_TRUE(origin.at_end());
}

TEST_F(GatewayTest, ADeadEndpointIsPassedOverUnnoticed) {
  std::string dead;
  {
    const Origin gone;
    dead = gone.address();
  }
  endpoints_ = "\"" + dead + "\", \"" + origin_.address() + "\"";
  apply();
  for (int i = 0; i < 4; ++i) {
    Wire client = this->client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    Wire origin = origin_.accept();
    EXPECT_THAT(origin.read_until("hi"), StartsWith("POST / "));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    EXPECT_THAT(client.read_response(), StartsWith("HTTP/1.1 200 "));
  }
}

TEST_F(GatewayTest, AtMaxConnectionsTheNextClientWaitsForAPlace) {
  apply(", max_connections: 1");
  Wire first = client();
  first.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  Wire second = client();  // in the backlog
  second.send(kGet);
  origin.send(kOk);
  EXPECT_THAT(first.read_response(), EndsWith("ok"));
  EXPECT_FALSE(origin_.has_connection());
  first.close();
  origin.read_until("\r\n\r\n");  // the second client's request, on the pooled connection
  origin.send(kOk);
  EXPECT_THAT(second.read_response(), EndsWith("ok"));
}

TEST_F(GatewayTest, StatusAndMetricsNameWhatServes) {
  apply();
  Wire client = this->client();
  client.send(kGet);
  Wire origin = origin_.accept();
  origin.read_until("\r\n\r\n");
  EXPECT_THAT(gateway_->status_json(), HasSubstr("\"ways\":[\"bind\"],\"connections\":1"));
  EXPECT_THAT(gateway_->status_json(), HasSubstr("\"active_requests\":1"));
  origin.send(kOk);
  client.read_response();
  EXPECT_THAT(gateway_->metrics_text(), HasSubstr("sluice_"));
}

TEST_F(GatewayTest, AutoTellsHttpFromTheRest) {
  apply(", protocol: auto, timeouts: { detect: 50ms }");
  Wire http = client();
  http.send(kGet);
  Wire first = origin_.accept();
  EXPECT_THAT(first.read_until("\r\n\r\n"), HasSubstr("X-Forwarded-For"));
  Wire binary = client();
  binary.send(std::string("\x16\x03\x01\x00\x05hello", 10));
  EXPECT_EQ(origin_.accept().read_bytes(10), std::string("\x16\x03\x01\x00\x05hello", 10));
  Wire silent = client();  // waits for the server to speak first
  Wire server_first = origin_.accept();
  server_first.send("220 mail\r\n");
  EXPECT_EQ(silent.read_until("\n"), "220 mail\r\n");
}

}  // namespace
}  // namespace sluice::gateway::test
