// The relay between real TCP sockets: a worker thread carries, the test speaks for the client and
// the origin.
#include "gateway/l4_relay.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <random>
#include <sys/socket.h>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "gateway/timer_wheel.h"
#include "tests/unit/relay/tcp_pair.h"

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using testing::BlockingSocket;
using testing::tcp_pair;
namespace asio = boost::asio;

constexpr auto kGuard = 30s;

std::string random_bytes(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    const std::uint64_t word = random();
    bytes.replace(i, 8, reinterpret_cast<const char*>(&word), 8);
  }
  return bytes;
}

// Most that the kernel buffers of one connection may hold: the sender's and the receiver's
// (tcp(7)).
std::uint64_t socket_buffers() {
  std::uint64_t total = 0;
  for (const char* name : {"/proc/sys/net/ipv4/tcp_wmem", "/proc/sys/net/ipv4/tcp_rmem"}) {
    std::ifstream file(name);
    std::uint64_t least = 0;
    std::uint64_t usual = 0;
    std::uint64_t most = 0;
    file >> least >> usual >> most;
    total += most;
  }
  return total;
}

class L4RelayTest : public ::testing::Test {
 protected:
  L4RelayTest() {
    auto [client, facing_client] = tcp_pair();
    auto [facing_origin, origin] = tcp_pair();
    client_ = std::move(client);
    origin_ = std::move(origin);
    inner_client_ = facing_client.release();
    inner_origin_ = facing_origin.release();
    for (const int fd : {inner_client_, inner_origin_})
      ::fcntl(fd, F_SETFL, O_NONBLOCK);
    thread_ = std::thread([this] { io_.run(); });
  }

  ~L4RelayTest() override {
    on_worker([this] {
      if (auto relay = relay_.lock()) relay->cancel();
      wheel_.pause();
    });
    guard_.reset();
    thread_.join();
  }

  template <typename Work>
  std::invoke_result_t<Work> on_worker(Work work) {
    std::packaged_task<std::invoke_result_t<Work>()> task(std::move(work));
    auto result = task.get_future();
    asio::post(io_, [&task] { task(); });
    return result.get();
  }

  void start(RelayOptions options = {}) {
    on_worker([&] {
      boost::system::error_code error;
      TransportPtr client = Transport::adopt(io_, inner_client_, error);
      TransportPtr upstream = Transport::adopt(io_, inner_origin_, error);
      relay_ = L4Relay::start(worker_, std::move(client), std::move(upstream), std::move(options),
                              [this](const RelayResult& result) { result_.set_value(result); });
    });
  }

  RelayResult result() {
    auto future = result_.get_future();
    if (future.wait_for(kGuard) != std::future_status::ready) {
      ADD_FAILURE() << "the relay did not end";
      return {};
    }
    return future.get();
  }

  std::size_t pipes_lent() {
    return on_worker([this] { return worker_.pipes().lent(); });
  }

  // The worker has nothing to do when two turns of its loop in a row move nothing.
  RelayBytes settled_bytes() {
    RelayBytes last;
    for (int same = 0; same < 20;) {
      std::this_thread::sleep_for(10ms);
      const RelayBytes now = on_worker([this] { return relay_.lock()->bytes(); });
      same = now.from_client == last.from_client && now.from_upstream == last.from_upstream
                 ? same + 1
                 : 0;
      last = now;
    }
    return last;
  }

  asio::io_context io_{1};
  TimerWheel wheel_{io_};
  RelayWorker worker_{io_, wheel_};
  asio::executor_work_guard<asio::io_context::executor_type> guard_{io_.get_executor()};
  BlockingSocket client_;
  BlockingSocket origin_;
  int inner_client_ = -1;
  int inner_origin_ = -1;
  std::weak_ptr<L4Relay> relay_;
  std::promise<RelayResult> result_;
  std::thread thread_;
};

