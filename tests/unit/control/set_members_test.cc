// Members of sets that are added at run time: kept over restarts, until their time is up.
#include "gateway/control/set_members.h"

#include <fstream>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "scratch_directory.h"

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

const SetMembers::Clock::time_point kNow{std::chrono::seconds(1'800'000'000)};

SetMembers::Member member(const char* text,
                          std::optional<SetMembers::Clock::time_point> expires = std::nullopt) {
  return {.prefix = *policy::Prefix::parse(text), .expires = expires, .reason = "seen scanning"};
}

std::vector<std::string> listed(const SetMembers& members, const std::string& set) {
  std::vector<std::string> out;
  for (const auto& one : members.list(set))
    out.push_back(one.prefix.to_string());
  return out;
}

TEST(SetMembers, SurviveARestartUntilTheirTimeIsUp) {
  const ScratchDirectory scratch;
  const std::string state = scratch / "a/state";
  SetMembers before;
  ASSERT_TRUE(before.load(state, kNow)) << "nothing kept yet is no error";
  ASSERT_TRUE(before.add("bad", member("192.0.2.1", kNow + 1h)));
  ASSERT_TRUE(before.add("bad", member("2001:db8::/64")));
  ASSERT_TRUE(before.add("other", member("192.0.2.9", kNow + 1min)));
  ASSERT_TRUE(before.save(state));
  struct stat status{};
  ASSERT_EQ(::stat((state + "/set-members.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);

  SetMembers after;
  ASSERT_TRUE(after.load(state, kNow + 2min));
  EXPECT_EQ(after.size(), 2U);
  EXPECT_THAT(listed(after, "bad"), ElementsAre("192.0.2.1/32", "2001:db8::/64"));
  EXPECT_EQ(after.list("bad")[0].expires, kNow + 1h);
  EXPECT_EQ(after.list("bad")[0].reason, "seen scanning");
  EXPECT_FALSE(after.list("bad")[1].expires);
  EXPECT_TRUE(listed(after, "other").empty());
}

TEST(SetMembers, ExpireOneByOne) {
  SetMembers members;
  EXPECT_FALSE(members.next_expiry());
  ASSERT_TRUE(members.add("s", member("192.0.2.1", kNow + 10s)));
  ASSERT_TRUE(members.add("s", member("192.0.2.2", kNow + 5s)));
  EXPECT_EQ(members.next_expiry(), kNow + 5s);
  EXPECT_FALSE(members.expire(kNow + 4s));
  EXPECT_TRUE(members.expire(kNow + 5s));
  EXPECT_THAT(listed(members, "s"), ElementsAre("192.0.2.1/32"));
  // Added again it stays longer, and is still one.
  ASSERT_TRUE(members.add("s", member("192.0.2.1", kNow + 1h)));
  EXPECT_FALSE(members.expire(kNow + 10s));
  EXPECT_EQ(members.size(), 1U);
}

TEST(SetMembers, AreGivenToTheParserByTheirSet) {
  SetMembers members;
  ASSERT_TRUE(members.add("b", member("192.0.2.1")));
  ASSERT_TRUE(members.add("b", member("192.0.2.0/24")));
  ASSERT_TRUE(members.add("a", member("2001:db8::1")));
  const auto files = members.files();
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "a");
  EXPECT_EQ(files[1].text, "192.0.2.0/24\n192.0.2.1/32\n");
  EXPECT_EQ(files[1].kind, policy::PolicyFile::Kind::members);
  EXPECT_TRUE(members.remove("b", *policy::Prefix::parse("192.0.2.1")));
  EXPECT_FALSE(members.remove("b", *policy::Prefix::parse("192.0.2.1")));
  EXPECT_FALSE(members.remove("c", *policy::Prefix::parse("192.0.2.1")));
}

TEST(SetMembers, AReasonThatIsTooLongIsCutBetweenCharacters) {
  const ScratchDirectory scratch;
  for (const std::string character : {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\x8c"}) {
    std::string whole;
    while (whole.size() + character.size() <= SetMembers::kMaxReason)
      whole += character;
    auto one = member("192.0.2.1");
    one.reason = whole + character;
    SetMembers before;
    ASSERT_TRUE(before.add("s", one));
    ASSERT_TRUE(before.save(scratch.path()));
    SetMembers after;
    ASSERT_TRUE(after.load(scratch.path(), kNow)) << character;
    ASSERT_EQ(after.list("s").size(), 1U);
    EXPECT_EQ(after.list("s")[0].reason, whole);
  }
}

TEST(SetMembers, EverybodyAndTooManyAreRefused) {
  SetMembers members;
  EXPECT_THAT(members.add("s", member("0.0.0.0/0")).error(), HasSubstr("every address"));
  for (std::uint32_t i = 0; i < SetMembers::kMost; ++i) {
    ASSERT_TRUE(members.add("s", {.prefix = {policy::IpAddress::v4(i), 32}, .expires = {}, .reason = {}}));
  }
  EXPECT_THAT(members.add("s", member("192.0.2.1")).error(), HasSubstr("100000 members"));
  EXPECT_TRUE(members.add("s", member("0.0.0.5"))) << "it is one already";
}

TEST(SetMembers, DamageIsSaidAndHarmless) {
  const ScratchDirectory scratch;
  for (const char* text : {"", "{", "[]", "{\"members\": 5}"}) {
    scratch.write("set-members.json", text);
    SetMembers members;
    const auto loaded = members.load(scratch.path(), kNow);
    ASSERT_FALSE(loaded) << text;
    EXPECT_THAT(loaded.error(), HasSubstr("set-members.json: not what sluice kept"));
    EXPECT_EQ(members.size(), 0U);
  }
  scratch.write("set-members.json",
                "{\"members\": [5, {\"set\": \"s\"}, {\"set\": \"s\", \"address\": \"x\"}, "
                "{\"set\": \"s\", \"address\": \"192.0.2.1\", \"expires\": 1800000005}]}");
  SetMembers members;
  ASSERT_TRUE(members.load(scratch.path(), kNow));
  EXPECT_THAT(listed(members, "s"), ElementsAre("192.0.2.1/32"));
}

}  // namespace
}  // namespace sluice::gateway
