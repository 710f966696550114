// Against a real DNS server (dnsmasq) on a port of its own.
#include "gateway/upstream/dns_resolver.h"

#include <arpa/inet.h>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <optional>
#include <random>
#include <spawn.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using Verdict = DnsReply::Verdict;

// A UDP socket on 127.0.0.1; says nothing.
class UdpSocket {
 public:
  UdpSocket() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    socklen_t length = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
  }
  ~UdpSocket() { ::close(fd_); }
  UdpSocket(const UdpSocket&) = delete;
  UdpSocket& operator=(const UdpSocket&) = delete;
  int fd() const { return fd_; }
  std::uint16_t port() const { return port_; }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

policy::SocketAddress at(std::uint16_t port) {
  return {policy::IpAddress::v4(INADDR_LOOPBACK), port};
}

bool free_for(int type, std::uint16_t port) {
  const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return bound;
}

// Free for UDP and TCP, and below the ports that the kernel gives to others' sockets meanwhile.
std::uint16_t server_port() {
  static std::mt19937 random(std::random_device{}());
  while (true) {
    const auto port = static_cast<std::uint16_t>(10'000 + random() % 20'000);
    if (free_for(SOCK_DGRAM, port) && free_for(SOCK_STREAM, port)) return port;
  }
}

class DnsServer {
 public:
  explicit DnsServer(std::vector<std::string> records, const std::string& address = "127.0.0.1",
                     std::uint16_t port = server_port())
      : port_(port) {
    std::vector<std::string> words{"dnsmasq",
                                   "--keep-in-foreground",
                                   "--conf-file=/dev/null",
                                   "--no-resolv",
                                   "--no-hosts",
                                   "--bind-interfaces",
                                   "--pid-file=",
                                   "--local=/test/",
                                   "--user=root",
                                   "--local-ttl=7",
                                   "--listen-address=" + address,
                                   "--port=" + std::to_string(port_)};
    words.insert(words.end(), records.begin(), records.end());
    std::vector<char*> arguments;
    for (std::string& word : words)
      arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (::posix_spawnp(&pid_, "dnsmasq", nullptr, nullptr, arguments.data(), environ) != 0)
      ADD_FAILURE() << "dnsmasq (Debian: dnsmasq-base) does not start";
  }
  ~DnsServer() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
  DnsServer(const DnsServer&) = delete;
  DnsServer& operator=(const DnsServer&) = delete;
  std::uint16_t port() const { return port_; }

 private:
  pid_t pid_ = -1;
  std::uint16_t port_ = 0;
};

class DnsResolverTest : public testing::Test {
 protected:
  DnsReply ask(DnsResolver& resolver, const std::string& name, DnsType type) {
    std::optional<DnsReply> reply;
    resolver.ask(name, type, [&](const DnsReply& got) { reply = got; });
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!reply && std::chrono::steady_clock::now() < limit) {
      io.restart();
      io.run_one_for(50ms);
    }
    return reply.value_or(DnsReply{.answer = {}, .reason = "no reply at all"});
  }
  // Until the server, which has only just been started, answers.
  DnsReply ask_until(DnsResolver& resolver, const std::string& name, DnsType type,
                     Verdict verdict = Verdict::answered) {
    DnsReply reply;
    for (int i = 0; i < 400; ++i) {
      reply = ask(resolver, name, type);
      if (reply.verdict == verdict) break;
      std::this_thread::sleep_for(50ms);
    }
    return reply;
  }

  boost::asio::io_context io{1};
};

TEST_F(DnsResolverTest, AnswersWithTheirTtl) {
  const DnsServer server({"--host-record=api.test,10.0.0.1,2001:db8::1,60",
                          "--srv-host=_http._tcp.api.test,api.test,8080,1,2"});
  DnsResolver resolver(io, {.servers = {at(server.port())}, .timeout = 200ms});
  const DnsReply a = ask_until(resolver, "api.test", DnsType::a);
  ASSERT_EQ(a.verdict, Verdict::answered) << a.reason;
  ASSERT_EQ(a.answer.addresses.size(), 1u);
  EXPECT_EQ(a.answer.addresses[0].to_string(), "10.0.0.1");
  EXPECT_EQ(a.answer.ttl, 60s);
  const DnsReply aaaa = ask(resolver, "api.test", DnsType::aaaa);
  ASSERT_EQ(aaaa.answer.addresses.size(), 1u);
  EXPECT_EQ(aaaa.answer.addresses[0].to_string(), "2001:db8::1");
  const DnsReply srv = ask(resolver, "_http._tcp.api.test", DnsType::srv);
  ASSERT_EQ(srv.answer.services.size(), 1u) << srv.reason;
  EXPECT_EQ(srv.answer.services[0], (SrvRecord{1, 2, 8080, "api.test"}));
  EXPECT_EQ(srv.answer.ttl, 7s);
}

