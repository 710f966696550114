// A gateway in this process, on a loopback port, in front of a scripted origin.
#pragma once

#include <gtest/gtest.h>
#include <latch>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/gateway.h"
#include "policy/document.h"
#include "wire.h"

namespace sluice::gateway::test {

class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() {
    listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listening_, 64), 0);
    socklen_t size = sizeof address;
    ::getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    GatewayOptions options;
    options.on_ban = [](const BanRequest& request) {
      ADD_FAILURE() << "loopback banned: " << request.reason;
    };
    gateway_ = Gateway::create(std::move(options));
  }
  ~GatewayTest() override {
    gateway_.reset();
    ::close(listening_);
  }

  // `listener`, `upstream`: further keys, `route` too; `rest`: whole sections.
  void apply(const std::string& listener = "", const std::string& upstream = "",
             const std::string& route = "", const std::string& rest = "") {
    const std::string endpoints = endpoints_.empty() ? "\"" + origin_.address() + "\"" : endpoints_;
    policy::PolicyFile file{"test.yaml",
                            "version: 1\nlogs: { access: { format: none } }\n"
                            "listeners: { web: { bind: \"127.0.0.1:" +
                                std::to_string(port_) + "\"" + listener +
                                " } }\nupstreams: { api: { endpoints: [" + endpoints + "]" +
                                upstream + " } }\nroutes: [{ listener: web, upstream: api" + route +
                                " }]\n" + rest};
    auto parsed = policy::parse(std::span(&file, 1));
    for (const auto& diagnostic : parsed.diagnostics)
      ADD_FAILURE() << diagnostic.to_string();
    ASSERT_TRUE(parsed.config.has_value());
    gateway_->apply(policy::Snapshot::compile(std::move(*parsed.config)),
                    {{"web", WayIn::bind, 0, ::dup(listening_)}});
  }

  Wire client() { return Wire::connect(port_); }

  Origin origin_;
  std::string endpoints_;  // quoted, with commas; empty: the origin alone
  int listening_ = -1;
  std::uint16_t port_ = 0;
  std::unique_ptr<Gateway> gateway_;
};

inline constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
inline constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

}  // namespace sluice::gateway::test
