#include "gateway/upstream/upstream_worker.h"

#include <array>
#include <atomic>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/original_destination.h"
#include "gateway/upstream/registry.h"
#include "tests/unit/upstream/loopback_server.h"

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using testing_support::Descriptor;
using testing_support::LoopbackServer;

// Hears how a connect ended.
class Ear : public ConnectHandler {
 public:
  void on_connected(UpstreamConnection& connection) override {
    ++connected;
    last = &connection;
  }
  void on_connect_failed(UpstreamConnection&, const ConnectFailure& with) override {
    failure = with;
  }

  int connected = 0;
  UpstreamConnection* last = nullptr;
  std::optional<ConnectFailure> failure;
};

// Calls `read` when there is something to read.
class Reader final : public UpstreamUser {
 public:
  explicit Reader(std::function<void()> read) : read_(std::move(read)) {}
  void on_upstream_readable() override { read_(); }
  void on_upstream_writable() override {}

 private:
  std::function<void()> read_;
};

class UpstreamWorkerTest : public testing::Test {
 protected:
  static policy::Upstream config(std::vector<policy::SocketAddress> endpoints) {
    policy::Upstream result;
    result.name = "origin";
    for (const auto& address : endpoints)
      result.endpoints.push_back({.address = address, .weight = 1, .where = {}});
    return result;
  }
  const Cluster& use(policy::Upstream upstream) {
    return use(std::vector{std::move(upstream)}).at(0);
  }
  const ClusterSet& use(const std::vector<policy::Upstream>& upstreams) {
    clusters = registry.apply(upstreams);
    worker->adopt(clusters);
    return *clusters;
  }
  Attempt begin(const Cluster& cluster, const PickRequest& request = {}) {
    auto attempt = worker->begin(cluster, request);
    EXPECT_TRUE(attempt.has_value());
    return std::move(*attempt);
  }
  // Runs the loop until `done`, 10 s at most.
  template <typename Done>
  bool run_until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < limit) {
      io.restart();
      io.run_one_for(10ms);
    }
    return done();
  }
  UpstreamConnectionPtr open(const Attempt& attempt, const policy::IpAddress& from = {}) {
    auto connection = worker->connect(attempt, from, ear);
    if (!connection) {
      ear.failure = connection.error();
      return nullptr;
    }
    EXPECT_TRUE(
        run_until([&] { return (*connection)->state() != UpstreamConnection::State::connecting; }));
    return std::move(*connection);
  }
  void restart_worker(UpstreamWorkerOptions options) {
    worker = std::make_unique<UpstreamWorker>(io, wheel, options);
  }

  boost::asio::io_context io{1};
  TimerWheel wheel{io};
  ClusterRegistry registry;
  std::shared_ptr<const ClusterSet> clusters;
  std::unique_ptr<UpstreamWorker> worker =
      std::make_unique<UpstreamWorker>(io, wheel, UpstreamWorkerOptions{});
  Ear ear;
  const policy::IpAddress client = policy::IpAddress::parse("127.0.0.9").value();
};

// --- picking
// ---------------------------------------------------------------------------------------

policy::SocketAddress at(std::uint16_t port) {
  return {policy::IpAddress::parse("127.0.0.1").value(), port};
}

TEST_F(UpstreamWorkerTest, RoundRobinStartsElsewhereOnEachWorker) {
  std::set<std::string> first_picks;
  for (std::uint32_t index = 0; index < 3; ++index) {
    restart_worker({.worker = index});
    const Cluster& cluster = use(config({at(1), at(2), at(3)}));
    first_picks.insert(begin(cluster).endpoint().name());
    std::map<std::string, int> counts;
    for (int i = 0; i < 30; ++i)
      ++counts[begin(cluster).endpoint().name()];
    for (const auto& [name, count] : counts)
      EXPECT_EQ(count, 10) << name;
  }
  EXPECT_EQ(first_picks.size(), 3u);
}

TEST_F(UpstreamWorkerTest, EjectedUnhealthyAndDrainedEndpointsAreLeftOut) {
  const Cluster& cluster = use(config({at(1), at(2), at(3)}));
  cluster.endpoints()[0]->set_drained(true);
  for (int i = 0; i < 2; ++i) {
    auto attempt = Attempt(cluster, *cluster.endpoints()[1]);
    EXPECT_EQ(attempt.finish(Outcome::connect_failure, wheel.now()), i == 1);
  }
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(begin(cluster).endpoint().name(), "127.0.0.1:3");
  EXPECT_EQ(cluster.state().totals().panics, 0u);
}

