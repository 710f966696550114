// sluice: one binary, a table of commands.
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/main/command.h"

namespace {

using sluice::control::Arguments;
using sluice::control::Command;
using namespace sluice::control;

constexpr std::array kCommands{
    &kRunCommand,     &kCheckCommand,   &kTestCommand,     &kPlanCommand,      &kApplyCommand,
    &kConfirmCommand, &kHistoryCommand, &kRollbackCommand, &kExplainCommand,   &kDoctorCommand,
    &kStatusCommand,  &kTopCommand,     &kConsoleCommand, &kDropsCommand,    &kBanCommand,       &kUnbanCommand,
    &kBansCommand,    &kSetCommand,     &kUpstreamCommand, &kReloadCommand,    &kUpgradeCommand,
    &kDrainCommand,   &kCleanupCommand, &kKeysCommand,     &kUsageCommand,    &kTranslateCommand, &kSchemaCommand,
    &kCompletionCommand, &kVersionCommand,
};

std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text + "  ";
}

void print_overview(std::ostream& out) {
  out << "sluice " SLUICE_VERSION
         ": a transparent gateway for Linux, from one policy file\n\n"
         "usage: sluice COMMAND [OPTIONS]\n\n";
  for (const Command* command : kCommands)
    out << "  " << padded(std::string(command->name) + ' ' + std::string(command->words), 16)
        << command->summary << '\n';
  out << "\n`sluice COMMAND --help` tells more. Exit codes: 0 done, 1 failed, 2 wrong usage; some "
         "commands have more.\n";
}

void print_help(std::ostream& out, const Command& command) {
  out << "usage: sluice " << command.name;
  if (!command.words.empty()) out << ' ' << command.words;
  if (!command.options.empty()) out << " [OPTIONS]";
  out << "\n\n" << command.summary << '\n';
  if (!command.details.empty()) out << '\n' << command.details << '\n';
  if (!command.options.empty()) out << "\nOptions:\n";
  for (const auto& option : command.options) {
    std::string left = "--" + std::string(option.name);
    if (!option.value.empty()) left += ' ' + std::string(option.value);
    out << "  " << padded(std::move(left), 20) << option.help << '\n';
  }
  out << "\nExit codes: 0 done, 1 failed, 2 wrong usage" << (command.exit_codes.empty() ? "" : ", ")
      << command.exit_codes << ".\n";
}

int usage_error(const std::string& message, std::string_view command) {
  std::cerr << "sluice: " << message << "\n`sluice " << command << (command.empty() ? "" : " ")
            << "--help` tells more.\n";
  return kExitUsage;
}

// "a b c" as "a, b or c".
std::string listed(std::string_view choices) {
  std::string out;
  while (!choices.empty()) {
    const std::size_t end = std::min(choices.find(' '), choices.size());
    const bool last = end == choices.size();
    if (!out.empty()) out += last ? " or " : ", ";
    out += choices.substr(0, end);
    choices.remove_prefix(last ? end : end + 1);
  }
  return out;
}

bool is_choice(std::string_view choices, std::string_view word) {
  return (' ' + std::string(choices) + ' ').find(' ' + std::string(word) + ' ') !=
         std::string::npos;
}

std::optional<std::string> not_a_choice(const Arguments& arguments, const Command& command) {
  for (const auto& option : command.options) {
    if (option.choices.empty() || !arguments.has(option.name)) continue;
    if (const std::string value = arguments.get(option.name); !is_choice(option.choices, value))
      return "--" + std::string(option.name) + " is " + listed(option.choices) + ", not '" + value +
             "'";
  }
  if (command.first_words.empty() || arguments.words().empty() ||
      is_choice(command.first_words, arguments.words()[0]))
    return std::nullopt;
  return std::string(command.name) + " takes " + listed(command.first_words) + ", not '" +
         arguments.words()[0] + "'";
}

int dispatch(const std::vector<std::string_view>& words) {
  if (words.empty()) {
    print_overview(std::cerr);
    return kExitUsage;
  }
  const std::string_view name = words[0];
  if (name == "--help" || name == "-h" || name == "help") {
    print_overview(std::cout);
    return kExitOk;
  }
  if (name == "--version") return kVersionCommand.run(Arguments{});
  if (name == "gateway-process" && words.size() == 3)
    return run_gateway_process(std::stoi(std::string(words[1])), std::string(words[2]));
  if (name == "pods-process" && words.size() == 3)
    return run_pods_process(std::stoi(std::string(words[1])), std::string(words[2]));
  if (name == "console-process" && words.size() == 6)
    return run_console_process(std::span(words).subspan(1));

  for (const Command* command : kCommands) {
    if (command->name != name) continue;
    const std::span rest = std::span(words).subspan(1);
    for (const std::string_view word : rest) {
      if (word == "--") break;
      if (word == "--help" || word == "-h") {
        print_help(std::cout, *command);
        return kExitOk;
      }
    }
    const auto arguments = Arguments::parse(rest, command->options);
    if (!arguments) return usage_error(arguments.error(), name);
    const std::size_t count = arguments->words().size();
    if (count < command->min_words)
      return usage_error(std::string(name) + " needs " + std::string(command->words), name);
    if (count > command->max_words)
      return usage_error("'" + arguments->words()[command->max_words] + "' is one word too many",
                         name);
    if (const auto problem = not_a_choice(*arguments, *command)) return usage_error(*problem, name);
    return command->run(*arguments);
  }
  return usage_error("unknown command '" + std::string(name) + "'", "");
}

}  // namespace

std::span<const Command* const> sluice::control::all_commands() {
  return kCommands;
}

int main(int argc, char** argv) {
  try {
    return dispatch(std::vector<std::string_view>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << "sluice: " << error.what() << '\n';
    return kExitFailed;
  }
}
