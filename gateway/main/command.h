// One entry of the command line's table.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "gateway/main/arguments.h"

namespace sluice::control {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

struct Command {
  std::string_view name;
  std::string_view words;    // of the usage line: "ADDRESS"
  std::string_view summary;  // one line
  std::string_view details;  // the rest of its --help
  std::span<const OptionSpec> options;
  std::size_t min_words = 0;
  std::size_t max_words = 0;
  int (*run)(const Arguments& arguments) = nullptr;
  std::string_view first_words = {};  // "drain ready weight": all that the first word may be
  // What it ends with beyond the usual three.
  std::string_view exit_codes = {};
};

// Every command, in the order of the overview.
std::span<const Command* const> all_commands();

extern const Command kRunCommand;
extern const Command kCheckCommand;
extern const Command kStatusCommand;
extern const Command kDropsCommand;
extern const Command kBanCommand;
extern const Command kUnbanCommand;
extern const Command kBansCommand;
extern const Command kSetCommand;
extern const Command kTopCommand;
extern const Command kConsoleCommand;
extern const Command kReloadCommand;
extern const Command kUpgradeCommand;
extern const Command kDrainCommand;
extern const Command kCleanupCommand;
extern const Command kKeysCommand;
extern const Command kUsageCommand;
extern const Command kTranslateCommand;
extern const Command kVersionCommand;
extern const Command kExplainCommand;
extern const Command kUpstreamCommand;
extern const Command kSchemaCommand;
extern const Command kDoctorCommand;
extern const Command kTestCommand;
extern const Command kPlanCommand;
extern const Command kApplyCommand;
extern const Command kConfirmCommand;
extern const Command kHistoryCommand;
extern const Command kRollbackCommand;
extern const Command kCompletionCommand;

// Not for people: what the keeper starts.
int run_gateway_process(int channel, const std::string& user);
// Likewise, who watches this node's Pods (pods_child.h).
int run_pods_process(int channel, const std::string& user);
// The same of the console that the policy asks for: socket of the admin, bind, token file, allow and
// hosts (with commas), and the descriptors below.
int run_console_process(std::span<const std::string_view> words);
inline constexpr int kConsoleListeningFd = 3;
inline constexpr int kConsoleLifetimeFd = 4;  // its end is the console's

}  // namespace sluice::control
