#include "gateway/main/gateway_child.h"

#include <cerrno>
#include <cstring>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/log.h"
#include "gateway/main/spawn_setup.h"

namespace sluice::control {
namespace {

namespace protocol = kernel::protocol;

constexpr int kChannelFd = 3;  // in the child, after standard error

std::expected<pid_t, std::string> start_process(int channel, std::string command,
                                                std::string user) {
  SpawnSetup setup;
  posix_spawn_file_actions_adddup2(&setup.actions, channel, kChannelFd);
  setup.reset_signals();

  char name[] = "sluice";
  char fd[] = "3";
  char* arguments[] = {name, command.data(), fd, user.data(), nullptr};
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, "/proc/self/exe", &setup.actions, &setup.attributes, arguments, environ);
  if (error != 0)
    return std::unexpected("starting the " + command + ": " + std::strerror(error));
  return pid;
}

}  // namespace

std::expected<std::unique_ptr<GatewayChild>, std::string> GatewayChild::spawn(
    boost::asio::io_context& io, const std::string& user,
    std::function<void(protocol::Received)> message, std::string command) {
  auto ends = protocol::make_channel();
  if (!ends) return std::unexpected(ends.error().message);
  auto pid = start_process(ends->second.get(), std::move(command), user);
  if (!pid) return std::unexpected(pid.error());
  return adopt(io, *pid, std::move(ends->first), false, std::move(message));
}

std::unique_ptr<GatewayChild> GatewayChild::adopt(
    boost::asio::io_context& io, pid_t pid, protocol::OwnedFd channel, bool of_another_version,
    std::function<void(protocol::Received)> message) {
  // A gateway whose channel is gone or that breaks the protocol is of no use: ended here, noticed
  // by SIGCHLD.
  auto closed = [pid](const std::string& reason) {
    gateway::log_warn("keeper", "lost touch with a process", {{"pid", pid}, {"reason", reason}});
    siginfo_t ended{};
    // Still our child (the pid has not been given to anybody else) and running: end it.
    if (::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        ended.si_pid == 0)
      ::kill(pid, SIGKILL);
  };
  auto opened = Channel::open(io, std::move(channel),
                              {.message = std::move(message),
                               .closed = std::move(closed),
                               .of_another_version = of_another_version});
  return std::unique_ptr<GatewayChild>(new GatewayChild(pid, std::move(opened)));
}

GatewayChild::~GatewayChild() {
  channel_->close();
  if (reaped_) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void GatewayChild::kill() {
  if (!reaped_) ::kill(pid_, SIGKILL);
}

std::string GatewayChild::reap() {
  int status = 0;
  if (reaped_ || ::waitpid(pid_, &status, WNOHANG) != pid_) return {};
  reaped_ = true;
  if (WIFSIGNALED(status))
    return "by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) +
           ")";
  return "with exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace sluice::control
