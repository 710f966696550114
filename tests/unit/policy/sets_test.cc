// Named sets: what they hold, the formats of their files, errors located in them, and rules that
// name them.
#include "policy/sets.h"

#include <gmock/gmock.h>
#include <map>
#include <random>

#include "parsing.h"
#include "policy/drop_rules.h"
#include "policy/set_file.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

IpAddress address(const char* text) {
  return *IpAddress::parse(text);
}

std::vector<std::string> held(const AddressSet& set) {
  std::vector<std::string> out;
  for (const Prefix& prefix : set.prefixes())
    out.push_back(prefix.to_string());
  return out;
}

std::shared_ptr<const AddressSet> set_of(std::initializer_list<const char*> texts) {
  std::vector<Prefix> prefixes;
  for (const char* text : texts)
    prefixes.push_back(*Prefix::parse(text));
  return AddressSet::of(prefixes);
}

TEST(AddressSet, OverlapsAndNeighboursBecomeTheFewestPrefixes) {
  EXPECT_THAT(held(*set_of({"10.0.0.0/25", "10.0.0.128/25", "10.0.1.0/24", "10.0.0.7"})),
              ElementsAre("10.0.0.0/23"));
  EXPECT_THAT(held(*set_of({"192.0.2.3", "192.0.2.1", "192.0.2.2", "192.0.2.1"})),
              ElementsAre("192.0.2.1/32", "192.0.2.2/31"));
  EXPECT_THAT(held(*set_of({"2001:db8::/33", "2001:db8:8000::/33", "::1", "255.255.255.255"})),
              ElementsAre("255.255.255.255/32", "::1/128", "2001:db8::/32"));
  EXPECT_THAT(held(*set_of({"ffff::/16", "8000::/1", "0.0.0.0/1", "128.0.0.0/1"})),
              ElementsAre("0.0.0.0/0", "8000::/1"));
  EXPECT_THAT(held(*set_of({"::/0", "0.0.0.0/0"})), ElementsAre("0.0.0.0/0", "::/0"));
  EXPECT_TRUE(set_of({})->empty());
}

TEST(AddressSet, NeverAcrossVersions) {
  const auto v6 = set_of({"::/0"});
  EXPECT_FALSE(v6->contains(address("10.0.0.1")));
  EXPECT_TRUE(v6->contains(address("2001:db8::1")));
  EXPECT_FALSE(set_of({"0.0.0.0/0"})->contains(address("::1")));
}

TEST(AddressSet, TheDigestIsOfWhatItHolds) {
  EXPECT_EQ(set_of({"10.0.0.0/24", "10.0.1.0/24"})->digest(), set_of({"10.0.0.0/23"})->digest());
  EXPECT_NE(set_of({"10.0.0.0/24"})->digest(), set_of({"10.0.0.0/23"})->digest());
  EXPECT_NE(set_of({"10.0.0.0/24"})->digest(), set_of({"2001:db8::/32"})->digest());
}

// Small ones are halved, large ones go by an index: both against a list.
TEST(AddressSet, AgreesWithAList) {
  std::mt19937 random(7);
  for (const int count : {3, 200, 1500}) {
    std::vector<Prefix> prefixes;
    for (int i = 0; i < count; ++i) {
      const int length = 20 + static_cast<int>(random() % 13);
      const IpAddress v4 = IpAddress::v4(0x0a000000U | (random() & 0x00ffffffU));
      prefixes.push_back({v4.masked(length), static_cast<std::uint8_t>(length)});
      IpAddress::Bytes bytes = address("2001:db8::").bytes();
      bytes[4] = static_cast<std::uint8_t>(random());
      bytes[5] = static_cast<std::uint8_t>(random());
      prefixes.push_back({IpAddress(bytes).masked(40 + i % 20), static_cast<std::uint8_t>(40 + i % 20)});
    }
    const auto set = AddressSet::of(prefixes);
    for (int i = 0; i < 600; ++i) {
      IpAddress asked = IpAddress::v4(0x0a000000U | (random() & 0x00ffffffU));
      if (i % 2 == 0) {
        IpAddress::Bytes bytes = prefixes[static_cast<std::size_t>(i) % prefixes.size()].address.bytes();
        bytes[static_cast<std::size_t>(random() % 16)] ^= static_cast<std::uint8_t>(1U << random() % 8);
        asked = IpAddress(bytes);
      }
      const bool expected = std::ranges::any_of(
          prefixes, [&](const Prefix& prefix) { return prefix.contains(asked); });
      ASSERT_EQ(set->contains(asked), expected) << asked.to_string() << " of " << count;
      const Prefix host{asked, static_cast<std::uint8_t>(asked.bits())};
      ASSERT_EQ(set->overlaps(host), expected);
    }
    // What it says it holds is what it was made of.
    EXPECT_EQ(AddressSet::of(set->prefixes())->digest(), set->digest());
    EXPECT_EQ(set->prefixes().size(), set->size());
  }
}