TEST_F(L4RelayTest, CarriesBulkBothWaysUnchanged) {
  start();
  const std::string up = random_bytes(24 << 20, 1);
  const std::string down = random_bytes(32 << 20, 2);
  std::thread send_up([&] {
    client_.send(up);
    client_.shutdown_write();
  });
  std::thread send_down([&] {
    origin_.send(down);
    origin_.shutdown_write();
  });
  std::string got_up;
  std::thread receive_up([&] { got_up = origin_.receive(up.size() + 1); });
  const std::string got_down = client_.receive(down.size() + 1);
  send_up.join();
  send_down.join();
  receive_up.join();
  EXPECT_TRUE(got_up == up);
  EXPECT_TRUE(got_down == down);
  const RelayResult ended = result();
  EXPECT_TRUE(ended.end == RelayEnd::client_closed || ended.end == RelayEnd::upstream_closed);
  EXPECT_EQ(ended.bytes.from_client, up.size());
  EXPECT_EQ(ended.bytes.from_upstream, down.size());
  EXPECT_EQ(pipes_lent(), 0U);
}

TEST_F(L4RelayTest, SmallMessagesGoBackAndForth) {
  start();
  for (int i = 0; i < 500; ++i) {
    const std::string question = "question " + std::to_string(i);
    client_.send(question);
    ASSERT_EQ(origin_.receive(question.size()), question);
    const std::string answer = "answer " + std::to_string(i);
    origin_.send(answer);
    ASSERT_EQ(client_.receive(answer.size()), answer);
  }
  EXPECT_EQ(pipes_lent(), 0U);
}

// A direction goes to splice for bulk and back for small messages: nothing may be lost or reordered
// in between.
TEST_F(L4RelayTest, BulkAndSmallInTurns) {
  start();
  for (unsigned round = 0; round < 6; ++round) {
    const std::string bulk = random_bytes(3 << 20, round);
    std::thread sender([&] { client_.send(bulk); });
    ASSERT_TRUE(origin_.receive(bulk.size()) == bulk);
    sender.join();
    for (int i = 0; i < 10; ++i) {
      client_.send("small");
      ASSERT_EQ(origin_.receive(5), "small");
    }
    EXPECT_EQ(pipes_lent(), 0U) << "an idle connection keeps a pipe";
  }
}

