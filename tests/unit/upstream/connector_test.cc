#include "gateway/upstream/connector.h"

#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <thread>

#include "tests/unit/upstream/loopback_server.h"

namespace sluice::gateway {
namespace {

using testing_support::Descriptor;
using testing_support::LoopbackServer;

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  ::getsockopt(fd, level, name, &value, &length);
  return value;
}

// Capabilities belong to threads: this one has none.
void without_capabilities(const std::function<void()>& body) {
  std::thread([&] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    const __user_cap_data_struct none[2] = {};
    ASSERT_EQ(::syscall(SYS_capset, &header, none), 0);
    body();
  }).join();
}

TEST(Connector, MakesANonBlockingSocketWithoutDelay) {
  for (const bool v6 : {false, true}) {
    LoopbackServer server(v6);
    const auto opened = open_connection({.destination = server.address(), .source = {}});
    ASSERT_TRUE(opened.has_value());
    const Descriptor socket(opened->fd);
    EXPECT_TRUE(::fcntl(socket.get(), F_GETFL) & O_NONBLOCK);
    EXPECT_TRUE(::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(option(socket.get(), IPPROTO_TCP, TCP_NODELAY), 1);
    const Descriptor peer = server.accept();
    EXPECT_GE(peer.get(), 0);
    EXPECT_FALSE(connection_result(socket.get()).has_value());
  }
}

TEST(Connector, SetsTheMark) {
  LoopbackServer server;
  const auto opened =
      open_connection({.destination = server.address(), .mark = 0x200000, .source = {}});
  ASSERT_TRUE(opened.has_value()) << opened.error().to_string();
  const Descriptor socket(opened->fd);
  EXPECT_EQ(option(socket.get(), SOL_SOCKET, SO_MARK), 0x200000);
}

TEST(Connector, TakesAnAddressThatIsNotTheNodes) {
  LoopbackServer server(true);
  const auto source = policy::IpAddress::parse("2001:db8:5::7").value();
  const auto opened = open_connection({.destination = server.address(), .source = source});
  ASSERT_TRUE(opened.has_value()) << opened.error().to_string();
  const Descriptor socket(opened->fd);
  EXPECT_EQ(option(socket.get(), IPPROTO_IPV6, IPV6_TRANSPARENT), 1);
  sockaddr_in6 local{};
  socklen_t length = sizeof local;
  ASSERT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &length), 0);
  EXPECT_EQ(std::memcmp(&local.sin6_addr, source.bytes().data(), 16), 0);
}

TEST(Connector, SaysWhatWasNotPermitted) {
  LoopbackServer server;
  without_capabilities([&] {
    const auto marked = open_connection({.destination = server.address(), .mark = 1, .source = {}});
    ASSERT_FALSE(marked.has_value());
    EXPECT_EQ(marked.error().reason, ConnectError::not_permitted);
    EXPECT_EQ(marked.error().to_string(),
              "not permitted (SO_MARK: Operation not permitted; needs CAP_NET_RAW or "
              "CAP_NET_ADMIN)");
    const auto spoofed = open_connection(
        {.destination = server.address(), .source = policy::IpAddress::parse("192.0.2.1")});
    ASSERT_FALSE(spoofed.has_value());
    EXPECT_EQ(spoofed.error().reason, ConnectError::not_permitted);
    EXPECT_FALSE(blames_endpoint(spoofed.error().reason));
    // Neither mark nor foreign source: needs nothing.
    const auto plain = open_connection({.destination = server.address(), .source = {}});
    ASSERT_TRUE(plain.has_value());
    const Descriptor socket(plain->fd);
  });
}

TEST(Connector, OutOfDescriptorsIsOurs) {
  LoopbackServer server;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto opened = open_connection({.destination = server.address(), .source = {}});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().reason, ConnectError::out_of_descriptors);
  EXPECT_FALSE(blames_endpoint(opened.error().reason));
}

}  // namespace
}  // namespace sluice::gateway