TEST_F(UpstreamWorkerTest, WhenNoneIsLeftAllButTheDrainedAreTried) {
  auto upstream = config({at(1), at(2), at(3)});
  upstream.outlier_detection.max_ejection_percent = 100;
  const Cluster& cluster = use(upstream);
  cluster.endpoints()[0]->set_drained(true);
  for (std::size_t i = 1; i < 3; ++i) {
    for (int n = 0; n < 2; ++n)
      Attempt(cluster, *cluster.endpoints()[i]).finish(Outcome::connect_failure, wheel.now());
  }
  std::set<std::string> picked;
  for (int i = 0; i < 10; ++i)
    picked.insert(begin(cluster).endpoint().name());
  EXPECT_EQ(picked, (std::set<std::string>{"127.0.0.1:2", "127.0.0.1:3"}));
  EXPECT_EQ(cluster.state().totals().panics, 10u);
}

TEST_F(UpstreamWorkerTest, ARetryGoesElsewhereWhileThereIsAnother) {
  const Cluster& cluster = use(config({at(1), at(2)}));
  const Attempt first = begin(cluster);
  const Endpoint* tried[] = {&first.endpoint()};
  for (int i = 0; i < 10; ++i)
    EXPECT_NE(&begin(cluster, {.exclude = tried}).endpoint(), tried[0]);
  const Endpoint* both[] = {cluster.endpoints()[0].get(), cluster.endpoints()[1].get()};
  EXPECT_TRUE(worker->begin(cluster, {.exclude = both}).has_value());
}

TEST_F(UpstreamWorkerTest, NothingToPickIsSaid) {
  const Cluster& cluster = use(config({at(1)}));
  cluster.endpoints()[0]->set_drained(true);
  const auto attempt = worker->begin(cluster, {});
  ASSERT_FALSE(attempt.has_value());
  EXPECT_EQ(attempt.error(), PickError::no_endpoints);
  EXPECT_EQ(cluster.state().totals().no_endpoint, 1u);
}

TEST_F(UpstreamWorkerTest, LeastRequestPrefersTheIdler) {
  auto upstream = config({at(1), at(2)});
  upstream.lb_policy = policy::LbPolicy::least_request;
  const Cluster& cluster = use(upstream);
  std::vector<Attempt> busy;
  for (int i = 0; i < 5; ++i)
    busy.emplace_back(cluster, *cluster.endpoints()[0]);
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(begin(cluster).endpoint().name(), "127.0.0.1:2");
}

TEST_F(UpstreamWorkerTest, MaglevFollowsTheHashAndASickEndpointsValuesMove) {
  auto upstream = config({at(1), at(2), at(3)});
  upstream.lb_policy = policy::LbPolicy::maglev;
  const Cluster& cluster = use(upstream);
  std::map<std::uint64_t, std::string> homes;
  for (std::uint64_t hash = 0; hash < 60; ++hash)
    homes[hash] = begin(cluster, {.hash = hash * 7919}).endpoint().name();
  cluster.endpoints()[0]->set_healthy(false, wheel.now());
  for (const auto& [hash, home] : homes) {
    const std::string now = begin(cluster, {.hash = hash * 7919}).endpoint().name();
    EXPECT_EQ(now == home, home != "127.0.0.1:1");
  }
}

TEST_F(UpstreamWorkerTest, StickyWinsWhileItsEndpointIsWell) {
  const Cluster& cluster = use(config({at(1), at(2), at(3)}));
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(begin(cluster, {.sticky = 2}).endpoint().name(), "127.0.0.1:3");
  cluster.endpoints()[2]->set_drained(true);
  for (int i = 0; i < 5; ++i)
    EXPECT_NE(begin(cluster, {.sticky = 2}).endpoint().name(), "127.0.0.1:3");
}

TEST_F(UpstreamWorkerTest, PeakEwmaLeavesTheSlowOneAlone) {
  auto upstream = config({at(1), at(2)});
  upstream.lb_policy = policy::LbPolicy::peak_ewma;
  const Cluster& cluster = use(upstream);
  cluster.endpoints()[0]->observe_latency(500ms, wheel.now());
  cluster.endpoints()[1]->observe_latency(1ms, wheel.now());
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(begin(cluster).endpoint().name(), "127.0.0.1:2");
}

TEST_F(UpstreamWorkerTest, AnEjectionThatEndsIsNoticed) {
  auto upstream = config({at(1), at(2)});
  upstream.outlier_detection.base_ejection_time = 100ms;
  const Cluster& cluster = use(upstream);
  for (int i = 0; i < 2; ++i)
    Attempt(cluster, *cluster.endpoints()[0]).finish(Outcome::connect_failure, wheel.now());
  EXPECT_EQ(begin(cluster).endpoint().name(), "127.0.0.1:2");
  EXPECT_EQ(begin(cluster).endpoint().name(), "127.0.0.1:2");
  bool back = false;
  EXPECT_TRUE(run_until([&] {
    back = back || begin(cluster).endpoint().name() == "127.0.0.1:1";
    return back;
  }));
}

