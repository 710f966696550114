#include <array>
#include <iostream>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    OptionSpec{"force", "", "even while a sluice runs in this network namespace"},
    kSocketOption,
    kOutputOption,
    kPinRootOption,
};

// Only one that lives in our network namespace owns what we would remove.
bool keeper_lives(const std::string& socket) {
  const auto answer = gateway::ask_admin(socket, {{"command", "status"}}, std::chrono::seconds(5));
  if (!answer) return answer.error().kind != gateway::AdminError::Kind::not_running;
  return text_at(*answer, "mode") == "keeper" &&
         number_at(*answer, "network_namespace") == static_cast<double>(network_namespace());
}

int run_cleanup(const Arguments& arguments) {
  const std::string socket = gateway::admin_socket_path(arguments.get("socket"));
  if (!arguments.has("force") && keeper_lives(socket)) {
    return failed(arguments, "a keeper answers on " + socket +
                                 "; stop it first (sluice drain), or use --force");
  }
  auto removed =
      kernel::cleanup({.pin_root = arguments.get("pin-root", kernel::KeeperOptions{}.pin_root)});
  if (!removed) return failed(arguments, removed.error().message);
  if (arguments.get("output") == "json") {
    json::array lines;
    for (const auto& line : *removed)
      lines.emplace_back(line);
    std::cout << json::serialize(json::object{{"ok", true}, {"removed", std::move(lines)}}) << '\n';
    return kExitOk;
  }
  if (removed->empty()) std::cout << "nothing of sluice in this network namespace\n";
  for (const auto& line : *removed)
    std::cout << line << '\n';
  return kExitOk;
}

}  // namespace

const Command kCleanupCommand{
    .name = "cleanup",
    .words = "",
    .summary = "Remove every trace from the kernel: rules, routes, bans, pins, programs.",
    .details = "Of the network namespace that it runs in. Works with nothing running.",
    .options = kOptions,
    .run = run_cleanup,
};

}  // namespace sluice::control
