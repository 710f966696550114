#include "gateway/main/console_child.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gateway/console/token_file.h"
#include "gateway/log.h"
#include "gateway/main/command.h"
#include "gateway/main/spawn_setup.h"

namespace sluice::control {
namespace {

using gateway::log_info;
using gateway::log_warn;
using kernel::protocol::OwnedFd;

constexpr std::chrono::seconds kRestartPause{1};  // before one that has ended is started again
constexpr int kConsoleBacklog = 64;
constexpr int kFirstSpare = 10;  // above what the child gets

std::unexpected<std::string> cannot_listen(const policy::SocketAddress& at, const char* what) {
  return std::unexpected("admin.bind " + at.to_string() + ": " + what + ": " +
                         std::strerror(errno));
}

int bind_to(int fd, const policy::SocketAddress& at) {
  if (at.address.is_v4()) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(at.port);
    address.sin_addr.s_addr = htonl(at.address.v4_host_order());
    return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(at.port);
  std::memcpy(&address.sin6_addr, at.address.bytes().data(), at.address.bytes().size());
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

std::expected<OwnedFd, std::string> listen_at(const policy::SocketAddress& at) {
  OwnedFd fd(::socket(at.address.is_v4() ? AF_INET : AF_INET6,
                      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return cannot_listen(at, "socket");
  const int yes = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (!at.address.is_v4()) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  if (bind_to(fd.get(), at) != 0) return cannot_listen(at, "bind");
  if (::listen(fd.get(), kConsoleBacklog) != 0) return cannot_listen(at, "listen");
  return fd;
}

template <typename T, typename Text>
std::string with_commas(const std::vector<T>& items, const Text& text) {
  std::string out;
  for (const T& item : items)
    out.append(out.empty() ? "" : ",").append(text(item));
  return out;
}

std::expected<pid_t, std::string> spawn_console(const std::string& admin_socket,
                                        const policy::AdminConfig& config, int listening,
                                        int lifetime) {
  SpawnSetup setup;
  posix_spawn_file_actions_adddup2(&setup.actions, listening, kConsoleListeningFd);
  posix_spawn_file_actions_adddup2(&setup.actions, lifetime, kConsoleLifetimeFd);
  setup.reset_signals();
  std::array<std::string, 7> words{
      "sluice",
      "console-process",
      admin_socket,
      config.bind.to_string(),
      config.token_file(),
      with_commas(config.allow, [](const policy::Prefix& prefix) { return prefix.to_string(); }),
      with_commas(config.hosts, [](const std::string& host) { return host; })};
  std::array<char*, 8> arguments{};
  for (std::size_t i = 0; i < words.size(); ++i)
    arguments[i] = words[i].data();
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, "/proc/self/exe", &setup.actions, &setup.attributes,
                                  arguments.data(), environ);
  if (error != 0) return std::unexpected(std::strerror(error));
  return pid;
}

}  // namespace

ConsoleChild::ConsoleChild(boost::asio::io_context& io, std::string admin_socket)
    : admin_socket_(std::move(admin_socket)), timer_(io) {}

ConsoleChild::~ConsoleChild() {
  stop();
}

std::expected<ConsoleChild::Prepared, std::string> ConsoleChild::prepare(
    const std::optional<policy::AdminConfig>& config) const {
  Prepared out{.config = config, .listening = {}};
  if (!config) return out;
  if (!config->token.empty()) {
    if (auto token = gateway::read_token_file(config->token_file()); !token)
      return std::unexpected("admin.token " + config->token_file() + ": " + token.error());
  }
  if (config_ && listening_ && config_->bind == config->bind) return out;
  auto listening = listen_at(config->bind);
  if (!listening) return std::unexpected(listening.error());
  out.listening = std::move(*listening);
  return out;
}

void ConsoleChild::commit(Prepared prepared) {
  const bool same = config_ == prepared.config && !prepared.listening;
  config_ = std::move(prepared.config);
  if (same && (pid_ >= 0 || !config_)) return;
  stop();
  if (prepared.listening) listening_ = std::move(prepared.listening);
  if (!config_) return listening_.reset();
  start();
}

void ConsoleChild::pause() {
  stop();
  listening_.reset();
}

void ConsoleChild::resume() {
  if (config_ && pid_ < 0) start();
}

void ConsoleChild::start() {
  if (!listening_) {
    auto listening = listen_at(config_->bind);
    if (!listening) {
      log_warn("console", "cannot listen; trying again", {{"reason", listening.error()}});
      return start_later();
    }
    listening_ = std::move(*listening);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return start_later();
  OwnedFd read_end(ends[0]);
  lifetime_ = OwnedFd(ends[1]);
  // Above the numbers that they get in the child, where one could be written over by the other.
  const OwnedFd listening(::fcntl(listening_.get(), F_DUPFD_CLOEXEC, kFirstSpare));
  const OwnedFd lifetime(::fcntl(read_end.get(), F_DUPFD_CLOEXEC, kFirstSpare));
  if (!listening || !lifetime) return start_later();
  const auto pid = spawn_console(admin_socket_, *config_, listening.get(), lifetime.get());
  if (!pid) {
    log_warn("console", "cannot be started; trying again", {{"reason", pid.error()}});
    return start_later();
  }
  pid_ = *pid;
  log_info("console", "listens",
           {{"url", "http://" + config_->bind.to_string() + "/"}, {"pid", pid_}});
}

void ConsoleChild::start_later() {
  timer_.expires_after(kRestartPause);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && config_ && pid_ < 0) start();
  });
}

void ConsoleChild::stop() {
  timer_.cancel();
  lifetime_.reset();
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void ConsoleChild::child_signal() {
  int status = 0;
  if (pid_ < 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return;
  pid_ = -1;
  ++restarts_;
  log_warn("console", "ended; the next one starts",
           {{"how", WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                        : "exit code " + std::to_string(WEXITSTATUS(status))}});
  start_later();
}

boost::json::value ConsoleChild::status() const {
  if (!config_) return nullptr;
  boost::json::object out{{"url", "http://" + config_->bind.to_string() + "/"},
                          {"changes", !config_->token.empty()},
                          {"restarts", restarts_}};
  if (pid_ >= 0) out["pid"] = pid_;
  return out;
}

}  // namespace sluice::control