TEST_F(UpstreamWorkerTest, RequestsOverTheBoundAreRefused) {
  auto upstream = config({at(1)});
  upstream.circuit_breakers.requests = 1;
  const Cluster& cluster = use(upstream);
  {
    const Attempt busy = begin(cluster);
    const auto second = worker->begin(cluster, {});
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error(), PickError::request_limit);
    EXPECT_EQ(cluster.state().totals().request_limit, 1u);
  }
  begin(cluster);
}

// --- the queue
// --------------------------------------------------------------------------------------

struct Queued final : WaitUser {
  void on_place() override {
    if (try_again) try_again();
    ++places;
  }
  void on_queue_timeout() override { ++timeouts; }
  std::function<void()> try_again;
  int places = 0;
  int timeouts = 0;
  Waiter waiter{*this};
};

TEST_F(UpstreamWorkerTest, APlaceThatIsGivenBackGoesToWhoWaitsLongest) {
  LoopbackServer server;
  auto upstream = config({server.address()});
  upstream.circuit_breakers.connections = 1;
  const Cluster& cluster = use(upstream);
  const Attempt attempt = begin(cluster);
  auto connection = open(attempt);
  Queued first, second;
  ASSERT_TRUE(worker->wait(cluster, first.waiter));
  ASSERT_TRUE(worker->wait(cluster, second.waiter));
  EXPECT_EQ(cluster.state().pending(), 2u);
  UpstreamConnectionPtr got;
  first.try_again = [&] {
    got = worker->take_idle(attempt, client);
    if (got)
      first.waiter.leave();
    else
      worker->wait(cluster, first.waiter);
  };
  worker->give_back(std::move(connection));
  EXPECT_TRUE(run_until([&] { return got != nullptr; }));
  EXPECT_EQ(second.places, 0);
  EXPECT_EQ(cluster.state().pending(), 1u);
}

TEST_F(UpstreamWorkerTest, WhoWaitsTooLongIsTold) {
  auto upstream = config({at(1)});
  upstream.queue_timeout = 30ms;
  const Cluster& cluster = use(upstream);
  Queued one;
  one.try_again = [&] { worker->wait(cluster, one.waiter); };
  ASSERT_TRUE(worker->wait(cluster, one.waiter));
  EXPECT_TRUE(run_until([&] { return one.timeouts > 0; }));
  EXPECT_EQ(one.timeouts, 1);
  EXPECT_GT(one.places, 0);  // it was called to look for what other workers give back
  EXPECT_EQ(cluster.state().pending(), 0u);
}

TEST_F(UpstreamWorkerTest, TheQueueIsBoundedAndMayBeNone) {
  auto upstream = config({at(1)});
  upstream.circuit_breakers.pending = 1;
  const Cluster& cluster = use(upstream);
  Queued one, two;
  EXPECT_TRUE(worker->wait(cluster, one.waiter));
  EXPECT_FALSE(worker->wait(cluster, two.waiter));
  EXPECT_EQ(cluster.state().totals().pending_limit, 1u);
  one.waiter.leave();
  upstream.queue_timeout = 0s;
  EXPECT_FALSE(worker->wait(use(upstream), two.waiter));
}

TEST_F(UpstreamWorkerTest, AnAttemptCountsWhileItLives) {
  const Cluster& cluster = use(config({at(1)}));
  {
    Attempt first = begin(cluster);
    const Attempt second = std::move(first);
    EXPECT_EQ(cluster.endpoints()[0]->active_requests(), 1u);
    EXPECT_EQ(cluster.state().active_requests(), 1u);
  }
  EXPECT_EQ(cluster.endpoints()[0]->active_requests(), 0u);
  EXPECT_EQ(cluster.state().active_requests(), 0u);
  EXPECT_EQ(cluster.endpoints()[0]->totals().outcomes[static_cast<std::size_t>(Outcome::neutral)],
            1u);
}

// --- original destination
// --------------------------------------------------------------------------

