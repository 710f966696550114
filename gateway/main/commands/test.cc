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
#include "gateway/main/policy_reloader.h"
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

// A file could not be run: in a line, or with what is wrong with it.
struct Refusal {
  std::string error{};
  policy::Diagnostics diagnostics{};
};

std::expected<std::string, std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  errno = file ? 0 : errno;  // what is empty is no error, though nothing can be copied of it
  if (!file || (!(text << file.rdbuf()) && errno != 0))
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

std::expected<std::vector<TestResult>, Refusal> run_file(const Arguments& arguments,
                                                         const std::string& path) {
  const auto text = read_file(path);
  if (!text) return std::unexpected(Refusal{.error = text.error()});
  const policy::PolicyTests tests = policy::parse_policy_tests(path, *text);
  if (!tests.errors.empty()) return std::unexpected(Refusal{.diagnostics = tests.errors});
  if (tests.tests.empty())
    return std::unexpected(Refusal{.error = path + ": there is no test in it"});
  std::string policy_path = arguments.get("policy", "/etc/sluice");
  if (!arguments.has("policy") && !tests.policy.empty())
    policy_path = fs::path(path).parent_path() / tests.policy;
  auto files = gateway::read_policy(policy_path);
  if (!files) return std::unexpected(Refusal{.error = files.error()});
  const auto compiled = compile_policy(std::move(*files), gateway::read_set_file);
  if (!compiled) return std::unexpected(Refusal{.diagnostics = compiled.error()});
  std::vector<TestResult> results;
  for (const auto& test : tests.tests)
    results.push_back({test.name, test.where.to_string(),
                       policy::differences(test, run_one(*compiled->snapshot, test))});
  return results;
}

int refused(const Arguments& arguments, const Refusal& why) {
  std::cerr << (why.error.empty() ? to_text(why.diagnostics) : "sluice: " + why.error) << '\n';
  if (arguments.get("output") != "json") return kExitUsage;
  json::object out{{"ok", false}};
  if (!why.error.empty()) out["error"] = why.error;
  if (!why.diagnostics.empty()) out["diagnostics"] = control::to_json(why.diagnostics);
  std::cout << json::serialize(out) << '\n';
  return kExitUsage;
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
    if (!some) return refused(arguments, some.error());
    std::move(some->begin(), some->end(), std::back_inserter(results));
  }
  std::size_t failed = 0;
  for (const auto& result : results)
    failed += result.differences.empty() ? 0 : 1;
  if (const std::string junit = arguments.get("junit"); !junit.empty()) {
    std::ofstream file(junit);
    if (!(file << to_junit(results) << std::flush))
      return refused(arguments, {.error = junit + ": " + std::strerror(errno)});
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
