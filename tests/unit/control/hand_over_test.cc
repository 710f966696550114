#include "gateway/main/hand_over.h"

#include <array>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/main/kernel_plan.h"
#include "gateway/tls/ticket_keys.h"

namespace sluice::control {
namespace {

HandOver sample() {
  HandOver out{.attempt = "42-7",
               .from_version = "1.2.3",
               .problem = "",
               .workers = 3,
               .upgrades = 5,
               .files = {{.name = "policy.yaml", .text = "version: 1\n# \xc3\xa4 \xff\n"}},
               .keeper = {},
               .gateways = {},
               .admin = -1,
               .program = -1};
  out.keeper.sockets = {{.identity = "bind 0.0.0.0:80", .worker = 1, .by_tproxy = false, .fd = 9},
                        {.identity = "forward web tproxy", .worker = 0, .by_tproxy = true, .fd = 10}};
  out.keeper.bans = {{.source = to_kernel(*policy::Prefix::parse("2001:db8::/64")),
                      .left = std::chrono::seconds(77),
                      .reason = "limit"}};
  out.gateways = {{.pid = 4242,
                   .channel = 11,
                   .protocol = 1,
                   .hello = {.workers = 3, .own_mark = 0x200000},
                   .retired = true,
                   .left = std::chrono::milliseconds(1500)}};
  const std::string key(gateway::tls::kTicketKeySize, 'k');
  out.ticket_keys = {.keys = {std::make_shared<const gateway::tls::Secret>(key),
                              std::make_shared<const gateway::tls::Secret>("x" + key.substr(1))},
                     .age = std::chrono::seconds(99)};
  return out;
}

// A secret is never where the rest is written down.
TEST(HandOver, TicketKeysAreNotInItsText) {
  const auto memory = write_hand_over(sample());
  ASSERT_TRUE(memory);
  std::string text(65536, '\0');
  const ssize_t size = ::pread(memory->text.get(), text.data(), text.size(), 0);
  ASSERT_GT(size, 0);
  EXPECT_EQ(text.find("kkkkkkkk"), std::string::npos);
}

TEST(HandOver, EverythingArrives) {
  const auto memory = write_hand_over(sample());
  ASSERT_TRUE(memory);
  // Reading it takes these descriptors: they are put back, for the owner to close.
  const std::array<int, 2> taken{memory->policy.get(), memory->ticket_keys.get()};
  const std::array<int, 2> copies{::dup(taken[0]), ::dup(taken[1])};
  const auto read = read_hand_over(memory->text.get());
  ASSERT_TRUE(read) << read.error();
  for (std::size_t i = 0; i < taken.size(); ++i) {
    ::dup2(copies[i], taken[i]);
    ::close(copies[i]);
  }
  ASSERT_EQ(read->ticket_keys.keys.size(), 2U);
  EXPECT_EQ(read->ticket_keys.keys[1]->view(), sample().ticket_keys.keys[1]->view());
  EXPECT_EQ(read->ticket_keys.age, std::chrono::seconds(99));
  EXPECT_EQ(read->attempt, "42-7");
  EXPECT_EQ(read->from_version, "1.2.3");
  EXPECT_EQ(read->workers, 3U);
  EXPECT_EQ(read->upgrades, 5U);
  ASSERT_EQ(read->files.size(), 1U);
  EXPECT_EQ(read->files[0].text, sample().files[0].text);
  ASSERT_EQ(read->keeper.sockets.size(), 2U);
  EXPECT_EQ(read->keeper.sockets[1].identity, "forward web tproxy");
  EXPECT_TRUE(read->keeper.sockets[1].by_tproxy);
  EXPECT_EQ(read->keeper.sockets[0].fd, 9);
  ASSERT_EQ(read->keeper.bans.size(), 1U);
  EXPECT_EQ(read->keeper.bans[0].source, sample().keeper.bans[0].source);
  EXPECT_EQ(read->keeper.bans[0].left, std::chrono::seconds(77));
  ASSERT_EQ(read->gateways.size(), 1U);
  EXPECT_EQ(read->gateways[0].pid, 4242);
  EXPECT_EQ(read->gateways[0].protocol, 1);
  EXPECT_EQ(read->gateways[0].hello, sample().gateways[0].hello);
  EXPECT_TRUE(read->gateways[0].retired);
  EXPECT_EQ(read->gateways[0].left, std::chrono::milliseconds(1500));
}

TEST(HandOver, AProgramThatDoesNotKnowHowIsRefused) {
  const auto memory = write_hand_over(sample());
  ASSERT_TRUE(memory);
  const auto refused = check_program("/bin/true", *memory);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), testing::HasSubstr("/bin/true cannot take over"));
  const auto missing = check_program("/nowhere/sluice", *memory);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error(), testing::HasSubstr("No such file"));
}

TEST(HandOver, BecomingAProgramThatIsNotThereChangesNothing) {
  const HandOver all = sample();
  const auto memory = write_hand_over(all);
  ASSERT_TRUE(memory);
  EXPECT_THAT(become("/nowhere/sluice", all, *memory), testing::HasSubstr("No such file"));
  EXPECT_EQ(::fcntl(memory->text.get(), F_GETFD), FD_CLOEXEC);
}

}  // namespace
}  // namespace sluice::control
