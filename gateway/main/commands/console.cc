#include <array>
#include <csignal>
#include <expected>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/json.hpp>

#include "gateway/console/console_server.h"
#include "gateway/console/token_file.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/sandbox.h"

namespace sluice::control {
namespace {

constexpr std::string_view kDefaultBind = "127.0.0.1:9901";

constexpr std::array kOptions{
    OptionSpec{"bind", "ADDRESS", "where it listens, default 127.0.0.1:9901"},
    OptionSpec{"token-file", "PATH",
               "holds what a change must bring; without: look, but change nothing"},
    OptionSpec{"hosts", "NAMES",
               "names that a browser calls it by, with commas; addresses and localhost always"},
    OptionSpec{"allow", "PREFIXES", "who may ask, with commas, as 10.0.0.0/8; without: everybody"},
    kSocketOption,
    OptionSpec{"output", "FORMAT", "of where it listens: table (default) or json", 0, "table json"},
};

int failed(const std::string& message) {
  std::cerr << "sluice: " << message << '\n';
  return kExitFailed;
}

std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> all;
  std::istringstream in(names);
  for (std::string name; std::getline(in, name, ',');)
    if (!name.empty()) all.push_back(name);
  return all;
}

// The first that is none as an error.
std::expected<std::vector<policy::Prefix>, std::string> prefixes(const std::string& text) {
  std::vector<policy::Prefix> all;
  for (const std::string& word : split(text)) {
    const auto prefix = policy::Prefix::parse(word);
    if (!prefix) return std::unexpected(word);
    all.push_back(*prefix);
  }
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
  auto allow = prefixes(arguments.get("allow"));
  if (!allow) {
    std::cerr << "sluice: --allow takes prefixes with commas, such as 10.0.0.0/8,::1; not '"
              << allow.error() << "'\n";
    return kExitUsage;
  }
  gateway::ConsoleOptions options{
      .admin_socket = gateway::admin_socket_path(arguments.get("socket")),
      .bind = *bind,
      .token_file = arguments.get("token-file"),
      .hosts = split(arguments.get("hosts")),
      .allow = std::move(*allow)};
  if (arguments.has("token-file")) {
    if (auto token = gateway::read_token_file(options.token_file); !token)
      return failed("--token-file " + options.token_file + ": " + token.error());
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

// Beside a process that runs: what it may do comes from the policy, and it ends when that ends.
int run_console_process(std::span<const std::string_view> words) {
  const auto bind = policy::SocketAddress::parse(words[1]);
  auto allow = prefixes(std::string(words[3]));
  if (!bind || !allow) return kExitUsage;
  std::signal(SIGPIPE, SIG_IGN);
  if (auto dropped = drop_all_privileges(); !dropped) return failed(dropped.error());
  boost::asio::io_context io;
  auto server = gateway::ConsoleServer::listen(io, {.admin_socket = std::string(words[0]),
                                                    .bind = *bind,
                                                    .listening = kConsoleListeningFd,
                                                    .token_file = std::string(words[2]),
                                                    .hosts = split(std::string(words[4])),
                                                    .allow = std::move(*allow)});
  if (!server) return failed(server.error());
  boost::asio::posix::stream_descriptor lifetime(io, kConsoleLifetimeFd);
  char none = 0;
  lifetime.async_read_some(boost::asio::buffer(&none, 1),
                           [&io](const boost::system::error_code&, std::size_t) { io.stop(); });
  io.run();
  return kExitOk;
}

const Command kConsoleCommand{
    .name = "console",
    .words = "",
    .summary =
        "A live page for a browser: the way of traffic, health, drops, bans, reloads, explain.",
    .details =
        "A process of its own that holds no privilege and knows nothing but the admin socket. "
        "Whoever reaches\n"
        "its address may look, or whom --allow names. A change (unban) needs the token. It answers "
        "only to\n"
        "addresses, localhost and the names of --hosts, and to no page of another site. `admin` in "
        "the policy\n"
        "starts one beside `sluice run`.",
    .options = kOptions,
    .run = console,
};

}  // namespace sluice::control
