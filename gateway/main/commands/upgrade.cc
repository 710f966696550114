#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <thread>
#include <unistd.h>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

// Longer than a new gateway has to prepare its policy.
constexpr auto kLimit = 45s;

constexpr std::array kOptions{
    OptionSpec{"binary", "PATH", "the program that takes over; default: the one installed now"},
    kSocketOption,
    kOutputOption,
};

std::string new_attempt() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()) + "-" +
         std::to_string(::getpid());
}

// Until one program or the other says how it ended; in between, nobody may answer for a moment.
json::object outcome_of(const std::string& attempt, const std::string& socket) {
  const auto end = std::chrono::steady_clock::now() + kLimit;
  std::string said;
  while (std::chrono::steady_clock::now() < end) {
    const auto status = gateway::ask_admin(socket, {{"command", "status"}}, 5s);
    if (status) {
      json::object upgrade = object_at(*status, "upgrade");
      const std::string state = text_at(upgrade, "state");
      if (text_at(upgrade, "attempt") == attempt && state != "running") {
        upgrade["ok"] = state == "done";
        upgrade["gateway"] = object_at(*status, "gateway");
        return upgrade;
      }
    } else {
      said = status.error().message;
    }
    std::this_thread::sleep_for(20ms);
  }
  return {{"ok", false},
          {"error", "not over after 45 s" + (said.empty() ? "" : " (" + said + ")") +
                        "; see `sluice status` and the log"}};
}

int upgrade(const Arguments& arguments) {
  const std::string socket = gateway::admin_socket_path(arguments.get("socket"));
  const std::string attempt = new_attempt();
  json::object request{{"command", "upgrade"}, {"attempt", attempt}};
  if (const std::string binary = arguments.get("binary"); !binary.empty())
    request["binary"] = std::filesystem::absolute(binary).string();
  const auto begun = gateway::ask_admin(socket, request, 20s);
  if (!begun) {
    std::cerr << "sluice: " << begun.error().message << '\n';
    return kExitFailed;
  }
  const bool accepted = text_at(*begun, "ok") == "true";
  const json::object answer = accepted ? outcome_of(attempt, socket) : *begun;
  const bool good = text_at(answer, "ok") == "true";
  if (arguments.get("output") == "json") std::cout << json::serialize(answer) << '\n';
  if (!good) {
    std::cerr << "sluice: " << text_at(answer, "error") << '\n';
    return kExitFailed;
  }
  if (arguments.get("output") != "json")
    std::cout << "upgraded from " << text_at(answer, "from") << " to " << text_at(answer, "to")
              << "; gateway pid " << text_at(object_at(answer, "gateway"), "pid") << " serves\n";
  return kExitOk;
}

}  // namespace

const Command kUpgradeCommand{
    .name = "upgrade",
    .words = "",
    .summary = "Let the program installed now take over, without a lost connection.",
    .details =
        "The keeper becomes the new program under the same pid and keeps its listening sockets. A "
        "second gateway\n"
        "starts on them; then the first accepts no more, finishes what is open, and goes at the "
        "listeners'\n"
        "`timeouts.drain`. A program that refuses the policy, or whose gateway does not start, "
        "leaves the old\n"
        "one serving, and the exit code is 1.",
    .options = kOptions,
    .run = upgrade,
};

}  // namespace sluice::control
