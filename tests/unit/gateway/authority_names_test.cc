// Which addresses a name stands for, as a worker learns it.
#include "gateway/authority_names.h"

#include <gtest/gtest.h>
#include <vector>

namespace sluice::gateway {
namespace {

using policy::AuthorityVerdict;
using namespace std::chrono_literals;

policy::AuthorityClaim claim(std::string_view host, const char* destination) {
  return {host, std::nullopt, *policy::SocketAddress::parse(destination)};
}

DnsReply answer(std::vector<const char*> addresses, std::chrono::seconds ttl = 60s) {
  DnsReply reply{.verdict = DnsReply::Verdict::answered, .answer = {}, .reason = {}};
  for (const char* address : addresses)
    reply.answer.addresses.push_back(*policy::IpAddress::parse(address));
  reply.answer.ttl = ttl;
  return reply;
}

struct Asker final : AuthorityUser {
  void on_authority(AuthorityVerdict verdict) override { heard.push_back(verdict); }
  std::vector<AuthorityVerdict> heard;
  AuthorityWaiter waiter{*this};
};

// Its resolver's thread never runs: tests say what servers have said.
class AuthorityNamesTest : public testing::Test {
 protected:
  std::optional<AuthorityVerdict> check(Asker& asker, std::string_view host = "a.example",
                                        const char* destination = "192.0.2.1:80") {
    return names_.check(claim(host, destination), asker.waiter, now_);
  }
  void learn(const DnsReply& reply, std::string_view host = "a.example") {
    names_.learn(host, DnsType::a, reply, now_);
  }

  boost::asio::io_context control_;
  boost::asio::io_context worker_;
  NameResolver resolver_{control_, 0};
  AuthorityNames names_{worker_, resolver_};
  SteadyTime now_{1000s};
};

TEST_F(AuthorityNamesTest, WhoAsksFirstWaitsAndAllHear) {
  Asker right;
  Asker wrong;
  EXPECT_FALSE(check(right));
  EXPECT_FALSE(check(wrong, "a.example", "192.0.2.9:80"));
  learn(answer({"192.0.2.1", "192.0.2.2"}));
  EXPECT_EQ(right.heard, std::vector{AuthorityVerdict::verified});
  EXPECT_EQ(wrong.heard, std::vector{AuthorityVerdict::mismatch});
  EXPECT_EQ(check(right), AuthorityVerdict::verified);
  EXPECT_EQ(check(right, "a.example", "192.0.2.2:80"), AuthorityVerdict::verified);
}

TEST_F(AuthorityNamesTest, WhoLeavesHearsNothing) {
  Asker asker;
  EXPECT_FALSE(check(asker));
  asker.waiter.leave();
  learn(answer({"192.0.2.1"}));
  EXPECT_TRUE(asker.heard.empty());
}

TEST_F(AuthorityNamesTest, BeforeItIsRefusedItIsAskedForAgainButNotAllTheTime) {
  Asker asker;
  EXPECT_FALSE(check(asker));
  learn(answer({"192.0.2.1"}));
  EXPECT_EQ(check(asker, "a.example", "192.0.2.9:80"), AuthorityVerdict::mismatch);
  now_ += AuthorityNames::kAskAgain;
  EXPECT_FALSE(check(asker, "a.example", "192.0.2.9:80"));
  learn(answer({"192.0.2.9"}));
  EXPECT_EQ(asker.heard.back(), AuthorityVerdict::verified);
  EXPECT_EQ(check(asker), AuthorityVerdict::verified) << "what it was just now still counts";
}

TEST_F(AuthorityNamesTest, AnOldAnswerCountsForAWhileAndThenNoMore) {
  Asker asker;
  EXPECT_FALSE(check(asker));
  learn(answer({"192.0.2.1"}, 60s));
  now_ += 60s + AuthorityNames::kKept - 1s;
  EXPECT_EQ(check(asker), AuthorityVerdict::verified);
  learn({.verdict = DnsReply::Verdict::failed, .answer = {}, .reason = "no server"});
  EXPECT_EQ(check(asker), AuthorityVerdict::verified) << "DNS is down";
  now_ += 3s;
  EXPECT_FALSE(check(asker));
  learn({.verdict = DnsReply::Verdict::failed, .answer = {}, .reason = "no server"});
  EXPECT_EQ(asker.heard.back(), AuthorityVerdict::unresolved);
}

TEST_F(AuthorityNamesTest, NoSuchNameIsNoAddress) {
  Asker asker;
  EXPECT_FALSE(check(asker));
  learn({.verdict = DnsReply::Verdict::empty, .answer = {}, .reason = {}});
  EXPECT_EQ(asker.heard.back(), AuthorityVerdict::mismatch);
  EXPECT_EQ(check(asker), AuthorityVerdict::mismatch) << "not asked again at once";
}

TEST_F(AuthorityNamesTest, FamiliesAreApart) {
  Asker asker;
  EXPECT_FALSE(check(asker));
  learn(answer({"192.0.2.1"}));
  EXPECT_FALSE(check(asker, "a.example", "[2001:db8::1]:80"));
}

TEST_F(AuthorityNamesTest, QuestionsAreBounded) {
  std::vector<std::unique_ptr<Asker>> askers;
  for (std::size_t i = 0; i < AuthorityNames::kMostQuestions; ++i) {
    askers.push_back(std::make_unique<Asker>());
    EXPECT_FALSE(check(*askers.back(), "n" + std::to_string(i) + ".example"));
  }
  Asker one_more;
  EXPECT_EQ(check(one_more, "more.example"), AuthorityVerdict::unresolved);
  EXPECT_FALSE(check(one_more, "n0.example")) << "is being asked for";
}

}  // namespace
}  // namespace sluice::gateway