TEST_F(L4RelayTest, BytesReadBeforeGoFirst) {
  RelayOptions options;
  options.from_client = random_bytes(200'000, 3);
  options.from_upstream = "early answer ";
  const std::string first = options.from_client;
  client_.send("then this");
  origin_.send("and this");
  start(std::move(options));
  EXPECT_TRUE(origin_.receive(first.size()) == first);
  EXPECT_EQ(origin_.receive(9), "then this");
  EXPECT_EQ(client_.receive(21), "early answer and this");
  client_.close();
  origin_.close();
  EXPECT_EQ(result().bytes.from_client, first.size() + 9);
}

TEST_F(L4RelayTest, ClientEndsFirstAndStillGetsTheAnswer) {
  start();
  client_.send("request");
  client_.shutdown_write();
  EXPECT_EQ(origin_.receive(100), "request");  // up to the end that was passed on
  origin_.send("answer");
  EXPECT_EQ(client_.receive(6), "answer");
  origin_.close();
  EXPECT_TRUE(client_.at_end());
  const RelayResult ended = result();
  EXPECT_EQ(ended.end, RelayEnd::client_closed);
  EXPECT_EQ(ended.bytes.from_client, 7U);
  EXPECT_EQ(ended.bytes.from_upstream, 6U);
}

TEST_F(L4RelayTest, OriginEndsFirstAndStillGetsTheRest) {
  start();
  origin_.send("greeting");
  origin_.shutdown_write();
  EXPECT_EQ(client_.receive(100), "greeting");
  client_.send("last words");
  client_.close();
  EXPECT_EQ(origin_.receive(100), "last words");
  EXPECT_EQ(result().end, RelayEnd::upstream_closed);
}

TEST_F(L4RelayTest, ResetOfTheClientReachesTheOrigin) {
  start();
  client_.send("x");
  ASSERT_EQ(origin_.receive(1), "x");
  client_.reset();
  EXPECT_EQ(origin_.receive_error(), ECONNRESET);
  EXPECT_EQ(result().end, RelayEnd::client_reset);
}

TEST_F(L4RelayTest, ResetOfTheOriginReachesTheClient) {
  start();
  origin_.send("x");
  ASSERT_EQ(client_.receive(1), "x");
  origin_.reset();
  EXPECT_EQ(client_.receive_error(), ECONNRESET);
  EXPECT_EQ(result().end, RelayEnd::upstream_reset);
}

// A client that has ended its requests and then resets is no longer read from: its reset must be
// seen all the same.
TEST_F(L4RelayTest, ResetAfterHalfCloseIsSeen) {
  start();
  client_.send("x");
  client_.shutdown_write();
  ASSERT_EQ(origin_.receive(10), "x");
  client_.reset();
  EXPECT_EQ(result().end, RelayEnd::client_reset);
  // After an end that was read, Linux tells of a reset at the next send only, as EPIPE.
  EXPECT_EQ(::send(origin_.fd(), "y", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(L4RelayTest, ResetIsSeenWhileTheOtherSideIsStuck) {
  start();
  const std::string much = random_bytes(64 << 20, 4);
  std::thread sender([&] {
    std::string_view rest = much;
    ssize_t sent = 1;
    while (sent > 0 && !rest.empty()) {
      sent = ::send(origin_.fd(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) rest.remove_prefix(static_cast<std::size_t>(sent));
      if (sent < 0 && errno == EAGAIN) {
        std::this_thread::sleep_for(300ms);  // the relay has stopped reading: nothing more goes
        sent = ::send(origin_.fd(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      }
    }
  });
  sender.join();
  origin_.reset();
  EXPECT_EQ(result().end, RelayEnd::upstream_reset);
}

TEST_F(L4RelayTest, IdleConnectionEndsAndTrafficPutsItOff) {
  RelayOptions options;
  options.idle = 400ms;
  const auto begun = std::chrono::steady_clock::now();
  start(std::move(options));
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(100ms);
    client_.send("x");
    ASSERT_EQ(origin_.receive(1), "x");
  }
  EXPECT_TRUE(client_.at_end());
  EXPECT_TRUE(origin_.at_end());
  EXPECT_EQ(result().end, RelayEnd::idle_timeout);
  // A lower bound only: the six messages came 600 ms after the start at the earliest, the end no
  // sooner than 1 s.
  EXPECT_GE(std::chrono::steady_clock::now() - begun, 990ms);
}

TEST_F(L4RelayTest, StoppedReaderHoldsBackTheSenderInBoundedMemory) {
  start();
  std::string chunk = random_bytes(1 << 20, 5);
  std::uint64_t taken = 0;
  for (int refused = 0; refused < 20;) {
    const ssize_t sent =
        ::send(origin_.fd(), chunk.data(), chunk.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      taken += static_cast<std::uint64_t>(sent);
      refused = 0;
    } else {
      ++refused;
      std::this_thread::sleep_for(20ms);
    }
    ASSERT_LT(taken, 512U << 20) << "nothing holds the sender back";
  }
  EXPECT_LE(pipes_lent(), 1U);
  const RelayBytes moved = settled_bytes();
  // What is neither with the client's kernel nor with the origin's is with the relay: a pipe at
  // most.
  EXPECT_LE(taken - moved.from_upstream, (1U << 20) + socket_buffers());
  const std::string all = client_.receive(taken);
  EXPECT_EQ(all.size(), taken);
  EXPECT_EQ(pipes_lent(), 0U);
}

TEST_F(L4RelayTest, CancelResetsBothSides) {
  start();
  client_.send("x");
  ASSERT_EQ(origin_.receive(1), "x");
  on_worker([this] { relay_.lock()->cancel(); });
  EXPECT_EQ(client_.receive_error(), ECONNRESET);
  EXPECT_EQ(origin_.receive_error(), ECONNRESET);
  EXPECT_EQ(result().end, RelayEnd::cancelled);
}

TEST(SplicePipePoolTest, KeepsEmptyPipesAndClosesOthers) {
  SplicePipePool pool(1);
  auto one = pool.borrow();
  auto two = pool.borrow();
  ASSERT_TRUE(one && two);
  EXPECT_EQ(pool.lent(), 2U);
  EXPECT_GE(one->capacity(), 4096U);
  const int kept = one->read_end();
  pool.give_back(std::move(*one));
  pool.discard(std::move(*two));
  EXPECT_EQ(pool.lent(), 0U);
  EXPECT_EQ(pool.unused(), 1U);
  EXPECT_EQ(pool.borrow()->read_end(), kept);
}

}  // namespace
}  // namespace sluice::gateway
