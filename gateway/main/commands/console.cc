#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <expected>
#include <fcntl.h>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/json.hpp>

#include "gateway/console/console_server.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/sandbox.h"
#include "kernel/keeper_protocol.h"

namespace sluice::control {
namespace {

constexpr std::string_view kDefaultBind = "127.0.0.1:9901";
constexpr std::size_t kLeastToken = 16;  // characters
constexpr std::size_t kMostToken = 512;

constexpr std::array kOptions{
    OptionSpec{"bind", "ADDRESS", "where it listens, default 127.0.0.1:9901"},
    OptionSpec{"token-file", "PATH",
               "holds what a change must bring; without: look, but change nothing"},
    OptionSpec{"hosts", "NAMES",
               "names that a browser calls it by, with commas; addresses and localhost always"},
    kSocketOption,
    OptionSpec{"output", "FORMAT", "of where it listens: table (default) or json", 0, "table json"},
};

int failed(const std::string& message) {
  std::cerr << "sluice: " << message << '\n';
  return kExitFailed;
}

// The file's one line. Others may not read it, or the token says nothing.
std::expected<std::string, std::string> read_token(const std::string& path) {
  const auto refuse = [&path](std::string_view why) {
    return std::unexpected("--token-file " + path + ": " + std::string(why));
  };
  const kernel::protocol::OwnedFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return refuse(std::strerror(errno));
  struct stat status {};
  std::string token(kMostToken + 2, '\0');
  const bool known = ::fstat(file.get(), &status) == 0;
  const ssize_t size = ::read(file.get(), token.data(), token.size());
  if (!known || size < 0) return refuse("it cannot be read");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return refuse("others may read it; chmod 600 it");
  token.resize(static_cast<std::size_t>(size));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r'))
    token.pop_back();
  if (token.size() < kLeastToken || token.size() > kMostToken)
    return refuse("a token has 16 to 512 characters; `openssl rand -hex 16` makes one");
  return token;
}

std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> all;
  std::istringstream in(names);
  for (std::string name; std::getline(in, name, ',');)
    if (!name.empty()) all.push_back(name);
  return all;
}

int console(const Arguments& arguments) {
  const std::string where = arguments.get("bind", kDefaultBind);
  const auto bind = policy::SocketAddress::parse(where);
  if (!bind) {
    std::cerr << "sluice: --bind is an address and port: 127.0.0.1:9901 or [::1]:9901, not '"
              << where << "'\n";
    return kExitUsage;
  }
  gateway::ConsoleOptions options{
      .admin_socket = gateway::admin_socket_path(arguments.get("socket")),
      .bind = *bind,
      .token = std::nullopt,
      .hosts = split(arguments.get("hosts"))};
  if (arguments.has("token-file")) {
    auto token = read_token(arguments.get("token-file"));
    if (!token) return failed(token.error());
    options.token = std::move(*token);
  }
  std::signal(SIGPIPE, SIG_IGN);
  if (auto dropped = drop_all_privileges(); !dropped) return failed(dropped.error());

  boost::asio::io_context io;
  auto server = gateway::ConsoleServer::listen(io, std::move(options));
  if (!server) return failed(server.error());
  const std::string url = "http://" + (*server)->local_address().to_string() + "/";
  if (arguments.get("output") == "json") {
    std::cout << boost::json::serialize(boost::json::object{{"url", url}}) << std::endl;
  } else {
    std::cout << url << " (Ctrl-C ends it)" << std::endl;
  }
  boost::asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&io](const boost::system::error_code&, int) { io.stop(); });
  io.run();
  return kExitOk;
}

}  // namespace

const Command kConsoleCommand{
    .name = "console",
    .words = "",
    .summary =
        "A live page for a browser: the way of traffic, health, drops, bans, reloads, explain.",
    .details =
        "A process of its own that holds no privilege and knows nothing but the admin socket. "
        "Whoever reaches\n"
        "its address may look. A change (unban) needs the token. It answers only to addresses, "
        "localhost and\n"
        "the names of --hosts, and to no page of another site.",
    .options = kOptions,
    .run = console,
};

}  // namespace sluice::control