// --- files ---------------------------------------------------------------------------------------

struct Read {
  std::vector<std::string> held;
  std::vector<std::string> errors;
};

Read read(const std::string& format, const std::string& text) {
  const PolicyFile file{"conf/p.yaml", "version: 1\nsets: { s: { file: list, format: " + format +
                                           " } }\n"};
  const ParseResult result =
      parse({&file, 1}, [&](const std::string& path) -> std::expected<std::string, std::string> {
        EXPECT_EQ(path, "conf/list");
        return text;
      });
  Read out{.held = {}, .errors = shown(result.diagnostics)};
  if (result.config) out.held = held(*result.config->sets.front().members);
  return out;
}

TEST(SetFile, CidrLists) {
  const Read list = read("cidr",
                         "# a list\n\n192.0.2.1\r\n  198.51.100.0/24  # why\n2001:db8::/32\n"
                         "\t203.0.113.7/32");
  EXPECT_THAT(list.errors, IsEmpty());
  EXPECT_THAT(list.held, ElementsAre("192.0.2.1/32", "198.51.100.0/24", "203.0.113.7/32",
                                     "2001:db8::/32"));
  EXPECT_THAT(read("cidr", "").held, IsEmpty());
  EXPECT_THAT(read("cidr", "\xef\xbb\xbf" "192.0.2.1\n").held, ElementsAre("192.0.2.1/32"));
}

TEST(SetFile, NetsetsOfFirehol) {
  const Read list = read("netset", "#\n# firehol_level1\n#\n10.0.0.5/8\n2001:db8::1/64\n");
  EXPECT_THAT(list.errors, IsEmpty());
  EXPECT_THAT(list.held, ElementsAre("10.0.0.0/8", "2001:db8::/64"));
}

TEST(SetFile, SpamhausDropAsTextAndAsJson) {
  const Read text = read("spamhaus-drop",
                         "; Spamhaus DROP List 2026/11/24\n; Expires: never\n1.10.16.0/20 ; "
                         "SBL256894\n1.19.0.0/16 ; SBL434604\n");
  EXPECT_THAT(text.errors, IsEmpty());
  EXPECT_THAT(text.held, ElementsAre("1.10.16.0/20", "1.19.0.0/16"));
  const Read json = read(
      "spamhaus-drop",
      "{\"cidr\":\"1.10.16.0/20\",\"sblid\":\"SBL256894\",\"rir\":\"apnic\"}\n"
      "{ \"sblid\": \"SBL1\", \"cidr\" : \"2a06:e480::/29\" }\n"
      "{\"type\":\"metadata\",\"timestamp\":1,\"size\":2,\"records\":2,\"copyright\":\"(c)\"}\n");
  EXPECT_THAT(json.errors, IsEmpty());
  EXPECT_THAT(json.held, ElementsAre("1.10.16.0/20", "2a06:e480::/29"));
}

TEST(SetFile, ErrorsAreLocatedInTheFile) {
  EXPECT_THAT(
      read("cidr", "192.0.2.1\n  192.0.2.300\n10.0.0.1/8\n0.0.0.0/0\n10.0.0.0/33\n::1/129 # x\n")
          .errors,
      ElementsAre("conf/list:2:3: error: `192.0.2.300` is not an address or prefix (one a line, "
                  "such as 192.0.2.0/24 or 2001:db8::/32)",
                  "conf/list:3:1: error: `10.0.0.1/8` has bits set after its prefix (did you mean "
                  "`10.0.0.0/8`? `format: netset` clears them)",
                  "conf/list:4:1: error: `0.0.0.0/0` is every address (a list that names everybody "
                  "is a mistake)",
                  "conf/list:5:1: error: `10.0.0.0/33` is not an address or prefix (one a line, "
                  "such as 192.0.2.0/24 or 2001:db8::/32)",
                  "conf/list:6:1: error: `::1/129` is not an address or prefix (one a line, such as "
                  "192.0.2.0/24 or 2001:db8::/32)"));
  // The wrong format says so on the first line, and a whole file of mistakes stays short.
  std::string page;
  for (int i = 0; i < 1000; ++i)
    page += "<tr><td>not a list</td></tr>\n";
  EXPECT_EQ(read("cidr", page).errors.size(), kMostSetErrors);
  EXPECT_THAT(read("cidr", "1.10.16.0/20 ; SBL256894\n").errors, testing::SizeIs(1));
  EXPECT_THAT(read("spamhaus-drop", "{\"cidr\": 5}\n").errors, testing::SizeIs(1));
  EXPECT_THAT(read("cidr", "1.2.3.4.5\n1.2.3\n01.2.3.4\n1.2.3.4/08\n1.2.3.4/\n/8\n").errors,
              testing::SizeIs(6));
}

