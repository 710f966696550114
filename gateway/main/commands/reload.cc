#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "kernel/keeper_protocol.h"

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
        say_warnings(answer);
      },
      60s);
}

// Nobody answers any more, but until the process is gone it holds what the next one needs.
void wait_for_end_of(pid_t process, std::chrono::milliseconds most) {
  const kernel::protocol::OwnedFd handle(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  if (!handle) return;
  pollfd gone{.fd = handle.get(), .events = POLLIN, .revents = 0};
  ::poll(&gone, 1, static_cast<int>(most.count()));
}

int drain(const Arguments& arguments) {
  const std::string socket = gateway::admin_socket_path(arguments.get("socket"));
  const auto asked = gateway::ask_admin(socket, {{"command", "drain"}}, 10s);
  if (!asked) return failed(arguments, asked.error().message);
  const std::chrono::milliseconds deadline(static_cast<long>(number_at(*asked, "deadline_ms")));
  const int code = show_answer(arguments, *asked, [&](const json::object&) {
    std::cout << "draining; open connections have " << deadline.count() / 1000 << " s\n";
  });
  if (code != kExitOk || arguments.has("no-wait")) return code;

  const auto process = static_cast<pid_t>(number_at(*asked, "pid"));
  const auto told = gateway::ask_admin(socket, {{"command", "drained"}}, deadline + 10s);
  // The first process of a container: when it ends, so do we.
  if (told && process == 1) return kExitOk;
  // Over when nobody answers on the socket any more.
  const auto end = std::chrono::steady_clock::now() + deadline + 10s;
  while (std::chrono::steady_clock::now() < end) {
    const auto answer = gateway::ask_admin(socket, {{"command", "status"}}, 2s);
    if (!answer && answer.error().kind == gateway::AdminError::Kind::not_running) {
      wait_for_end_of(process, 5s);
      return kExitOk;
    }
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
        "exit code is 1.\nA set whose file is bad keeps what it had: that is a warning, and the "
        "rest is in force.\nWithout --force, a policy that would cut an open SSH connection of "
        "this node is refused, as it is when its file\nchanges or SIGHUP comes.",
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
