// Unit tests of a policy, in YAML beside it: given this packet or request, expect this verdict, by
// this rule. Pure: text in, results out.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "policy/explain.h"

namespace sluice::policy {

struct PolicyTest {
  std::string name;
  Location where;
  // What is sent. A request without a packet begins at its listener.
  std::optional<PacketDescription> packet;
  std::optional<RequestDescription> request;  // its target as written: the caller normalises it
  std::vector<IpAddress> node_addresses;      // what the node is taken to have
  // What is expected; what is absent is not looked at.
  std::optional<Verdict> verdict;
  std::optional<int> status;
  // By phase ("guard", "route", "limits", "upstream", …): the name of what decided, or "" for
  // nothing did.
  std::vector<std::pair<std::string, std::string>> by;
};

// The file: `tests:` a list of { name?, packet?: {…}, request?: {…}, expect: {…} }; for all of them
// `policy: PATH` (from the file's directory) and `node: { addresses: […] }`. Errors are located, all
// at once.
struct PolicyTests {
  std::string policy;  // "": not said
  std::vector<PolicyTest> tests;
  Diagnostics errors;
};
PolicyTests parse_policy_tests(const std::string& file, const std::string& text);

// Empty: it is as expected. Else a line for each difference, with the place in the policy that
// decided.
std::vector<std::string> differences(const PolicyTest& test, const Explanation& explanation);

// "pass", "drop", "caught", "forward", "refuse".
std::string_view word_of(Verdict verdict);
// "bind", "local", "forward", "output".
std::string_view word_of(Way way);

}  // namespace sluice::policy