TEST_F(UpstreamWorkerTest, OriginalDestinationsAreRememberedWithinBounds) {
  restart_worker({.max_original_destinations = 2});
  policy::Upstream direct;
  direct.name = "direct";
  direct.original_destination = true;
  const Cluster& cluster = use(direct);
  const auto unknown = worker->begin(cluster, {});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error(), PickError::no_original_destination);

  const Attempt busy = begin(cluster, {.original_destination = at(1)});
  EXPECT_EQ(busy.endpoint().address(), at(1));
  const Endpoint* second = &begin(cluster, {.original_destination = at(2)}).endpoint();
  EXPECT_EQ(&begin(cluster, {.original_destination = at(2)}).endpoint(), second);
  begin(cluster, {.original_destination = at(3)});  // takes the place of 2: 1 is busy
  EXPECT_EQ(&begin(cluster, {.original_destination = at(1)}).endpoint(), &busy.endpoint());
  EXPECT_EQ(begin(cluster, {.original_destination = at(2)}).endpoint().totals().requests, 1u);
}

TEST_F(UpstreamWorkerTest, ConnectsToTheOriginalDestination) {
  LoopbackServer server(true);
  policy::Upstream direct;
  direct.name = "direct";
  direct.original_destination = true;
  const Cluster& cluster = use(direct);
  {
    const Attempt attempt = begin(cluster, {.original_destination = server.address()});
    auto connection = open(attempt);
    ASSERT_TRUE(connection);
    EXPECT_EQ(connection->state(), UpstreamConnection::State::in_use);
    EXPECT_EQ(worker->pools(), 1u);
  }
  EXPECT_EQ(worker->pools(), 0u);  // gone with its last connection
}

// --- connections
// -----------------------------------------------------------------------------------

TEST_F(UpstreamWorkerTest, ConnectsAndCarriesBytes) {
  LoopbackServer server;
  const Cluster& cluster = use(config({server.address()}));
  const Attempt attempt = begin(cluster);
  auto connection = open(attempt);
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->state(), UpstreamConnection::State::in_use);
  EXPECT_FALSE(connection->reused());
  EXPECT_EQ(&connection->endpoint(), cluster.endpoints()[0].get());
  const Descriptor peer = server.accept();
  Outbox outbox;
  outbox.add("hello");
  std::uint64_t sent = 0;
  EXPECT_EQ(connection->transport().write(outbox, sent), Flush::done);
  char bytes[5];
  EXPECT_EQ(::recv(peer.get(), bytes, sizeof bytes, MSG_WAITALL), 5);
  EXPECT_EQ(std::string(bytes, 5), "hello");
  EXPECT_EQ(cluster.state().open_connections(), 1u);
  connection.reset();
  EXPECT_EQ(::recv(peer.get(), bytes, sizeof bytes, 0), 0);
  EXPECT_EQ(cluster.state().open_connections(), 0u);
  EXPECT_EQ(cluster.endpoints()[0]->open_connections(), 0u);
}

TEST_F(UpstreamWorkerTest, ReusesTheMostRecentConnection) {
  LoopbackServer server;
  const Cluster& cluster = use(config({server.address()}));
  const Attempt attempt = begin(cluster);
  auto older = open(attempt);
  auto newer = open(attempt);
  UpstreamConnection* expected = newer.get();
  worker->give_back(std::move(older));
  worker->give_back(std::move(newer));
  EXPECT_EQ(worker->idle(), 2u);
  for (int round = 0; round < 3; ++round) {
    auto taken = worker->take_idle(attempt, client);
    EXPECT_EQ(taken.get(), expected);
    EXPECT_TRUE(taken->reused());
    worker->give_back(std::move(taken));
    run_until([n = 0]() mutable { return ++n > 5; });
  }
  EXPECT_EQ(cluster.endpoints()[0]->totals().reused, 3u);
  EXPECT_EQ(cluster.endpoints()[0]->totals().connections, 2u);
}

TEST_F(UpstreamWorkerTest, AReusedConnectionStillReads) {
  LoopbackServer server;
  const Attempt attempt = begin(use(config({server.address()})));
  auto connection = open(attempt);
  const Descriptor peer = server.accept();
  for (const std::string answer : {"one", "two", "three"}) {
    worker->give_back(std::move(connection));
    run_until([n = 0]() mutable { return ++n > 3; });
    connection = worker->take_idle(attempt, client);
    ASSERT_TRUE(connection);
    ASSERT_EQ(::send(peer.get(), answer.data(), answer.size(), 0),
              static_cast<ssize_t>(answer.size()));
    std::string got;
    char buffer[16];
    const auto read = [&] { got.append(buffer, connection->transport().read(buffer).bytes); };
    Reader reader(read);
    connection->set_user(&reader);
    connection->want_read();
    EXPECT_TRUE(run_until([&] { return !got.empty(); }));
    connection->set_user(nullptr);
    EXPECT_EQ(got, answer);
  }
}