TEST_F(DnsResolverTest, NothingThereIsNotAFailure) {
  const DnsServer server({"--host-record=api.test,10.0.0.1"});
  DnsResolver resolver(io, {.servers = {at(server.port())}, .timeout = 200ms});
  EXPECT_EQ(ask_until(resolver, "other.test", DnsType::a, Verdict::empty).verdict, Verdict::empty);
  EXPECT_EQ(ask(resolver, "api.test", DnsType::aaaa).verdict, Verdict::empty);
}

TEST_F(DnsResolverTest, SilenceIsAFailureThatSaysWhy) {
  const UdpSocket silent;
  DnsResolver resolver(io, {.servers = {at(silent.port())}, .timeout = 20ms});
  const DnsReply reply = ask(resolver, "api.test", DnsType::a);
  EXPECT_EQ(reply.verdict, Verdict::failed);
  EXPECT_FALSE(reply.reason.empty());
}

TEST_F(DnsResolverTest, AnotherResolvConfIsRead) {
  const DnsServer first({"--host-record=api.test,10.0.0.1"});
  const DnsServer second({"--host-record=api.test,10.0.0.2"}, "127.0.0.2", first.port());
  const std::string path = testing::TempDir() + "resolv.conf." + std::to_string(::getpid());
  const auto write = [&](std::string_view address) {
    std::ofstream(path + ".new") << "nameserver " << address << "\n";
    std::filesystem::rename(path + ".new", path);
  };
  write("127.0.0.1");
  DnsResolver resolver(io, {.servers = {}, .timeout = 200ms, .resolv_conf = path, .port = first.port()});
  EXPECT_EQ(ask_until(resolver, "api.test", DnsType::a).answer.addresses.at(0).to_string(),
            "10.0.0.1");
  write("127.0.0.2");
  EXPECT_EQ(ask_until(resolver, "api.test", DnsType::a).answer.addresses.at(0).to_string(),
            "10.0.0.2");
  std::filesystem::remove(path);
}

TEST_F(DnsResolverTest, ItsSocketsCarryTheMark) {
  constexpr std::uint32_t kMark = 0x5a17;
  const UdpSocket silent;
  const bool may = ::setsockopt(silent.fd(), SOL_SOCKET, SO_MARK, &kMark, sizeof kMark) == 0;
  const std::uint32_t none = 0;
  if (may) ::setsockopt(silent.fd(), SOL_SOCKET, SO_MARK, &none, sizeof none);
  DnsResolver resolver(io, {.servers = {at(silent.port())}, .timeout = 20ms, .own_mark = kMark});
  int marked = 0;
  resolver.ask("api.test", DnsType::a, [](const DnsReply&) {});
  for (int fd = 0; fd < 256; ++fd) {
    std::uint32_t mark = 0;
    socklen_t size = sizeof mark;
    if (::getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &size) == 0 && mark == kMark) ++marked;
  }
  // Without the right to mark there is no question at all: it would be caught by our own rules.
  EXPECT_EQ(marked > 0, may);
}

TEST_F(DnsResolverTest, GoneWhileAsking) {
  const UdpSocket silent;
  int called = 0;
  {
    DnsResolver resolver(io, {.servers = {at(silent.port())}, .timeout = 20ms});
    resolver.ask("api.test", DnsType::a, [&](const DnsReply&) { ++called; });
    io.run_for(5ms);
  }
  io.restart();
  io.run_for(100ms);
  EXPECT_EQ(called, 0);
}

}  // namespace
}  // namespace sluice::gateway
