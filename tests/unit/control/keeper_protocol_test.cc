#include "kernel/keeper_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sluice::kernel::protocol {
namespace {

std::span<const std::uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::vector<Message> one_of_each() {
  Prefix source{.address = {}, .length = 128, .v4 = false};
  source.address[15] = 7;
  return {
      Hello{.workers = 64, .own_mark = 0x200000},
      Policy{.generation = 1ULL << 40},
      Sockets{.last = false, .entries = {{"web", WayIn::forward, 3}, {"", WayIn::bind, 0}}},
      Commit{.generation = 5},
      Abandon{.generation = 6},
      Drain{.deadline_ms = 30000, .replaced = true},
      Request{.id = 9, .command = "status"},
      KernelSamples{.first = true,
                    .last = false,
                    .samples = {{.name = "a_total",
                                 .labels = {{"rule", "x\ny"}},
                                 .value = 1.5,
                                 .counter = true,
                                 .help = "h"}}},
      Ready{.generation = 5},
      Prepared{.generation = 5, .ok = false, .message = std::string("a\0b", 3)},
      Committed{.generation = 5},
      Ban{.source = source, .seconds = 60, .reason = "limit"},
      Reply{.id = 9, .last = true, .text = std::string(1000, 'x')},
      WantKernelSamples{},
      Drained{},
      ReloadEnded{.ok = true},
      InForce{.generation = 12},
      Material{.generation = 13},
      Memory{.id = 14, .limits = true},
      DrainConnections{.deadline_ms = 5, .cookies = {1, 1ULL << 63}},
  };
}

TEST(KeeperProtocol, EveryMessageSurvivesTheWay) {
  const auto messages = one_of_each();
  ASSERT_EQ(messages.size(), std::variant_size_v<Message>);
  for (const auto& message : messages) {
    const auto bytes = encode(message);
    ASSERT_TRUE(bytes) << message.index();
    const auto decoded = decode(bytes_of(*bytes));
    ASSERT_TRUE(decoded) << message.index() << ": " << decoded.error().message;
    EXPECT_EQ(*decoded, message) << message.index();
  }
}

TEST(KeeperProtocol, EveryCutAndEveryExtraByteIsRefused) {
  for (const auto& message : one_of_each()) {
    const std::string bytes = *encode(message);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      EXPECT_FALSE(decode(bytes_of(bytes.substr(0, size))))
          << message.index() << " cut to " << size;
    EXPECT_FALSE(decode(bytes_of(bytes + '\0'))) << message.index();
  }
}

TEST(KeeperProtocol, AnotherVersionIsNamed) {
  std::string bytes = *encode(Drained{});
  bytes[2] = 9;
  const auto decoded = decode(bytes_of(bytes));
  ASSERT_FALSE(decoded);
  EXPECT_THAT(decoded.error().message, testing::HasSubstr("version 9"));
}

// A keeper that was upgraded tells the gateway of any version before to drain: these bytes never
// change.
TEST(KeeperProtocol, DrainAndDrainedAreFrozen) {
  EXPECT_EQ(*encode(Drain{.deadline_ms = 1000, .replaced = true}),
            std::string("SL\0\0\5\0\xe8\3\0\0\1", 11));
  EXPECT_EQ(*encode(Drained{}), std::string("SL\0\0\16\0", 6));
  EXPECT_NE((*encode(WantKernelSamples{}))[2], '\0');
}

TEST(KeeperProtocol, ValuesOutOfRangeAreRefused) {
  EXPECT_FALSE(decode(bytes_of(*encode(Hello{.workers = 0, .own_mark = 0}))));
  EXPECT_FALSE(decode(bytes_of(*encode(Hello{.workers = 65, .own_mark = 0}))));
  EXPECT_FALSE(decode(bytes_of(*encode(
      Ban{.source = {.address = {}, .length = 129, .v4 = false}, .seconds = 1, .reason = ""}))));
  std::string bytes = *encode(Sockets{.last = true, .entries = {{"", WayIn::bind, 0}}});
  bytes[bytes.size() - 5] = 4;  // the way in
  EXPECT_FALSE(decode(bytes_of(bytes)));
}

TEST(KeeperProtocol, LengthsThatLieAreRefused) {
  std::string bytes = *encode(Reply{.id = 1, .last = true, .text = "abc"});
  for (std::size_t i = bytes.size() - 7; i < bytes.size() - 3; ++i)
    bytes[i] = '\xff';
  EXPECT_FALSE(decode(bytes_of(bytes)));
}

// What fuzzing looks for, in small: any bytes are refused or encode to themselves again.
TEST(KeeperProtocol, DamagedMessagesAreRefusedOrMeanThemselves) {
  std::mt19937 random(7);
  const auto messages = one_of_each();
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = *encode(messages[random() % messages.size()]);
    const int damages = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < damages; ++i)
      bytes[6 + random() % std::max<std::size_t>(1, bytes.size() - 6) - (bytes.size() == 6)] =
          static_cast<char>(random());
    if (const auto decoded = decode(bytes_of(bytes))) {
      EXPECT_EQ(*encode(*decoded), bytes);
    }
  }
}

