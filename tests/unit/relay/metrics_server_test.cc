#include "gateway/control/metrics_server.h"

#include <arpa/inet.h>
#include <atomic>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "tests/unit/relay/tcp_pair.h"

namespace sluice::gateway {
namespace {

using testing::BlockingSocket;
using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace asio = boost::asio;

class MetricsServerTest : public ::testing::Test {
 protected:
  MetricsServerTest() {
    thread_ = std::thread([this] { io_.run(); });
  }
  ~MetricsServerTest() override {
    on_control([this] { server_.reset(); });
    guard_.reset();
    thread_.join();
  }

  template <typename Work>
  std::invoke_result_t<Work> on_control(Work work) {
    std::packaged_task<std::invoke_result_t<Work>()> task(std::move(work));
    auto result = task.get_future();
    asio::post(io_, [&task] { task(); });
    return result.get();
  }

  std::expected<void, std::string> serve(const std::string& at, std::vector<policy::Prefix> allow) {
    return on_control([&] {
      return server_->configure(policy::MetricsConfig{*policy::SocketAddress::parse(at), allow});
    });
  }
  std::uint16_t port() {
    return on_control([this] { return server_->local_address()->port; });
  }

  BlockingSocket connect(std::uint16_t to, const char* from = "127.0.0.1") {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, from, &address.sin_addr);
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    address.sin_port = htons(to);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return BlockingSocket(fd);
  }
  std::string ask(const std::string& line, const char* from = "127.0.0.1") {
    const BlockingSocket socket = connect(port(), from);
    socket.send(line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return socket.receive(1 << 20);
  }

  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard_{io_.get_executor()};
  std::atomic<bool> ready_{false};
  std::unique_ptr<MetricsServer> server_ = std::make_unique<MetricsServer>(
      io_, MetricsServer::Pages{[] { return std::string("the_page 1\n"); },
                                [this] { return ready_.load(); }});
  std::thread thread_;
};

TEST_F(MetricsServerTest, ServesItsPages) {
  ASSERT_TRUE(serve("127.0.0.1:0", {}));
  const std::string page = ask("GET /metrics");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(page, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(page, HasSubstr("\r\n\r\nthe_page 1\n"));
  EXPECT_THAT(ask("GET /metrics?x=1"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask("HEAD /metrics"), ::testing::EndsWith("\r\n\r\n"));
  EXPECT_THAT(ask("GET /healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask("GET /readyz"), StartsWith("HTTP/1.1 503"));
  ready_ = true;
  EXPECT_THAT(ask("GET /readyz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask("GET /other"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(ask("POST /metrics"), StartsWith("HTTP/1.1 405"));
}

TEST_F(MetricsServerTest, OthersThanAllowedAreRefused) {
  ASSERT_TRUE(serve("127.0.0.1:0", {*policy::Prefix::parse("127.0.0.2/32")}));
  EXPECT_THAT(ask("GET /metrics", "127.0.0.1"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(ask("GET /metrics", "127.0.0.2"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, KeepAliveOverAReload) {
  ASSERT_TRUE(serve("127.0.0.1:0", {}));
  const std::uint16_t before = port();
  const BlockingSocket socket = connect(before);
  const std::string request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  socket.send(request);
  EXPECT_THAT(socket.receive(12), "HTTP/1.1 200");
  ASSERT_TRUE(serve("127.0.0.1:0", {*policy::Prefix::parse("10.0.0.0/8")}));
  EXPECT_EQ(port(), before) << "the socket of an unchanged address was not kept";
  socket.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(socket.receive(1 << 20), HasSubstr("HTTP/1.1 403"));  // the new list holds at once
}

TEST_F(MetricsServerTest, MovesFromOneAddressToAllAndBack) {
  ASSERT_TRUE(serve("127.0.0.1:0", {}));
  const std::string number = std::to_string(port());
  ASSERT_TRUE(serve("127.0.0.1:" + number, {}));
  const auto moved = serve("0.0.0.0:" + number, {});
  ASSERT_TRUE(moved) << moved.error();
  EXPECT_THAT(ask("GET /healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, AddressInUseIsToldAndTheOldServesOn) {
  ASSERT_TRUE(serve("127.0.0.1:0", {}));
  MetricsServer other(io_, {[] { return std::string(); }, [] { return true; }});
  const auto taken = policy::SocketAddress::parse("127.0.0.1:" + std::to_string(port()));
  const auto refused =
      on_control([&] { return other.configure(policy::MetricsConfig{*taken, {}}); });
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), HasSubstr("metrics.bind 127.0.0.1:"));
  EXPECT_THAT(refused.error(), HasSubstr("in use"));
  EXPECT_FALSE(serve("192.0.2.1:1", {}));  // not an address of this host
  EXPECT_THAT(ask("GET /healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, ConnectionsAreBounded) {
  ASSERT_TRUE(serve("127.0.0.1:0", {}));
  std::vector<BlockingSocket> idle;
  for (int i = 0; i < 32; ++i)
    idle.push_back(connect(port()));
  const BlockingSocket one_more = connect(port());
  EXPECT_TRUE(one_more.at_end() || one_more.receive_error() == ECONNRESET);
  idle[7].send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(idle[7].receive(1 << 20), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask("GET /healthz"), StartsWith("HTTP/1.1 200"));  // there is room again
}

TEST_F(MetricsServerTest, EndlessHeadsAreCutOff) {
  ASSERT_TRUE(serve("127.0.0.1:0", {}));
  const BlockingSocket socket = connect(port());
  const std::string much(64 * 1024, 'a');
  ::send(socket.fd(), ("GET /metrics HTTP/1.1\r\nx: " + much).data(), much.size(), MSG_NOSIGNAL);
  EXPECT_THAT(socket.receive(1 << 20), ::testing::Not(HasSubstr("200")));
}

}  // namespace
}  // namespace sluice::gateway