TEST_F(UpstreamWorkerTest, AnIdleConnectionThatTheOriginClosesIsDiscarded) {
  LoopbackServer server;
  const Cluster& cluster = use(config({server.address()}));
  const Attempt attempt = begin(cluster);
  worker->give_back(open(attempt));
  server.accept().close();
  EXPECT_TRUE(run_until([&] { return worker->idle() == 0; }));
  EXPECT_FALSE(worker->take_idle(attempt, client));
  EXPECT_EQ(cluster.state().open_connections(), 0u);
}

TEST_F(UpstreamWorkerTest, AnIdleConnectionThatSpeaksIsDiscarded) {
  LoopbackServer server;
  const Attempt attempt = begin(use(config({server.address()})));
  worker->give_back(open(attempt));
  const Descriptor peer = server.accept();
  ASSERT_EQ(::send(peer.get(), "HTTP/1.1 408 \r\n\r\n", 17, 0), 17);
  EXPECT_TRUE(run_until([&] { return worker->idle() == 0; }));
}

TEST_F(UpstreamWorkerTest, DiscardsAlsoAfterBeingTakenAndGivenBackWithinOneTurn) {
  LoopbackServer server;
  const Attempt attempt = begin(use(config({server.address()})));
  worker->give_back(open(attempt));
  const Descriptor peer = server.accept();
  for (int i = 0; i < 3; ++i)  // the cancelled watch has not been heard of yet
    worker->give_back(worker->take_idle(attempt, client));
  EXPECT_EQ(worker->idle(), 1u);
  run_until([n = 0]() mutable { return ++n > 5; });
  EXPECT_EQ(worker->idle(), 1u);
  ::shutdown(peer.get(), SHUT_WR);
  EXPECT_TRUE(run_until([&] { return worker->idle() == 0; }));
}

TEST_F(UpstreamWorkerTest, IdleConnectionsTimeOut) {
  LoopbackServer server;
  auto upstream = config({server.address()});
  upstream.timeouts.idle = 30ms;
  const Attempt attempt = begin(use(upstream));
  worker->give_back(open(attempt));
  EXPECT_EQ(worker->idle(), 1u);
  EXPECT_TRUE(run_until([&] { return worker->idle() == 0; }));
  const Descriptor peer = server.accept();
  char byte = 0;
  EXPECT_EQ(::recv(peer.get(), &byte, 1, 0), 0);
}

TEST_F(UpstreamWorkerTest, KeepsNoMoreIdleOnesThanAllowed) {
  restart_worker({.max_idle_per_endpoint = 2});
  LoopbackServer server;
  const Attempt attempt = begin(use(config({server.address()})));
  std::vector<UpstreamConnectionPtr> connections;
  for (int i = 0; i < 4; ++i)
    connections.push_back(open(attempt));
  for (auto& connection : connections)
    worker->give_back(std::move(connection));
  EXPECT_EQ(worker->idle(), 2u);
  EXPECT_EQ(attempt.endpoint().open_connections(), 2u);
}

TEST_F(UpstreamWorkerTest, SaysThatTheConnectionWasRefused) {
  LoopbackServer server;
  const auto address = server.address();
  server.close();
  const Cluster& cluster = use(config({address}));
  const Attempt attempt = begin(cluster);
  EXPECT_FALSE(open(attempt) && !ear.failure);
  ASSERT_TRUE(ear.failure.has_value());
  EXPECT_EQ(ear.failure->reason, ConnectError::refused);
  EXPECT_EQ(outcome_of(ear.failure->reason), Outcome::connect_failure);
  EXPECT_EQ(cluster.state().open_connections(), 0u);
}

TEST_F(UpstreamWorkerTest, GivesUpOnAnEndpointThatDoesNotAnswer) {
  // A full accept queue: further SYNs are dropped.
  LoopbackServer server(false, 0, 0);
  auto upstream = config({server.address()});
  upstream.timeouts.connect = 50ms;
  const Cluster& cluster = use(upstream);
  const Attempt attempt = begin(cluster);
  std::vector<UpstreamConnectionPtr> filling;
  for (int i = 0; i < 10 && !ear.failure; ++i)
    filling.push_back(open(attempt));
  ASSERT_TRUE(ear.failure.has_value());
  EXPECT_EQ(ear.failure->reason, ConnectError::timed_out);
  EXPECT_EQ(ear.failure->to_string(), "connect timeout");
  EXPECT_EQ(outcome_of(ear.failure->reason), Outcome::connect_timeout);
}

