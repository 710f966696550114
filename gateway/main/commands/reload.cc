#include <array>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::array kReloadOptions{OptionSpec{"force", "", "even where it cuts the operator off"},
                                    kSocketOption, kOutputOption};
constexpr std::array kDrainOptions{kSocketOption, OptionSpec{"no-wait", "", "return at once"},
                                   kOutputOption};

int reload(const Arguments& arguments) {
  json::object request{{"command", "reload"}};
  if (arguments.has("force")) request["force"] = true;
  if (const char* ssh = std::getenv("SSH_CONNECTION")) request["ssh"] = ssh;
  return ask_and_show(
      arguments, request,
      [](const json::object& answer) {
        std::cout << (text_at(answer, "result") == "unchanged"
                          ? "unchanged: the policy means what is in force, generation "
                          : "in force: generation ")
                  << count_at(answer, "generation") << '\n';
      },
      60s);
}

int drain(const Arguments& arguments) {
  std::chrono::milliseconds deadline = 30s;
  const int code = ask_and_show(arguments, {{"command", "drain"}}, [&](const json::object& answer) {
    deadline = std::chrono::milliseconds(static_cast<long>(number_at(answer, "deadline_ms")));
    std::cout << "draining; open connections have " << deadline.count() / 1000 << " s\n";
  });
  if (code != kExitOk || arguments.has("no-wait")) return code;

  // Over when nobody answers on the socket any more.
  const std::string socket = gateway::admin_socket_path(arguments.get("socket"));
  const auto end = std::chrono::steady_clock::now() + deadline + 10s;
  while (std::chrono::steady_clock::now() < end) {
    const auto answer = gateway::ask_admin(socket, {{"command", "status"}}, 2s);
    if (!answer && answer.error().kind == gateway::AdminError::Kind::not_running) return kExitOk;
    std::this_thread::sleep_for(50ms);
  }
  std::cerr << "sluice: still there after its deadline\n";
  return kExitFailed;
}

}  // namespace

const Command kReloadCommand{
    .name = "reload",
    .words = "",
    .summary = "Read the policy again and wait until it is in force or refused.",
    .details =
        "Prints the generation, or everything that is wrong; then the old policy stays and the "
        "exit code is 1.\nWithout --force, a policy that would cut an open SSH connection of this "
        "node is refused, as it is when its file\nchanges or SIGHUP comes.",
    .options = kReloadOptions,
    .run = reload,
};

const Command kDrainCommand{
    .name = "drain",
    .words = "",
    .summary = "Stop: interception ends, open connections finish, the process ends. As SIGTERM.",
    .details = "Waits for the end. Guard rules and bans stay in force until `sluice cleanup`.",
    .options = kDrainOptions,
    .run = drain,
};

}  // namespace sluice::control