TEST(KeeperProtocol, TooLongIsRefusedBeforeItIsSent) {
  EXPECT_FALSE(encode(Reply{.id = 1, .last = true, .text = std::string(kMaxMessage, 'x')}));
  EXPECT_FALSE(
      encode(Sockets{.last = true, .entries = std::vector<Sockets::Entry>(kMaxDescriptors + 1)}));
}

TEST(KeeperProtocol, LongTextsAndManySamplesComeInPieces) {
  const std::string text(3 * kMaxText + 5, 'y');
  std::string joined;
  const auto pieces = in_pieces(4, text);
  ASSERT_EQ(pieces.size(), 4U);
  for (const auto& piece : pieces) {
    ASSERT_TRUE(encode(piece));
    joined += std::get<Reply>(piece).text;
    EXPECT_EQ(std::get<Reply>(piece).last, &piece == &pieces.back());
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(in_pieces(4, "").size(), 1U);

  std::vector<KernelSample> samples(2000, {.name = "n",
                                           .labels = {{"rule", std::string(100, 'r')}},
                                           .value = 1,
                                           .counter = true,
                                           .help = "help"});
  samples[7].help = std::string(kMaxMessage, 'h');  // fits nowhere
  std::size_t count = 0;
  const auto batches = in_batches(samples);
  for (const auto& batch : batches) {
    ASSERT_TRUE(encode(batch));
    const auto& part = std::get<KernelSamples>(batch);
    EXPECT_EQ(part.first, &batch == &batches.front());
    EXPECT_EQ(part.last, &batch == &batches.back());
    count += part.samples.size();
  }
  EXPECT_EQ(count, 1999U);
}

TEST(KeeperProtocol, DescriptorsTravelWithTheirMessage) {
  auto ends = make_channel();
  ASSERT_TRUE(ends);
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const OwnedFd reading(pipe_fds[0]);
  OwnedFd writing(pipe_fds[1]);
  const int to_send[] = {writing.get()};
  ASSERT_EQ(send_packet(ends->first.get(), *encode(Policy{.generation = 3}), to_send),
            IoStatus::ok);
  writing.reset();

  auto received = receive_packet(ends->second.get());
  ASSERT_TRUE(received) << received.error().message;
  ASSERT_EQ(received->status, IoStatus::ok);
  ASSERT_EQ(received->received->descriptors.size(), 1U);
  ASSERT_EQ(::write(received->received->descriptors[0].get(), "z", 1), 1);
  char byte = 0;
  ASSERT_EQ(::read(reading.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'z');

  EXPECT_EQ(receive_packet(ends->second.get())->status, IoStatus::would_block);
  ends->first.reset();
  EXPECT_EQ(receive_packet(ends->second.get())->status, IoStatus::closed);
}

TEST(KeeperProtocol, WhoIsOutOfDescriptorsGetsTheMessageAlone) {
  auto ends = make_channel();
  ASSERT_TRUE(ends);
  const int to_send[] = {STDERR_FILENO};
  ASSERT_EQ(send_packet(ends->first.get(), *encode(Memory{.id = 7, .limits = false}), to_send),
            IoStatus::ok);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  auto received = receive_packet(ends->second.get());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(received) << received.error().message;
  ASSERT_EQ(received->status, IoStatus::ok);
  EXPECT_FALSE(received->received->complete());
  EXPECT_EQ(std::get<Memory>(received->received->message).id, 7U);
}

TEST(KeeperProtocol, AMessageWithoutItsDescriptorsIsRefused) {
  auto ends = make_channel();
  ASSERT_TRUE(ends);
  ASSERT_EQ(send_packet(ends->first.get(), *encode(Policy{.generation = 3}), {}), IoStatus::ok);
  EXPECT_FALSE(receive_packet(ends->second.get()));
  const int stray[] = {STDERR_FILENO};
  ASSERT_EQ(send_packet(ends->first.get(), *encode(Drained{}), stray), IoStatus::ok);
  EXPECT_FALSE(receive_packet(ends->second.get()));
}

}  // namespace
}  // namespace sluice::kernel::protocol