TEST_F(UpstreamWorkerTest, AConnectThatWasGivenUpIsNotHeardOfAgain) {
  LoopbackServer server(false, 0, 0);
  const Attempt attempt = begin(use(config({server.address()})));
  std::vector<UpstreamConnectionPtr> filling;
  for (int i = 0; i < 10; ++i) {
    auto connection = worker->connect(attempt, client, ear);
    ASSERT_TRUE(connection.has_value());
    filling.push_back(std::move(*connection));
  }
  ASSERT_EQ(filling.back()->state(), UpstreamConnection::State::connecting);
  for (auto& connection : filling)
    connection->close();
  run_until([n = 0]() mutable { return ++n > 10; });
  EXPECT_EQ(ear.connected, 0);
  EXPECT_FALSE(ear.failure.has_value());
  EXPECT_EQ(attempt.endpoint().open_connections(), 0u);
}

TEST_F(UpstreamWorkerTest, TheConnectionLimitFailsFastAndIdleOnesMakeRoom) {
  LoopbackServer one;
  LoopbackServer two;
  auto upstream = config({one.address(), two.address()});
  upstream.circuit_breakers.connections = 2;
  const Cluster& cluster = use(upstream);
  const Attempt to_one(cluster, *cluster.endpoints()[0]);
  const Attempt to_two(cluster, *cluster.endpoints()[1]);
  auto first = open(to_one);
  auto second = open(to_one);
  EXPECT_FALSE(open(to_two));
  ASSERT_TRUE(ear.failure.has_value());
  EXPECT_EQ(ear.failure->reason, ConnectError::connection_limit);
  EXPECT_EQ(ear.failure->to_string(), "upstream connection limit");
  EXPECT_EQ(outcome_of(ear.failure->reason), Outcome::neutral);
  EXPECT_EQ(cluster.state().totals().connection_limit, 1u);

  worker->give_back(std::move(first));
  EXPECT_TRUE(open(to_two));  // the idle one to `one` made room
  EXPECT_EQ(worker->idle(), 0u);
}

class Holder final : public UpstreamUser {
 public:
  void on_upstream_readable() override {}
  void on_upstream_writable() override {}
  void on_place_wanted() override { ++asked; }

  int asked = 0;
};

TEST_F(UpstreamWorkerTest, AConnectionAtRestMakesRoom) {
  LoopbackServer one;
  LoopbackServer two;
  auto upstream = config({one.address(), two.address()});
  upstream.circuit_breakers.connections = 1;
  const Cluster& cluster = use(upstream);
  const Attempt to_two(cluster, *cluster.endpoints()[1], 1);
  auto held = open(Attempt(cluster, *cluster.endpoints()[0]));
  Holder holder;
  held->set_user(&holder);
  held->rest();
  held->resume();
  EXPECT_FALSE(open(to_two));
  EXPECT_EQ(holder.asked, 0);
  held->rest();
  EXPECT_TRUE(open(to_two));
  EXPECT_EQ(holder.asked, 1);
  EXPECT_EQ(held->state(), UpstreamConnection::State::closed);
}

TEST_F(UpstreamWorkerTest, AConnectionAtRestIsClosedWhenItsEndpointIsGone) {
  LoopbackServer one;
  LoopbackServer two;
  const Cluster& cluster = use(config({one.address(), two.address()}));
  std::array<Holder, 2> holders;
  std::array<UpstreamConnectionPtr, 2> held;
  for (std::uint32_t i = 0; i < 2; ++i) {
    held[i] = open(Attempt(cluster, *cluster.endpoints()[i], i));
    held[i]->set_user(&holders[i]);
    held[i]->rest();
  }
  use(config({one.address()}));
  EXPECT_EQ(holders[0].asked, 0);
  EXPECT_EQ(held[0]->state(), UpstreamConnection::State::in_use);
  EXPECT_EQ(holders[1].asked, 1);
  EXPECT_EQ(held[1]->state(), UpstreamConnection::State::closed);
}

// --- a bound for each endpoint

class EndpointBoundTest : public UpstreamWorkerTest {
 protected:
  void SetUp() override {
    auto upstream = config({servers_[0].address(), servers_[1].address()});
    upstream.circuit_breakers.endpoint_connections = 1;
    cluster = &use(upstream);
  }
  Attempt to(std::uint32_t index) const {
    return Attempt(*cluster, *cluster->endpoints()[index], index);
  }
  // Waits at `at` for a connection to that endpoint.
  void want(UpstreamWorker& at, Queued& who, std::uint32_t index, UpstreamConnectionPtr& got) {
    who.try_again = [this, &at, &who, index, &got] {
      const Attempt attempt = to(index);
      got = at.take_idle(attempt, client);
      if (!got) got = at.connect(attempt, {}, ear).value_or(nullptr);
      if (got)
        who.waiter.leave();
      else
        at.wait(*cluster, who.waiter);
    };
    ASSERT_TRUE(at.wait(*cluster, who.waiter));
  }

