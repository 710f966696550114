// What a plan says: changes by entry, and rules that can never match.
#include "policy/changes.h"

#include <gmock/gmock.h>

#include "parsing.h"
#include "policy/dead_rules.h"
#include "policy/snapshot.h"

namespace sluice::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr const char* kBefore = R"(version: 1
listeners: { web: { bind: "127.0.0.1:80" } }
upstreams: { api: { endpoints: ["192.0.2.1:80"] }, old: { endpoints: ["192.0.2.2:80"] } }
routes:
  - { name: a, listener: web, path: /a, upstream: api }
  - { name: b, listener: web, path: /b, upstream: old }
guard: { rules: [{ name: telnet, to_ports: [23], protocol: tcp }] }
)";

std::string told(const Change& change) {
  const char* kinds[] = {"+", "-", "~"};
  return std::string(kinds[static_cast<int>(change.kind)]) + change.section + " " + change.name +
         " (" + change.layer + ") " + std::to_string(change.before.line) + ">" +
         std::to_string(change.after.line);
}

std::vector<std::string> told(const std::string& after) {
  std::vector<std::string> out;
  for (const Change& change : changes(parse_good(kBefore), parse_good(after)))
    out.push_back(told(change));
  return out;
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = kBefore;
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(Changes, TheSameMeaningIsNoChange) {
  EXPECT_THAT(told(kBefore), IsEmpty());
  EXPECT_THAT(told("# a comment\n" + std::string(kBefore)), IsEmpty());
}

TEST(Changes, EntriesByNameWithBothPlaces) {
  EXPECT_THAT(told(with("path: /a", "path: /aa")), ElementsAre("~routes a (gateway) 5>5"));
  EXPECT_THAT(told(with("  - { name: a, listener: web, path: /a, upstream: api }\n",
                        "  - { name: c, listener: web, path: /c, upstream: api }\n")),
              ElementsAre("+routes c (gateway) 0>5", "-routes a (gateway) 5>0"));
  EXPECT_THAT(told(with("to_ports: [23]", "to_ports: [24]")),
              ElementsAre("~guard.rules telnet (guard) 7>7"));
  EXPECT_THAT(told(std::string(kBefore) + "protect: { from: [{ cidr: 10.0.0.0/8 }] }\n"),
              ElementsAre("+protect.from 10.0.0.0/8 (guard, interception) 0>8"));
}

// What changes where the second of two lines, which are alike but for the order, comes first.
std::vector<std::string> swapped(const std::string& head, const std::string& one,
                                 const std::string& other, const std::string& tail = "") {
  const std::string start =
      "version: 1\nlisteners: { web: { bind: \"127.0.0.1:80\" } }\n"
      "upstreams: { api: { endpoints: [\"192.0.2.1:80\"] } }\n" +
      head;
  const Config before = parse_good(start + one + other + tail);
  const Config after = parse_good(start + other + one + tail);
  std::vector<std::string> out;
  for (const Change& change : changes(before, after))
    out.push_back(told(change));
  EXPECT_EQ(out.empty(), fingerprint(before) == fingerprint(after));
  return out;
}

std::vector<std::string> swapped_routes(const std::string& one, const std::string& other) {
  const auto route = [](const std::string& rest) {
    return "  - { listener: web, upstream: api, " + rest + " }\n";
  };
  return swapped("routes:\n", route(one), route(other));
}

TEST(Changes, RoutesInAnotherOrderWhereTheFirstDecides) {
  const auto order = ElementsAre("~routes their order (gateway) 0>0");
  EXPECT_THAT(swapped_routes("name: a, path: { regex: /v.* }", "name: b, path: { regex: /v1.* }"),
              order);
  EXPECT_THAT(swapped_routes("name: a, path: /v, headers: [{ name: x, exact: a }]",
                             "name: b, path: /v/, headers: [{ name: y, exact: b }]"),
              order);
  // Elsewhere, or the more specific one is first anyhow.
  EXPECT_THAT(swapped_routes("name: a, path: /v", "name: b, path: /w"), IsEmpty());
  EXPECT_THAT(swapped_routes("name: a, path: /v, methods: [GET]", "name: b, path: /v"), IsEmpty());
  EXPECT_THAT(swapped_routes("name: a, host: a.example, path: { regex: /v.* }",
                             "name: b, host: b.example, path: { regex: /v1.* }"),
              IsEmpty());
}

TEST(Changes, ListsInAnotherOrderThatMeansSomething) {
  const std::string providers = "ai:\n  providers:\n    a: { kind: openai, keys: [\"file:/a\"] }\n";
  const std::string one = "    b: { kind: openai, keys: [\"file:/b\"] }\n";
  const std::string other = "    c: { kind: openai, keys: [\"file:/c\"] }\n";
  EXPECT_THAT(swapped(providers, one, other),
              ElementsAre("~ai.providers their order (gateway) 4>4"));
  EXPECT_THAT(swapped(providers + one + "  filters:\n", "    x: { find: [email] }\n",
                      "    y: { find: [credit_card] }\n"),
              ElementsAre("~ai.filters their order (gateway) 4>4"));
  EXPECT_THAT(
      swapped(providers + one + "  models:\n    m:\n      targets:\n",
              "        - { provider: a, model: x }\n", "        - { provider: b, model: y }\n"),
      ElementsAre(HasSubstr("~ai.models m (gateway)")));
  EXPECT_THAT(swapped("guard:\n  rules:\n", "    - { name: r, from: [10.0.0.0/8] }\n",
                      "    - { name: s, from: [10.1.0.0/16] }\n"),
              ElementsAre("~guard.rules their order (guard) 4>4"));
  EXPECT_THAT(swapped(providers + one + "  models:\n", "    m: { targets: [{ provider: a }] }\n",
                      "    n: { targets: [{ provider: b }] }\n"),
              IsEmpty());
}

TEST(Changes, SettingsAreToldByTheirSection) {
  EXPECT_THAT(told(std::string(kBefore) + "workers: 3\n"),
              ElementsAre("~workers settings (keeper, gateway) 0>0"));
  EXPECT_THAT(told(std::string(kBefore) + "protect: { host_ports: [2222] }\n"),
              ElementsAre("~protect.host_ports settings (guard, interception) 0>0"));
  EXPECT_THAT(told(std::string(kBefore) + "sets: { s: { elements: [192.0.2.0/24] } }\n"),
              ElementsAre("+sets s (guard, gateway) 0>8"));
  EXPECT_THAT(told(std::string(kBefore) + "trusted_proxies: [192.0.2.1]\n"),
              ElementsAre("~trusted_proxies settings (gateway) 0>0"));
  EXPECT_THAT(told(std::string(kBefore) + "default_route: { local: 403 }\n"),
              ElementsAre(HasSubstr("~default_route settings (gateway)")));
}

std::vector<std::string> dead(const std::string& rest) {
  std::vector<std::string> out;
  const Config config = parse_good("version: 1\nlisteners: { web: { bind: \"127.0.0.1:80\" }, "
                                   "raw: { bind: \"127.0.0.1:81\", protocol: tcp } }\n"
                                   "upstreams: { api: { endpoints: [\"192.0.2.1:80\"] } }\n" +
                                   rest);
  for (const Diagnostic& warning : find_dead_rules(config)) {
    EXPECT_EQ(warning.severity, Diagnostic::Severity::warning);
    EXPECT_GT(warning.where.line, 0);
    out.push_back(warning.message);
  }
  return out;
}

TEST(DeadRules, FieldsThatNoPacketHasTogether) {
  EXPECT_THAT(dead("guard: { rules: [{ name: a, from: [10.0.0.0/8], except: { from: [10.0.0.0/8] "
                   "} }] }"),
              ElementsAre(HasSubstr("its `except` holds for all")));
  EXPECT_THAT(dead("guard: { rules: [{ name: a, from: [10.0.0.0/8], except: { from: [10.1.0.0/16] "
                   "} }] }"),
              IsEmpty());
}

TEST(DeadRules, ARuleBehindOneThatDropsAllOfItsPackets) {
  EXPECT_THAT(dead("guard: { rules: [{ name: wide, from: [10.0.0.0/8] },\n"
                   "  { name: narrow, from: [10.1.0.0/16], to_ports: [80], protocol: tcp }] }"),
              ElementsAre(HasSubstr("`narrow` never decides: rule `wide`")));
  // Counts all the same; drops more; looks elsewhere; the first only counts, or is on audit.
  for (const char* rules :
       {"{ name: wide, from: [10.0.0.0/8] }, { name: b, from: [10.1.0.0/16], action: count }",
        "{ name: wide, from: [10.0.0.0/16] }, { name: b, from: [10.0.0.0/8] }",
        "{ name: wide, from: [10.0.0.0/8] }, { name: b, from: [10.1.0.0/16], direction: both }",
        "{ name: wide, from: [10.0.0.0/8], action: count }, { name: b, from: [10.1.0.0/16] }",
        "{ name: wide, from: [10.0.0.0/8], mode: audit }, { name: b, from: [10.1.0.0/16] }"})
    EXPECT_THAT(dead(std::string("guard: { rules: [") + rules + "] }"), IsEmpty()) << rules;
}

TEST(DeadRules, ARuleOnAnotherInterfaceThanTheGuardsDecides) {
  const auto after_wide = [](const std::string& interfaces) {
    return dead(
        "guard: { interfaces: [lan0], rules: [{ name: wide, from: [10.0.0.0/8] },\n"
        "  { name: b, from: [10.1.0.0/16], interfaces: [" +
        interfaces + "] }] }");
  };
  EXPECT_THAT(after_wide("wan0"), IsEmpty());
  EXPECT_THAT(after_wide("lan0"), ElementsAre(HasSubstr("`b` never decides: rule `wide`")));
}

TEST(DeadRules, InterceptionThatNeverSeesAnything) {
  EXPECT_THAT(dead("intercept:\n"
                   "  local: [{ to: [203.0.113.0/24], ports: [80], listener: web }]\n"
                   "  forward: [{ to: [203.0.113.0/25], ports: [80], listener: web }]\n"),
              ElementsAre(HasSubstr("intercept.forward: can never match")));
}

std::vector<std::string> dead_entries(const std::string& way, const std::string& early,
                                      const std::string& late, const std::string& more = "") {
  return dead("intercept:\n  " + way + ":\n    - { " + early + " }\n    - { " + late + " }\n" +
              more);
}

TEST(DeadRules, InterceptionBehindAnEntryThatCatchesAllOfItsConnections) {
  const auto told = [](const char* way) {
    return ElementsAre(
        HasSubstr(std::string("intercept.") + way + ": never decides: the entry at "));
  };
  const std::string wide = "from: [10.0.0.0/8], ports: [80], listener: web";
  const std::string narrow = "from: [10.1.0.0/16], ports: [80], listener: web";
  EXPECT_THAT(dead_entries("forward", wide, narrow), told("forward"));
  EXPECT_THAT(dead_entries("forward", wide, narrow + ", to: [198.51.100.0/24]"), told("forward"));
  EXPECT_THAT(dead_entries("forward", wide, narrow + ", on_exit: bypass"), told("forward"))
      << "the first one says what happens without a gateway";
  EXPECT_THAT(dead_entries("output", "to: [198.51.100.0/24], ports: [80-90], listener: web",
                           "to: [198.51.100.0/25], ports: [81], listener: web"),
              told("output"));
  EXPECT_THAT(dead_entries("local", "to: [203.0.113.0/24], ports: [80, 81], listener: web",
                           "to: [203.0.113.0/24], ports: [80], listener: web"),
              told("local"));
}

TEST(DeadRules, InterceptionThatDecidesThoughAnEntryBeforeCatchesTheSame) {
  const std::string wide = "from: [10.0.0.0/8], ports: [80], listener: web";
  const std::string narrow = "from: [10.1.0.0/16], ports: [80], listener: web";
  EXPECT_THAT(dead_entries("forward", narrow, wide), IsEmpty());
  EXPECT_THAT(dead_entries("forward", wide + ", except: { to: [198.51.100.0/24] }", narrow),
              IsEmpty());
  EXPECT_THAT(dead_entries("forward", wide, narrow + ", on_change: reset"), IsEmpty());
  EXPECT_THAT(dead_entries("forward", wide, narrow + ", to: [198.51.100.0/24], on_exit: bypass"),
              IsEmpty())
      << "steering by the destination prefers it";
  EXPECT_THAT(dead_entries("forward", wide, narrow + ", to: [198.51.100.0/25]",
                           "    - { " + wide + ", to: [198.51.100.0/24], on_exit: bypass }\n"),
              IsEmpty())
      << "it keeps its connections from the third";
  EXPECT_THAT(dead_entries("local", "to: [203.0.113.0/24], ports: [80], listener: web",
                           "to: [203.0.113.0/25], ports: [80], listener: raw"),
              IsEmpty());
}

}  // namespace
}  // namespace sluice::policy
