#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "gateway/control/policy_source.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/compiled_policy.h"
#include "gateway/main/explain_question.h"
#include "gateway/main/junit.h"
#include "gateway/main/table.h"
#include "policy/policy_test.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH", "the policy; else what the file's `policy:` says, or /etc/sluice"},
    OptionSpec{"junit", "FILE", "also write the results as JUnit XML"},
    kOutputOption,
};

std::expected<std::string, std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    return std::unexpected(path + ": " + std::strerror(errno != 0 ? errno : EIO));
  return text.str();
}

policy::Explanation run_one(const policy::Snapshot& snapshot, const policy::PolicyTest& test) {
  policy::LiveState live;
  live.node_addresses = test.node_addresses;
  ExplainQuestion question{.packet = test.packet, .request = test.request};
  if (question.request) {
    const auto target = normalised_target(question.request->target);
    if (!target) return malformed(target.error());
    question.request->target = *target;
  }
  return explain(snapshot, question, live);
}

// Results of one file; nullopt: it could not be run, and why was said.
std::optional<std::vector<TestResult>> run_file(const Arguments& arguments,
                                                const std::string& path) {
  const auto text = read_file(path);
  if (!text) {
    std::cerr << "sluice: " << text.error() << '\n';
    return std::nullopt;
  }
  const policy::PolicyTests tests = policy::parse_policy_tests(path, *text);
  if (!tests.errors.empty()) {
    std::cerr << to_text(tests.errors) << '\n';
    return std::nullopt;
  }
  std::string policy_path = arguments.get("policy", "/etc/sluice");
  if (!arguments.has("policy") && !tests.policy.empty())
    policy_path = fs::path(path).parent_path() / tests.policy;
  auto files = gateway::read_policy(policy_path);
  if (!files) {
    std::cerr << "sluice: " << files.error() << '\n';
    return std::nullopt;
  }
  const auto compiled = compile_policy(std::move(*files), gateway::read_set_file);
  if (!compiled) {
    std::cerr << to_text(compiled.error()) << '\n';
    return std::nullopt;
  }
  std::vector<TestResult> results;
  for (const auto& test : tests.tests)
    results.push_back({test.name, test.where.to_string(),
                       policy::differences(test, run_one(*compiled->snapshot, test))});
  return results;
}

void print(const std::vector<TestResult>& results) {
  for (const auto& result : results) {
    const bool good = result.differences.empty();
    const char* colour = !colours() ? "" : good ? "\x1b[32m" : "\x1b[31m";
    std::cout << colour << (good ? "ok    " : "FAILED") << (colours() ? "\x1b[0m" : "") << ' '
              << result.name << '\n';
    for (const auto& line : result.differences)
      std::cout << "       " << result.where << ": " << line << '\n';
  }
}

json::object to_json(const std::vector<TestResult>& results, std::size_t failed) {
  json::array tests;
  for (const auto& result : results) {
    json::array lines;
    for (const auto& line : result.differences)
      lines.emplace_back(line);
    tests.push_back(json::object{{"name", result.name},
                                 {"where", result.where},
                                 {"ok", result.differences.empty()},
                                 {"differences", std::move(lines)}});
  }
  return {{"ok", failed == 0}, {"tests", std::move(tests)}, {"failed", failed}};
}

int test_command(const Arguments& arguments) {
  std::vector<TestResult> results;
  for (const auto& path : arguments.words()) {
    auto some = run_file(arguments, path);
    if (!some) return kExitUsage;
    std::move(some->begin(), some->end(), std::back_inserter(results));
  }
  std::size_t failed = 0;
  for (const auto& result : results)
    failed += result.differences.empty() ? 0 : 1;
  if (const std::string junit = arguments.get("junit"); !junit.empty()) {
    std::ofstream file(junit);
    if (!(file << to_junit(results) << std::flush)) {
      std::cerr << "sluice: " << junit << ": " << std::strerror(errno) << '\n';
      return kExitUsage;
    }
  }
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(to_json(results, failed)) << '\n';
  } else {
    print(results);
    std::cout << results.size() - failed << " passed, " << failed << " failed\n";
  }
  return failed == 0 ? kExitOk : kExitFailed;
}

}  // namespace

const Command kTestCommand{
    .name = "test",
    .words = "FILE...",
    .summary = "Run a policy's unit tests: given this packet or request, expect this verdict.",
    .details =
        "A file beside the policy:\n\n"
        "  policy: policy.yaml\n"
        "  tests:\n"
        "    - { name: telnet is dropped, packet: { from: 198.51.100.8, to: 203.0.113.1, to_port: 23 "
        "},\n"
        "        expect: { verdict: drop, guard: no-telnet } }\n"
        "    - { request: { host: api.example, path: /v1, method: GET, headers: { x-canary: \"1\" } "
        "},\n"
        "        expect: { verdict: forward, route: api, upstream: api } }\n\n"
        "verdict: pass, drop, caught, forward or refuse (with status). guard, intercept, listener, "
        "access, route,\nlimits, upstream: the name of what decided. Nothing runs, and no packet is "
        "sent.",
    .options = kOptions,
    .min_words = 1,
    .max_words = 1000,
    .run = test_command,
    .exit_codes = "1 also: a test failed; 2 also: a file is wrong",
};

}  // namespace sluice::control