  const Cluster* cluster = nullptr;

 private:
  std::array<LoopbackServer, 2> servers_;
};

TEST_F(EndpointBoundTest, WhoFindsNoPlaceGoesElsewhereUnlessItBelongsThere) {
  auto busy = open(to(0));
  Attempt attempt = to(0);
  const auto connect = [&] { return worker->connect(attempt, {}, ear); };
  const auto sticky = worker->open_elsewhere(attempt, {.sticky = 0}, connect);
  ASSERT_FALSE(sticky.has_value());
  EXPECT_EQ(sticky.error().reason, ConnectError::connection_limit);
  EXPECT_EQ(attempt.index(), 0u);

  auto moved = worker->open_elsewhere(attempt, {}, connect);
  ASSERT_TRUE(moved.has_value());
  EXPECT_EQ(attempt.index(), 1u);
  EXPECT_EQ(&attempt.endpoint(), cluster->endpoints()[1].get());
  EXPECT_EQ(cluster->endpoints()[0]->active_requests(), 0u);
  EXPECT_EQ(cluster->endpoints()[1]->active_requests(), 1u);

  Attempt third = to(0);
  const auto full =
      worker->open_elsewhere(third, {}, [&] { return worker->connect(third, {}, ear); });
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().reason, ConnectError::connection_limit);
}

TEST_F(EndpointBoundTest, BackupsAreNotForThoseWhoFindNoPlace) {
  cluster->endpoints()[1]->set_priority(1);
  auto busy = open(to(0));
  Attempt attempt = to(0);
  EXPECT_FALSE(
      worker->open_elsewhere(attempt, {}, [&] { return worker->connect(attempt, {}, ear); }));
  EXPECT_EQ(attempt.index(), 0u);
}

TEST_F(EndpointBoundTest, WhoCannotUseAPlaceLeavesItToTheNext) {
  auto busy = open(to(0));
  auto done = open(to(1));
  Queued first, second;
  UpstreamConnectionPtr never, got;
  want(*worker, first, 0, never);
  want(*worker, second, 1, got);
  worker->give_back(std::move(done));
  EXPECT_TRUE(run_until([&] { return got != nullptr; }));
  EXPECT_EQ(never, nullptr);
}

TEST_F(EndpointBoundTest, WorkersThatLookAtOnceAreNotOverIt) {
  std::atomic<int> holders{0};
  std::atomic<int> over{0};
  const auto contend = [&] {
    boost::asio::io_context own_io{1};
    TimerWheel own_wheel{own_io};
    UpstreamWorker own(own_io, own_wheel, {});
    own.adopt(clusters);
    Ear own_ear;
    const Attempt attempt = to(0);
    for (int got = 0; got < 500;) {
      const auto connection = own.connect(attempt, {}, own_ear);
      if (!connection) continue;
      ++got;
      if (holders.fetch_add(1) != 0) ++over;
      std::this_thread::sleep_for(100us);  // the others look meanwhile
      holders.fetch_sub(1);
      (*connection)->close();
    }
  };
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back(contend);
  threads.clear();
  EXPECT_EQ(over, 0);
}

TEST_F(EndpointBoundTest, WorkersGiveEachOtherWay) {
  UpstreamWorker other(io, wheel, {.worker = 1});
  other.adopt(clusters);
  auto mine = open(to(0));
  auto theirs = other.connect(to(1), {}, ear).value();
  run_until([&] { return theirs->state() != UpstreamConnection::State::connecting; });
  Queued here, there;
  UpstreamConnectionPtr got_here, got_there;
  want(*worker, here, 1, got_here);
  want(other, there, 0, got_there);
  worker->give_back(std::move(mine));
  other.give_back(std::move(theirs));
  EXPECT_TRUE(run_until([&] { return got_here && got_there; }));
}

TEST_F(UpstreamWorkerTest, ConnectionObjectsAreUsedAgain) {
  LoopbackServer server;
  const Attempt attempt = begin(use(config({server.address()})));
  auto connection = open(attempt);
  const UpstreamConnection* object = connection.get();
  connection->attachment() = std::make_unique<ConnectionAttachment>();
  connection.reset();
  connection = open(attempt);
  EXPECT_EQ(connection.get(), object);
  EXPECT_EQ(connection->attachment(), nullptr);
  EXPECT_FALSE(connection->reused());
}

