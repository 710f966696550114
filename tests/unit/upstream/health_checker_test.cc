#include "gateway/upstream/health_checker.h"

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/upstream/registry.h"
#include "tests/unit/upstream/loopback_server.h"

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using testing_support::Descriptor;
using testing_support::LoopbackServer;

// Answers every connection with `answer` after it has read a request head, until it is destroyed.
class Origin {
 public:
  explicit Origin(std::string answer, std::uint16_t port = 0)
      : server_(false, port), answer_(std::move(answer)), thread_([this] { serve(); }) {}
  ~Origin() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    ::shutdown(server_.fd(), SHUT_RDWR);  // ends accept()
    thread_.join();
    server_.close();
  }
  policy::SocketAddress address() const { return server_.address(); }
  const std::string& last_request() {
    stop();
    return request_;
  }

 private:
  void serve() {
    while (true) {
      const Descriptor peer = server_.accept();
      if (peer.get() < 0) return;
      std::string head;
      char buffer[1024];
      ssize_t n = 0;
      while (head.find("\r\n\r\n") == std::string::npos &&
             (n = ::recv(peer.get(), buffer, sizeof buffer, 0)) > 0)
        head.append(buffer, static_cast<std::size_t>(n));
      request_ = head;
      ::send(peer.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
    }
  }

  LoopbackServer server_;
  const std::string answer_;
  std::string request_;
  std::thread thread_;
};

constexpr const char* kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr const char* kUnavailable =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

class HealthCheckerTest : public testing::Test {
 protected:
  static policy::Upstream config(policy::SocketAddress address, std::string path) {
    policy::Upstream result;
    result.name = "origin";
    result.endpoints.push_back({.address = address, .weight = 1, .where = {}});
    result.health_check = policy::HealthCheck{.http_path = std::move(path),
                                              .interval = 20ms,
                                              .timeout = 2s,
                                              .unhealthy_threshold = 3,
                                              .healthy_threshold = 2};
    return result;
  }
  Endpoint& follow(policy::Upstream upstream) {
    clusters = registry.apply({std::move(upstream)});
    checker->follow(*clusters);
    return *clusters->at(0).endpoints()[0];
  }
  template <typename Done>
  bool run_until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < limit) {
      io.restart();
      io.run_one_for(10ms);
    }
    return done();
  }
  bool wait_for_changes(std::size_t n) {
    return run_until([&] { return changes.size() >= n; });
  }

  boost::asio::io_context io{1};
  ClusterRegistry registry;
  std::shared_ptr<const ClusterSet> clusters;
  std::vector<HealthChange> changes;
  std::unique_ptr<HealthChecker> checker = std::make_unique<HealthChecker>(
      io, HealthCheckerOptions{.own_mark = 0, .on_change = [this](const HealthChange& change) {
                                 changes.push_back(change);
                               }});
};

TEST_F(HealthCheckerTest, FlipsAsTheOriginGoesDownAndComesUp) {
  auto origin = std::make_optional<Origin>(kOk);
  const auto address = origin->address();
  Endpoint& endpoint = follow(config(address, "/healthz"));
  EXPECT_TRUE(endpoint.healthy());
  run_until([n = 0]() mutable { return ++n > 30; });
  EXPECT_TRUE(endpoint.healthy());
  EXPECT_TRUE(changes.empty());

  origin.reset();
  ASSERT_TRUE(wait_for_changes(1));
  EXPECT_FALSE(endpoint.healthy());
  EXPECT_FALSE(changes[0].healthy);
  EXPECT_EQ(changes[0].upstream, "origin");
  EXPECT_EQ(changes[0].endpoint, address.to_string());
  EXPECT_EQ(changes[0].reason, "connection refused (connect: Connection refused)");

  origin.emplace(kOk, address.port);
  ASSERT_TRUE(wait_for_changes(2));
  EXPECT_TRUE(endpoint.healthy());
  EXPECT_TRUE(changes[1].healthy);
  EXPECT_EQ(changes[1].reason, "HTTP 200");
  EXPECT_EQ(endpoint.totals().health_changes, 2u);
}

