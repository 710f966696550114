#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <unistd.h>

#include "gateway/connection_budget.h"
#include "gateway/control/admin_server.h"
#include "gateway/log.h"
#include "gateway/log_format.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/first_policy.h"
#include "gateway/main/hand_over.h"
#include "gateway/main/keeper_process.h"
#include "gateway/main/machine_limits.h"
#include "gateway/main/plain_process.h"
#include "gateway/main/run_signals.h"
#include "gateway/main/sandbox.h"
#include "gateway/main/upgrade.h"

namespace sluice::control {
namespace {

using gateway::log_info;
using gateway::log_warn;

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH", "a file or a directory of *.yaml, default /etc/sluice"},
    kSocketOption,
    kPinRootOption,
    OptionSpec{"log-level", "LEVEL", "debug, info (default), warn or error", 0,
               "debug info warn error"},
    OptionSpec{"output", "FORMAT", "of the log on standard error: table (text, default) or json", 0,
               "table json"},
    OptionSpec{"take-over", "PATH",
               "a socket that one `sluice run` after the other shares: what the first holds, the "
               "next gets, without a lost connection"},
    OptionSpec{
        "user", "NAME",
        "who the gateway process is, by name or number; logs must be its to write. For root: also "
        "where the policy alone needs no keeper"},
};

bool set_level(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, gateway::LogLevel>, 4> kLevels{{
      {"debug", gateway::LogLevel::debug},
      {"info", gateway::LogLevel::info},
      {"warn", gateway::LogLevel::warn},
      {"error", gateway::LogLevel::error},
  }};
  for (const auto& [text, level] : kLevels) {
    if (text != name) continue;
    gateway::set_log_level(level);
    return true;
  }
  return false;
}

void say_limits(const policy::Config& config) {
  const DescriptorLimit limit = raise_descriptor_limit();
  const std::uint64_t allowed = gateway::connections_allowed(limit.allowed);
  log_info(
      "control", "open descriptors",
      {{"found", limit.found}, {"limit", limit.allowed}, {"allows_proxied_connections", allowed}});
  for (const auto& listener : config.listeners) {
    // The default is meant as "plenty"; a number that somebody wrote down is worth a word.
    const bool asked_for = listener.max_connections != policy::Listener{}.max_connections;
    if (asked_for && listener.max_connections > allowed)
      log_warn("control", "max_connections is more than the descriptors allow",
               {{"listener", listener.name},
                {"max_connections", listener.max_connections},
                {"allowed", allowed}});
  }
}

// What was in force under the program before goes on; what has changed on disk since is a reload.
int take_over(const RunOptions& options, kernel::protocol::OwnedFd inherited) {
  auto from = read_hand_over(inherited.get());
  if (!from) {
    std::cerr << from.error() << '\n';
    return kExitFailed;
  }
  auto compiled = compile_policy(from->files);
  if (!compiled) {
    const std::string problem = "it refuses the policy in force:\n" + to_text(compiled.error());
    std::cerr << problem << '\n';
    if (!hand_over_is_a_check()) go_back(*from, problem);
    return kExitFailed;
  }
  if (hand_over_is_a_check()) {
    std::cout << kHandOverAccepted << '\n';
    return kExitOk;
  }
  raise_descriptor_limit();
  inherited.reset();
  return run_keeper_process(options, take_over_policy(std::move(*compiled)),
                            std::move(from.value()));
}

// Root that is to serve as another user takes two processes, whatever the policy.
bool separates_processes(const RunOptions& options) {
  if (options.user.empty() || ::geteuid() != 0) return false;
  const std::string missing = missing_keeper_capabilities();
  if (missing.empty()) return true;
  log_warn(
      "control",
      "--user is not heeded: one process serves, which stays root, since there can be no keeper",
      {{"missing", missing}});
  return false;
}

int run(const Arguments& arguments) {
  ignore_signals();
  if (!set_level(arguments.get("log-level", "info"))) {
    std::cerr << "sluice: --log-level is debug, info, warn or error\n";
    return kExitUsage;
  }
  if (arguments.get("output") == "json") {
    gateway::set_log_format(gateway::LogFormat::json);
    ::setenv("SLUICE_LOG_FORMAT", "json", 1);  // for the gateway process
  }
  RunOptions options;
  options.policy_path = arguments.get("policy", options.policy_path);
  options.pin_root = arguments.get("pin-root", options.pin_root);
  options.socket_path = gateway::admin_socket_path(arguments.get("socket"));
  options.user = arguments.get("user");
  options.take_over_path = arguments.get("take-over");
  if (!options.user.empty()) {
    if (auto known = check_user(options.user); !known) {
      std::cerr << "sluice: " << known.error() << '\n';
      return kExitUsage;
    }
  }

  if (const int inherited = inherited_hand_over(); inherited >= 0)
    return take_over(options, kernel::protocol::OwnedFd(inherited));
  auto first = load_first_policy(options.policy_path);
  if (!first) {
    std::cerr << first.error()
              << "\nsluice: the policy is broken, and there is no last good one to run instead\n";
    return kExitFailed;
  }
  if (!first->problem.empty()) std::cerr << first->problem << '\n';
  for (const auto& warning : first->policy.warnings)
    log_warn("policy", warning.to_string());
  say_limits(first->policy.config());
  const bool keeps = first->policy.config().needs_kernel() || !options.take_over_path.empty() ||
                     separates_processes(options);
  if (keeps) return run_keeper_process(options, std::move(*first));
  return run_plain_process(options, std::move(*first));
}

}  // namespace

const Command kRunCommand{
    .name = "run",
    .words = "",
    .summary =
        "Run in the foreground, log to standard error, say `ready` when every listener serves.",
    .details =
        "With a policy that only has `bind` listeners this is one process and needs no privilege. "
        "With intercept,\n"
        "guard or bans it needs root: a keeper holds what is in the kernel, and a gateway process "
        "without\n"
        "capabilities moves the bytes.\n\n"
        "The policy is read again when it changes on disk, on SIGHUP and on `sluice reload`. "
        "SIGUSR1 opens the\nlogs again. "
        "SIGTERM and SIGINT drain and end with 0; a second one ends at once.\n\n"
        "With --take-over it asks who answers there for its listening sockets, limits, bans and "
        "session tickets,\n"
        "and answers there from then on; the other one finishes what is open, and waits to be "
        "stopped. They may be\n"
        "in different containers, if they share the network namespace, the BPF file system and the "
        "directory of PATH.",
    .options = kOptions,
    .run = run,
};

}  // namespace sluice::control