TEST_F(UpstreamWorkerTest, ATakenSocketKeepsCountingUntilItsConnectionIsClosed) {
  LoopbackServer server;
  const Cluster& cluster = use(config({server.address()}));
  const Attempt attempt = begin(cluster);
  worker->give_back(open(attempt));
  auto connection = worker->take_idle(attempt, client);
  const TransportPtr transport = connection->take_transport();
  EXPECT_EQ(cluster.state().open_connections(), 1u);
  const Descriptor peer = server.accept();
  connection->close();
  EXPECT_EQ(cluster.state().open_connections(), 0u);
  connection.reset();
  run_until([n = 0]() mutable { return ++n > 5; });
  EXPECT_EQ(::send(peer.get(), "x", 1, 0), 1);
  char byte = 0;
  bool read = false;
  EXPECT_TRUE(run_until([&] {
    read = read || transport->read({&byte, 1}).result == ReadResult::data;
    return read;
  }));
}

// --- source_address: client
// --------------------------------------------------------------------------

TEST_F(UpstreamWorkerTest, TheOriginSeesTheClientsAddressAndPoolsAreApart) {
  LoopbackServer server;
  auto upstream = config({server.address()});
  upstream.source_address = policy::SourceAddress::client;
  const Attempt attempt = begin(use(upstream));
  auto connection = open(attempt, client);
  ASSERT_TRUE(connection) << ear.failure->to_string();
  EXPECT_EQ(local_address(connection->transport().fd())->address.to_string(), "127.0.0.9");
  worker->give_back(std::move(connection));
  EXPECT_FALSE(worker->take_idle(attempt, policy::IpAddress::parse("127.0.0.10").value()));
  EXPECT_TRUE(worker->take_idle(attempt, client));
}

TEST_F(UpstreamWorkerTest, AClientOfTheOtherVersionIsAClearFailure) {
  LoopbackServer server;
  auto upstream = config({server.address()});
  upstream.source_address = policy::SourceAddress::client;
  const Attempt attempt = begin(use(upstream));
  EXPECT_FALSE(open(attempt, policy::IpAddress::parse("2001:db8::1").value()));
  EXPECT_EQ(ear.failure->reason, ConnectError::source_version);
  EXPECT_EQ(attempt.endpoint().open_connections(), 0u);
}

TEST_F(UpstreamWorkerTest, PoolsOfClientsAreBounded) {
  restart_worker({.max_client_pools = 3});
  LoopbackServer server;
  auto upstream = config({server.address()});
  upstream.source_address = policy::SourceAddress::client;
  const Attempt attempt = begin(use(upstream));
  const auto address = [](std::uint32_t n) { return policy::IpAddress::v4(0x7F000010 + n); };
  UpstreamConnectionPtr in_use = open(attempt, address(0));
  for (std::uint32_t n = 1; n < 6; ++n)
    worker->give_back(open(attempt, address(n)));
  EXPECT_EQ(worker->pools(), 3u);
  EXPECT_EQ(worker->idle(), 3u);
  EXPECT_EQ(in_use->state(), UpstreamConnection::State::in_use);
  worker->give_back(std::move(in_use));  // its pool is gone: closed
  EXPECT_EQ(worker->idle(), 3u);
  EXPECT_EQ(attempt.endpoint().open_connections(), 3u);
}

// --- reload and end
// ----------------------------------------------------------------------------------

TEST_F(UpstreamWorkerTest, AReloadKeepsPoolsOfEndpointsThatStay) {
  LoopbackServer stays;
  LoopbackServer goes;
  const Cluster& before = use(config({stays.address(), goes.address()}));
  const auto held = clusters;
  const Attempt to_stays(before, *before.endpoints()[0]);
  const Attempt to_goes(before, *before.endpoints()[1]);
  auto in_use = open(to_goes);
  worker->give_back(open(to_stays));
  worker->give_back(open(to_goes));
  EXPECT_EQ(worker->idle(), 2u);

  const Cluster& after = use(config({stays.address()}));
  EXPECT_EQ(worker->idle(), 1u);
  worker->give_back(std::move(in_use));
  EXPECT_EQ(worker->idle(), 1u);
  EXPECT_TRUE(worker->take_idle(Attempt(after, *after.endpoints()[0]), client));
}

TEST_F(UpstreamWorkerTest, ConnectionsMayOutliveTheWorker) {
  LoopbackServer server;
  const Cluster& cluster = use(config({server.address()}));
  const Attempt attempt = begin(cluster);
  auto in_use = open(attempt);
  worker->give_back(open(attempt));
  worker.reset();
  EXPECT_EQ(cluster.state().open_connections(), 1u);
  in_use->close();
  in_use.reset();
  run_until([n = 0]() mutable { return ++n > 5; });
  EXPECT_EQ(cluster.state().open_connections(), 0u);
}

}  // namespace
}  // namespace sluice::gateway
