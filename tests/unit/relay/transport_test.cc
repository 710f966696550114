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
  // Without TCP_INQ, what comes is taken for what the lane brings.
  void be_in_lane() { Transport::report_unread_bytes(transport_->fd(), false); }
  // Such words that the transport takes the connection for one that stays.
  void talk() {
    for (int word = 0; word < 4; ++word) {
      const int before = ear_.readable;
      transport_->want_read();
      peer_.send("word");
      ASSERT_TRUE(run_until([&] { return ear_.readable > before; }));
      ASSERT_EQ(read(), "word");
    }
    ear_ = {};
  }
  void expect_the_last_bytes_and_the_end() {
    transport_->want_read();
    ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
    EXPECT_EQ(read(), "last");
    EXPECT_FALSE(transport_->drained());
    transport_->want_read();
    ASSERT_TRUE(run_until([&] { return ear_.readable == 2; }));
    read();
    EXPECT_EQ(last_.result, ReadResult::eof);
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
  expect_the_last_bytes_and_the_end();
}

TEST_F(TransportTest, OfOneThatStaysAShortReadTookAll) {
  talk();
  EXPECT_TRUE(transport_->drained());
  transport_->want_read();
  run_ready();
  EXPECT_EQ(ear_.readable, 0);
  peer_.send("more");
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  char four[4];
  EXPECT_EQ(transport_->read(four).bytes, 4u);
  EXPECT_FALSE(transport_->drained());  // its room was full
}

TEST_F(TransportTest, OfOneThatStaysAnEndWithTheLastBytesIsTold) {
  talk();
  peer_.send("last");
  peer_.shutdown_write();
  expect_the_last_bytes_and_the_end();
}

// Nobody wanted to read when the event came.
TEST_F(TransportTest, OfOneThatStaysAnEndThatNobodyWaitedForIsTold) {
  talk();
  peer_.send("last");
  peer_.shutdown_write();
  run_ready();
  EXPECT_EQ(read(), "last");
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  read();
  EXPECT_EQ(last_.result, ReadResult::eof);
}

// Its wait stands since it was adopted: epoll is not asked anew for that one.
TEST_F(TransportTest, OfOneThatWasReadBeforeAnyEventAnEndWithTheLastBytesIsTold) {
  for (int word = 0; word < 4; ++word) {
    peer_.send("word");
    ASSERT_EQ(read(), "word");
  }
  transport_->want_read();
  run_ready();  // of what has been read
  ear_ = {};
  transport_->want_read();
  peer_.send("last");
  peer_.shutdown_write();
  expect_the_last_bytes_and_the_end();
}

// Asio asks epoll anew for a write: what was asked for before must be asked for again.
TEST_F(TransportTest, OfOneThatStaysAnEndIsToldAfterABlockedWrite) {
  talk();
  const std::string much(8 << 20, 'x');
  Outbox outbox;
  outbox.add(much);
  std::uint64_t sent = 0;
  ASSERT_EQ(transport_->write(outbox, sent), Flush::blocked);
  transport_->want_write();
  peer_.receive(sent);
  ASSERT_TRUE(run_until([&] { return ear_.writable > 0; }));
  peer_.send("last");
  peer_.shutdown_write();
  expect_the_last_bytes_and_the_end();
}

// A read stops in front of an urgent byte, whatever is behind it.
TEST_F(TransportTest, OfOneThatStaysWhatIsBehindAnUrgentByteIsTold) {
  talk();
  peer_.send("before");
  ASSERT_EQ(::send(peer_.fd(), "!", 1, MSG_OOB), 1);
  peer_.send("behind");
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  EXPECT_EQ(read(), "before");
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 2; }));
  EXPECT_EQ(read(), "behind");
}

// splice(2) would pass by what the lane brings.
TEST_F(TransportTest, SplicesOnceTheFirstBytesHaveSaidHowTheyCame) {
  EXPECT_FALSE(transport_->splices());
  peer_.send("word");
  transport_->want_read();
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  EXPECT_EQ(read(), "word");
  EXPECT_TRUE(transport_->splices());
}

TEST_F(TransportTest, WhatTheLaneBringsIsNotSpliced) {
  be_in_lane();
  talk();
  EXPECT_FALSE(transport_->splices());
}

TEST_F(TransportTest, ByTheLaneAShortReadTookAllAndIsLookedAtAgain) {
  be_in_lane();
  talk();
  EXPECT_TRUE(transport_->drained());
  transport_->want_read();
  EXPECT_TRUE(transport_->waits_unsure());
  ASSERT_TRUE(run_until([&] { return !transport_->waits_unsure(); }));
  EXPECT_EQ(ear_.readable, 0);             // there was nothing
  EXPECT_EQ(transport_->use_count(), 2u);  // of the wait; who looked has let go
  peer_.send("more");
  ASSERT_TRUE(run_until([&] { return ear_.readable == 1; }));
  EXPECT_EQ(read(), "more");
}

TEST_F(TransportTest, WhoLooksAgainFindsWhatNoEventTold) {
  be_in_lane();
  talk();
  transport_->want_read();
  peer_.send("late");
  transport_->look_again();
  EXPECT_EQ(ear_.readable, 1);
  EXPECT_EQ(read(), "late");
}

TEST_F(TransportTest, ByTheLaneAShortReadBehindMuchIsNotTrusted) {
  be_in_lane();
  talk();
  const std::string much(ExpressLane::kMost, 'x');
  peer_.send(much);
  std::string room(much.size() + 64, '\0');
  for (std::size_t got = 0; got < much.size();) {
    transport_->want_read();
    const int before = ear_.readable;
    ASSERT_TRUE(run_until([&] { return ear_.readable > before; }));
    got += transport_->read(room).bytes;
  }
  EXPECT_FALSE(transport_->drained());
  transport_->want_read();
  peer_.send("tail");
  const int before = ear_.readable;
  ASSERT_TRUE(run_until([&] { return ear_.readable > before; }));
  EXPECT_EQ(read(), "tail");
  EXPECT_FALSE(transport_->drained());
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
