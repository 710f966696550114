// A transport over real TCP sockets, plain and under TLS.
#include "gateway/transport.h"

#include <chrono>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <sys/socket.h>

#include "tests/unit/relay/tcp_pair.h"

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using testing::BlockingSocket;
using testing::tcp_pair;

struct Ear final : TransportUser {
  void on_readable() override { ++readable; }
  void on_writable() override { ++writable; }
  void on_error() override { ++errors; }
  int readable = 0;
  int writable = 0;
  int errors = 0;
};

class TransportTest : public ::testing::Test {
 protected:
  TransportTest() {
    auto [ours, theirs] = tcp_pair();
    peer_ = std::move(theirs);
    boost::system::error_code error;
    transport_ = Transport::adopt(io_, ours.release(), error);
    transport_->set_user(&ear_);
  }

  // Runs what is ready, and waits for `done` at most so long that a failure is certain.
  template <typename Done>
  bool run_until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < limit) {
      io_.restart();
      io_.run_one_for(10ms);
    }
    return done();
  }
  void run_ready() {
    for (int turn = 0; turn < 5; ++turn) {
      io_.restart();
      io_.poll();
    }
  }
  std::string read() {
    char bytes[64];
    const Received received = transport_->read(bytes);
    last_ = received;
    return std::string(bytes, received.bytes);
  }

  boost::asio::io_context io_{1};
  Ear ear_;
  BlockingSocket peer_;
  TransportPtr transport_;
  Received last_;
};

TEST_F(TransportTest, TellsOnceForEachWant) {
  transport_->want_read();
  transport_->want_read();
  run_ready();
  EXPECT_EQ(ear_.readable, 0);
  peer_.send("one");
  EXPECT_TRUE(run_until([&] { return ear_.readable == 1; }));
  EXPECT_EQ(read(), "one");
  EXPECT_EQ(read(), "");
  EXPECT_EQ(last_.result, ReadResult::again);
  peer_.send("two");  // nobody asked
  run_ready();
  EXPECT_EQ(ear_.readable, 1);
  transport_->want_read();  // it has come before
  EXPECT_TRUE(run_until([&] { return ear_.readable == 2; }));
  EXPECT_EQ(read(), "two");
}

TEST_F(TransportTest, WhatWasLeftUnreadIsToldAgain) {
  peer_.send("abcdef");
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  char two[2];
  EXPECT_EQ(transport_->read(two).bytes, 2u);
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 2; }));
  EXPECT_EQ(read(), "cdef");
}

// The end came together with the last bytes: one event, and a read that did not fill its room.
TEST_F(TransportTest, AnEndThatCameWithTheLastBytesIsTold) {
  peer_.send("last");
  peer_.shutdown_write();
  run_ready();
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  EXPECT_EQ(read(), "last");
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 2; }));
  read();
  EXPECT_EQ(last_.result, ReadResult::eof);
}

TEST_F(TransportTest, AWantOutlivesItsUser) {
  transport_->want_read();
  transport_->set_user(nullptr);
  run_ready();
  Ear next;
  transport_->set_user(&next);
  transport_->want_read();
  peer_.send("x");
  EXPECT_TRUE(run_until([&] { return next.readable == 1; }));
  EXPECT_EQ(ear_.readable, 0);
}

TEST_F(TransportTest, ABlockedWriteGoesOnWhenThePeerReads) {
  const std::string much(8 << 20, 'x');
  Outbox outbox;
  outbox.add(much);
  std::uint64_t sent = 0;
  ASSERT_EQ(transport_->write(outbox, sent), Flush::blocked);
  transport_->want_write();
  run_ready();
  const int before = ear_.writable;
  EXPECT_EQ(peer_.receive(sent).size(), sent);
  EXPECT_TRUE(run_until([&] { return ear_.writable > before; }));
  const std::uint64_t first = sent;
  EXPECT_NE(transport_->write(outbox, sent), Flush::failed);
  EXPECT_GT(sent, first);
}

TEST_F(TransportTest, NobodyIsToldAfterClose) {
  transport_->want_read();
  transport_->want_write();
  transport_->want_error();
  transport_->close();
  run_ready();
  EXPECT_EQ(ear_.readable + ear_.writable + ear_.errors, 0);
  EXPECT_TRUE(peer_.at_end());
  EXPECT_EQ(transport_->use_count(), 1u);  // no wait keeps it any more
}

TEST_F(TransportTest, AResetIsSeenByThePeerAndOneOfThePeerIsTold) {
  transport_->want_error();
  peer_.reset();
  EXPECT_TRUE(run_until([&] { return ear_.errors == 1; }));
  read();
  EXPECT_EQ(last_.result, ReadResult::failed);

  auto [ours, theirs] = tcp_pair();
  boost::system::error_code error;
  Transport::adopt(io_, ours.release(), error)->close_with_reset();
  EXPECT_EQ(theirs.receive_error(), ECONNRESET);
}

TEST_F(TransportTest, AHalfCloseLeavesTheOtherDirection) {
  transport_->shutdown_write();
  EXPECT_TRUE(peer_.at_end());
  peer_.send("still here");
  transport_->want_read();
  EXPECT_TRUE(run_until([&] { return ear_.readable == 1; }));
  EXPECT_EQ(read(), "still here");
}

}  // namespace
}  // namespace sluice::gateway
