#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "gateway/control/policy_source.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/policy_commands.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr OptionSpec kConfirmOption{"confirm", "DURATION",
                                    "go back unless `sluice confirm` comes within it (60s)"};
constexpr OptionSpec kForceOption{"force", "", "even where it cuts the operator off"};
constexpr std::array kApplyOptions{kConfirmOption, kForceOption, kSocketOption, kOutputOption};
constexpr std::array kOptions{kSocketOption, kOutputOption};

// False: said why.
bool add_options(const Arguments& arguments, json::object& request) {
  if (arguments.has("confirm")) {
    const auto seconds = parse_seconds(arguments.get("confirm"));
    if (!seconds) {
      std::cerr << "sluice: --confirm is a duration of whole seconds: 60s, 5m\n";
      return false;
    }
    request["confirm_seconds"] = *seconds;
  }
  if (arguments.has("force")) request["force"] = true;
  if (const char* ssh = std::getenv("SSH_CONNECTION")) request["ssh"] = ssh;
  return true;
}

void show_applied(const json::object& answer) {
  std::cout << (text_at(answer, "result") == "unchanged" ? "unchanged: it means what is in force"
                                                         : "in force")
            << ", generation " << count_at(answer, "generation");
  if (answer.contains("confirm_seconds")) {
    std::cout << ", for " << count_at(answer, "confirm_seconds")
              << " s: `sluice confirm` keeps it and writes " << text_at(answer, "path");
  } else if (answer.contains("path")) {
    std::cout << ", written to " << text_at(answer, "path");
  }
  std::cout << '\n';
  say_warnings(answer);
}

int apply(const Arguments& arguments) {
  auto files = gateway::read_policy(std::filesystem::absolute(arguments.words()[0]).lexically_normal());
  if (!files) {
    std::cerr << "sluice: " << files.error() << '\n';
    return kExitFailed;
  }
  json::object request{{"command", "apply"}, {"files", files_to_json(*files)}};
  if (!add_options(arguments, request)) return kExitUsage;
  return ask_and_show(arguments, request, show_applied, std::chrono::seconds(60));
}

int confirm(const Arguments& arguments) {
  return ask_and_show(arguments, {{"command", "confirm"}}, [](const json::object& answer) {
    std::cout << "confirmed: generation " << count_at(answer, "generation") << " stays, written to "
              << text_at(answer, "path") << '\n';
  });
}

int history(const Arguments& arguments) {
  return ask_and_show(arguments, {{"command", "history"}}, [](const json::object& answer) {
    Table table({"NUMBER", "IN FORCE SINCE", "FILES", "BYTES", ""});
    for (const auto& value : array_at(answer, "history")) {
      const json::object& entry = value.as_object();
      table.add({count_at(entry, "number"), text_at(entry, "at"), count_at(entry, "files"),
                 count_at(entry, "bytes"),
                 text_at(entry, "in_force") == "true" ? "in force now" : ""});
    }
    table.print();
  });
}

int rollback(const Arguments& arguments) {
  json::object request{{"command", "rollback"}};
  if (!arguments.words().empty()) {
    const std::string& text = arguments.words()[0];
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || number < 1) {
      std::cerr << "sluice: '" << text << "' is no number of `sluice history`\n";
      return kExitUsage;
    }
    request["number"] = number;
  }
  if (!add_options(arguments, request)) return kExitUsage;
  return ask_and_show(arguments, request, show_applied, std::chrono::seconds(60));
}

}  // namespace

const Command kApplyCommand{
    .name = "apply",
    .words = "FILE",
    .summary = "Put a policy in force and write it to where sluice reads its policy from.",
    .details =
        "FILE is a file or a directory. With --confirm it is in force at once, and the one before "
        "comes back by\nitself unless `sluice confirm` comes in time; only then it is written. "
        "If both processes die meanwhile,\nthe kernel puts the guard's rules back, two seconds "
        "later "
        "than asked. Refused: what would cut an open SSH\nconnection of this node or the one that "
        "you "
        "come by, and a policy path that is read-only.",
    .options = kApplyOptions,
    .min_words = 1,
    .max_words = 1,
    .run = apply,
};

const Command kConfirmCommand{
    .name = "confirm",
    .words = "",
    .summary = "Keep the policy that `sluice apply --confirm` put in force.",
    .details = "",
    .options = kOptions,
    .run = confirm,
};

const Command kHistoryCommand{
    .name = "history",
    .words = "",
    .summary = "The policies that were in force, the newest first; the last twenty.",
    .details = "Kept in the policy's state_dir.",
    .options = kOptions,
    .run = history,
};

const Command kRollbackCommand{
    .name = "rollback",
    .words = "[NUMBER]",
    .summary =
        "Put an earlier policy in force and write it: the one before, or one of the history.",
    .details =
        "While a policy waits for `sluice confirm`, it is taken back at once and nothing is "
        "written.\n"
        "A set whose file is bad is no hindrance: it keeps what it has.",
    .options = kApplyOptions,
    .max_words = 1,
    .run = rollback,
};

}  // namespace sluice::control