TEST_F(HealthCheckerTest, AsksAsTold) {
  Origin origin(kUnavailable);
  follow(config(origin.address(), "/up?deep=1"));
  ASSERT_TRUE(wait_for_changes(1));
  EXPECT_EQ(changes[0].reason, "HTTP 503");
  EXPECT_EQ(origin.last_request(), "GET /up?deep=1 HTTP/1.1\r\nHost: " + changes[0].endpoint +
                                       "\r\nUser-Agent: sluice-health\r\nAccept: */*\r\n"
                                       "Connection: close\r\n\r\n");
}

TEST_F(HealthCheckerTest, TheFirstFailureCountsAtOnce) {
  LoopbackServer closed;
  const auto address = closed.address();
  closed.close();
  auto upstream = config(address, "");
  upstream.health_check->unhealthy_threshold = 1000000;
  Endpoint& endpoint = follow(upstream);
  ASSERT_TRUE(wait_for_changes(1));
  EXPECT_FALSE(endpoint.healthy());
}

TEST_F(HealthCheckerTest, WhatDoesNotSpeakHttpIsUnhealthy) {
  Origin origin("SSH-2.0-OpenSSH_9.2p1\r\n");
  follow(config(origin.address(), "/"));
  ASSERT_TRUE(wait_for_changes(1));
  EXPECT_EQ(changes[0].reason, "not an HTTP/1 answer");
}

TEST_F(HealthCheckerTest, SilenceIsATimeout) {
  LoopbackServer silent;  // the kernel completes the handshake; nobody answers
  auto upstream = config(silent.address(), "/");
  upstream.health_check->timeout = 30ms;
  follow(upstream);
  ASSERT_TRUE(wait_for_changes(1));
  EXPECT_EQ(changes[0].reason, "answer: timeout");
}

TEST_F(HealthCheckerTest, AConnectionSufficesWithoutAPath) {
  LoopbackServer listening;
  Endpoint& endpoint = follow(config(listening.address(), ""));
  ASSERT_TRUE(run_until([&] { return listening.has_waiting(); }));
  EXPECT_TRUE(endpoint.healthy());
  EXPECT_TRUE(changes.empty());
}

TEST_F(HealthCheckerTest, AGoodCheckEndsAConnectEjection) {
  Origin origin(kOk);
  auto upstream = config(origin.address(), "/");
  upstream.endpoints.push_back(upstream.endpoints[0]);
  upstream.endpoints[1].address.port = 1;
  Endpoint& endpoint = follow(upstream);
  const auto now = std::chrono::steady_clock::now();
  for (int i = 0; i < 2; ++i)
    Attempt(clusters->at(0), endpoint).finish(Outcome::connect_failure, now);
  ASSERT_TRUE(endpoint.ejected(now));
  EXPECT_TRUE(run_until([&] { return !endpoint.ejected(now); }));
}

TEST_F(HealthCheckerTest, FollowsThePolicyWithoutDisturbingWhatStays) {
  Origin down(kUnavailable);
  Endpoint& endpoint = follow(config(down.address(), "/"));
  ASSERT_TRUE(wait_for_changes(1));
  EXPECT_EQ(checker->checked(), 1u);

  // An unrelated change: still known to be down, not judged anew.
  auto changed = config(down.address(), "/");
  changed.retry.attempts = 7;
  EXPECT_EQ(&follow(changed), &endpoint);
  EXPECT_FALSE(endpoint.healthy());
  run_until([n = 0]() mutable { return ++n > 30; });
  EXPECT_EQ(changes.size(), 1u);

  // A changed check starts anew but knows what was.
  changed.health_check->http_path = "/other";
  follow(changed);
  EXPECT_FALSE(endpoint.healthy());

  // No check: nothing could call it healthy again.
  changed.health_check.reset();
  follow(changed);
  EXPECT_TRUE(endpoint.healthy());
  EXPECT_EQ(checker->checked(), 0u);
  run_until([n = 0]() mutable { return ++n > 30; });
  EXPECT_EQ(changes.size(), 1u);
}

TEST_F(HealthCheckerTest, StopsInTheMiddleOfACheck) {
  LoopbackServer silent;
  follow(config(silent.address(), "/"));
  run_until([n = 0]() mutable { return ++n > 5; });
  checker.reset();
  io.restart();
  io.run();  // nothing is left to wait for
  EXPECT_TRUE(changes.empty());
}

}  // namespace
}  // namespace sluice::gateway
