// Which connections end when their peers are banned: those, whatever the socket's family, and no
// others.
#include "kernel/sock_diag.h"

#include <algorithm>
#include <cerrno>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "tests/kernel/keeper_fixture.h"
#include "tests/kernel/sandbox.h"
#include "tests/kernel/tcp.h"

namespace sluice::kernel {
namespace {

using namespace testing;  // NOLINT: test vocabulary

// Connections of several clients to one server, by the client's address.
class Connections {
 public:
  Connections() {
    shell("ip addr add 2001:db8::1/128 dev lo nodad && ip addr add 2001:db8:1::1/128 dev lo nodad");
  }

  void open(const std::string& client, const std::string& server) {
    Fd listener = listen_on(server, 0);
    const bool v6 = client.find(':') != std::string::npos;
    const std::string target = server == "::" ? (v6 ? "::1" : "127.0.0.1") : server;
    clients_[client] = connect_to(target, port_of(listener.get()), client);
    ASSERT_TRUE(clients_[client]);
    servers_[client] = accept_from(listener.get());
    ASSERT_TRUE(servers_[client]);
  }

  // Their server's side has ended.
  std::vector<std::string> ended() {
    std::vector<std::string> out;
    for (const auto& [client, server] : servers_) {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(server.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0 || !alive_.try_emplace(client, true).first->second) {
        alive_[client] = false;
        out.push_back(client);
      }
    }
    return out;
  }

 private:
  std::map<std::string, Fd> clients_;
  std::map<std::string, Fd> servers_;
  std::map<std::string, bool> alive_;
};

bool none_spared(const TcpSocket& /*socket*/) {
  return false;
}

TEST(SockDiag, EndsThoseWhosePeersAreNamed) {
  in_sandbox([] {
    Connections all;
    all.open("127.0.1.1", "127.0.0.1");
    all.open("127.0.1.2", "127.0.0.1");
    all.open("127.0.2.1", "::");  // IPv4 on an IPv6 socket
    all.open("127.0.3.1", "::");
    all.open("2001:db8::1", "::");
    all.open("2001:db8:1::1", "::");
    EXPECT_TRUE(all.ended().empty());
    // The peers that do not belong to the server: their own sockets have it as their peer.
    const auto named = prefixes({"127.0.1.2", "127.0.2.0/24", "2001:db8:1::/64"});
    const auto ended = destroy_tcp_sockets_of(named, none_spared);
    ASSERT_TRUE(ended.has_value());
    EXPECT_EQ(*ended, 3U);
    EXPECT_EQ(all.ended(), (std::vector<std::string>{"127.0.1.2", "127.0.2.1", "2001:db8:1::1"}));
    EXPECT_EQ(destroy_tcp_sockets_of(named, none_spared).value(), 0U);
  });
}

// More than one request's worth of them.
TEST(SockDiag, ManyPrefixesAtOnce) {
  in_sandbox([] {
    Connections all;
    std::vector<Prefix> named;
    std::vector<std::string> expected;
    for (int i = 1; i <= 150; ++i) {
      const std::string client = "127.7.0." + std::to_string(i);
      named.push_back(prefix(client));
      if (i % 50 != 1) continue;  // the first of each request's, and one more
      all.open(client, "127.0.0.1");
      expected.push_back(client);
    }
    all.open("127.7.1.1", "127.0.0.1");
    EXPECT_EQ(destroy_tcp_sockets_of(named, none_spared).value(), 3U);
    std::ranges::sort(expected);
    EXPECT_EQ(all.ended(), expected);
    EXPECT_EQ(destroy_tcp_sockets_of({}, none_spared).value(), 0U);
  });
}

}  // namespace
}  // namespace sluice::kernel
