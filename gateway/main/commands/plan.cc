#include <array>
#include <cstdlib>
#include <expected>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "gateway/control/policy_source.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/commands/plan_view.h"
#include "gateway/main/policy_commands.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr int kExitLockOut = 3;
constexpr std::array kOptions{
    OptionSpec{"against", "PATH", "compare with this policy; else with what runs"},
    kSocketOption,
    kOutputOption,
};

// Files of sets are named from where the policy lies, and compared by name.
std::expected<std::vector<policy::PolicyFile>, std::string> read(const std::string& path) {
  return gateway::read_policy(std::filesystem::absolute(path).lexically_normal());
}

json::object request_of(const std::vector<policy::PolicyFile>& files) {
  json::object request{{"command", "plan"}, {"files", files_to_json(files)}};
  if (const char* ssh = std::getenv("SSH_CONNECTION")) request["ssh"] = ssh;
  return request;
}

int print_plan(const Arguments& arguments, const json::object& answer) {
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(answer) << '\n';
  } else {
    show_plan(answer);
  }
  return array_at(answer, "lock_out").empty() ? kExitOk : kExitLockOut;
}

int offline(const Arguments& arguments, const json::object& request) {
  auto files = read(arguments.get("against"));
  if (!files) {
    std::cerr << "sluice: " << files.error() << '\n';
    return kExitFailed;
  }
  const auto running = compile_policy(std::move(*files), gateway::read_set_file);
  if (!running) {
    std::cerr << to_text(running.error()) << '\n';
    return kExitFailed;
  }
  const json::object answer = handle_plan(*running, {}, {}, request, {});
  if (answer.at("ok") == true) return print_plan(arguments, answer);
  std::cerr << text_at(answer, "error") << '\n';
  return kExitFailed;
}

int plan(const Arguments& arguments) {
  auto files = read(arguments.words()[0]);
  if (!files) {
    std::cerr << "sluice: " << files.error() << '\n';
    return kExitFailed;
  }
  const json::object request = request_of(*files);
  if (arguments.has("against")) return offline(arguments, request);
  bool locks_out = false;
  const int code = ask_and_show(
      arguments, request,
      [&](const json::object& answer) {
        locks_out = !array_at(answer, "lock_out").empty();
        show_plan(answer);
      },
      std::chrono::seconds(60));
  return code == kExitOk && locks_out ? kExitLockOut : code;
}

}  // namespace

const Command kPlanCommand{
    .name = "plan",
    .words = "FILE",
    .summary = "What a policy would change in the one that runs: entries, layers, connections, bans.",
    .details =
        "FILE is a file or a directory. Changes nothing. Warns of rules that can never match or never "
        "decide, and of\nthose that would cut an open SSH connection of this node, or the one that "
        "you come by.",
    .options = kOptions,
    .min_words = 1,
    .max_words = 1,
    .run = plan,
    .exit_codes = "3 it would cut the operator off, or take a port of the host's own",
};

}  // namespace sluice::control