TEST(SetFile, OneThatCannotBeReadIsLocatedInThePolicy) {
  const PolicyFile file{"p.yaml", "version: 1\nsets:\n  s: { file: /lists/a }\n"};
  const ParseResult result =
      parse({&file, 1}, [](const std::string&) -> std::expected<std::string, std::string> {
        return std::unexpected("No such file or directory");
      });
  EXPECT_THAT(shown(result.diagnostics),
              ElementsAre("p.yaml:3:14: error: sets.s: cannot read /lists/a: No such file or "
                          "directory (a relative path is looked for beside this policy file)"));
}

// --- rules ---------------------------------------------------------------------------------------

constexpr const char* kRules =
    "version: 1\n"
    "sets:\n"
    "  bad: { elements: [198.51.100.0/24, \"2001:db8::/32\"] }\n"
    "  good: { elements: [198.51.100.7] }\n"
    "  none: {}\n"
    "guard:\n"
    "  rules:\n"
    "    - { name: bad, from: { set: bad }, except: { from: [{ set: good }, 198.51.100.8] } }\n"
    "    - { name: nobody, from: [{ set: none }], to_ports: [80] }\n"
    "    - { name: to, to: [{ set: good }, { cidr: 203.0.113.0/24 }] }\n";

GuardVerdict judged(const Config& config, const char* from, const char* to = "10.0.0.1") {
  return evaluate(*config.guard, {.from = address(from), .to = address(to), .from_port = 40000, .to_port = 80});
}

TEST(SetsInRules, AreAskedLikePrefixes) {
  const Config config = parse_good(kRules);
  EXPECT_EQ(judged(config, "198.51.100.1").dropped_by, 0U);
  EXPECT_EQ(judged(config, "198.51.100.7").dropped_by, std::nullopt);
  EXPECT_EQ(judged(config, "198.51.100.8").dropped_by, std::nullopt);
  EXPECT_EQ(judged(config, "2001:db8::5", "2001:db8:1::1").dropped_by, 0U);
  EXPECT_EQ(judged(config, "192.0.2.1").dropped_by, std::nullopt) << "an empty set names nobody";
  EXPECT_EQ(judged(config, "192.0.2.1", "198.51.100.7").dropped_by, 2U);
  EXPECT_EQ(judged(config, "192.0.2.1", "203.0.113.9").dropped_by, 2U);
}

TEST(SetsInRules, MembersAddedAtRunTimeCount) {
  const PolicyFile files[] = {{"p.yaml", kRules},
                              {"none", "192.0.2.0/24\n", PolicyFile::Kind::members},
                              {"gone", "192.0.2.0/24\n", PolicyFile::Kind::members}};
  const ParseResult with = parse(files);
  ASSERT_TRUE(with.config);
  EXPECT_EQ(judged(*with.config, "192.0.2.1").dropped_by, 1U);
  EXPECT_EQ(with.config->sets[2].declared->size(), 0U);
  EXPECT_EQ(with.config->sets[2].members->size(), 1U);
  const ParseResult without = parse(std::span(files, 1));
  EXPECT_NE(fingerprint(*with.config), fingerprint(*without.config));
}

TEST(SetsInRules, AFileOfASetIsFoundAmongTheFiles) {
  const PolicyFile files[] = {
      {"p.yaml", "version: 1\nsets: { s: { file: a.list, elements: [192.0.2.1] } }\n"},
      {"a.list", "192.0.2.2\n192.0.2.3\n", PolicyFile::Kind::set}};
  const ParseResult result = parse(files);
  ASSERT_THAT(shown(result.diagnostics), IsEmpty());
  EXPECT_THAT(held(*result.config->sets.front().members),
              ElementsAre("192.0.2.1/32", "192.0.2.2/31"));
}

TEST(SetsInRules, ProtectIsRememberedForThemToo) {
  ParseResult result = parse_text(
      "version: 1\nsets: { s: { elements: [10.9.0.0/16] } }\n"
      "protect: { from: [{ cidr: 10.9.1.0/24 }] }\n"
      "guard: { rules: [{ name: x, from: { set: s } }] }\n");
  ASSERT_TRUE(result.config);
  EXPECT_THAT(shown(result.diagnostics),
              ElementsAre("p.yaml:4:18: warning: guard rule `x` names 10.9.1.0/24, which is "
                          "protected: protect wins (protected at p.yaml:3:19)"));
}

}  // namespace
}  // namespace sluice::policy
