// sluice: one binary, a table of commands.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <iostream>
#include <optional>
#include <streambuf>
#include <string>
#include <string_view>
#include <unistd.h>
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

// What a command opens first, be it a socket, would else take the place of one that is closed, and
// get the output. Such output is an error: that descriptor cannot be written to.
void fill_closed_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) == -1)
      ::open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);  // takes the lowest: this one
  }
}

// Between std::cout and its buffer, since the stream itself forgets why a write failed.
class CheckedOutput final : public std::streambuf {
 public:
  CheckedOutput() : below_(std::cout.rdbuf(this)) {}
  ~CheckedOutput() override { std::cout.rdbuf(below_); }
  CheckedOutput(const CheckedOutput&) = delete;
  CheckedOutput& operator=(const CheckedOutput&) = delete;

  // errno of the first write that failed; 0: all is where it belongs.
  int finish() {
    std::cout.flush();
    return error_;
  }

 protected:
  int_type overflow(int_type c) override {
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    const int_type put = below_->sputc(traits_type::to_char_type(c));
    note(!traits_type::eq_int_type(put, traits_type::eof()));
    return put;
  }
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    const std::streamsize put = below_->sputn(text, size);
    note(put == size);
    return put;
  }
  int sync() override {
    const int done = below_->pubsync();
    note(done == 0);
    return done;
  }

 private:
  void note(bool good) {
    if (!good && error_ == 0) error_ = errno != 0 ? errno : EIO;
  }

  std::streambuf* below_;
  int error_ = 0;
};

// A reader that goes (`| head`) has what it wanted: no word of that.
int with_output(int code, int error) {
  if (error == 0) return code;
  if (error != EPIPE)
    std::cerr << "sluice: cannot write the output: " << std::strerror(error) << '\n';
  return code == kExitOk ? kExitFailed : code;
}

int run(int argc, char** argv) {
  try {
    return dispatch(std::vector<std::string_view>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << "sluice: " << error.what() << '\n';
    return kExitFailed;
  }
}

}  // namespace

std::span<const Command* const> sluice::control::all_commands() {
  return kCommands;
}

int main(int argc, char** argv) {
  fill_closed_descriptors();
  CheckedOutput output;
  const int code = run(argc, argv);
  return with_output(code, output.finish());
}
