#include "gateway/main/drops.h"

#include <array>
#include <iostream>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    OptionSpec{"follow", "", "-f: show packets as they are dropped, a sample of them", 'f'},
    kSocketOption,
    kOutputOption,
    kPinRootOption,
};

void show_counters(const json::object& answer) {
  Table table({"RULE", "ACTION", "PACKETS", "BYTES", "DROPPED"});
  for (const auto& value : array_at(answer, "rules")) {
    const json::object& rule = value.as_object();
    const bool audit = text_at(rule, "mode") == "audit";
    table.add({text_at(rule, "rule"), text_at(rule, "action") + (audit ? " (audit)" : ""),
               count_at(rule, "packets"), human_bytes(number_at(rule, "bytes")),
               audit ? count_at(rule, "would_drop") + " (would)" : count_at(rule, "dropped")});
  }
  const json::object& all = object_at(answer, "bans");
  table.add({"(bans: " + count_at(all, "entries") + ")", "drop", count_at(all, "packets"),
             human_bytes(number_at(all, "bytes")), count_at(all, "packets")});
  table.print();
}

std::string endpoint(const json::object& line, const char* address, const char* port) {
  const std::string host = text_at(line, address);
  const std::string number = text_at(line, port);
  if (number.empty()) return host;
  return host.find(':') == std::string::npos ? host + ":" + number : "[" + host + "]:" + number;
}

void show_line(const json::object& line) {
  if (line.contains("not_shown")) {
    std::cout << "... and " << count_at(line, "not_shown") << " more that are not shown\n";
    return;
  }
  const std::string rule = text_at(line, "rule");
  std::cout << text_at(line, "time") << ' '
            << (text_at(line, "verdict") == "audit" ? "would drop" : "drop") << ' '
            << text_at(line, "reason") << (rule.empty() ? "" : " " + rule) << "  "
            << text_at(line, "protocol") << ' ' << endpoint(line, "from", "from_port") << " > "
            << endpoint(line, "to", "to_port") << "  " << text_at(line, "interface") << ' '
            << text_at(line, "direction") << ' ' << count_at(line, "bytes") << " B\n";
}

// Until the reader or sluice goes; Ctrl-C ends the process as it ends any.
int follow(const Arguments& arguments) {
  const bool as_json = arguments.get("output") == "json";
  bool refused = false;
  const auto done = gateway::follow_admin(
      gateway::admin_socket_path(arguments.get("socket")), {{"command", "drops"}, {"follow", true}},
      [&](const json::object& line) {
        if (const json::value* ok = line.if_contains("ok")) {
          refused = !ok->is_bool() || !ok->as_bool();
          if (refused) failed(arguments, text_at(line, "error"));
          return !refused;
        }
        if (as_json) {
          std::cout << json::serialize(line) << '\n';
        } else {
          show_line(line);
        }
        return static_cast<bool>(std::cout.flush());
      });
  if (!done) std::cerr << "sluice: " << done.error().message << '\n';
  return done && !refused ? kExitOk : kExitFailed;
}

int drops(const Arguments& arguments) {
  if (arguments.has("follow")) return follow(arguments);
  return ask_or_open_pins(
      arguments, {{"command", "drops"}},
      [](kernel::Keeper& keeper) { return handle_drops(keeper); }, show_counters);
}

}  // namespace

const Command kDropsCommand{
    .name = "drops",
    .words = "",
    .summary = "What the guard dropped and counted, by rule; with -f, packet by packet.",
    .details =
        "Counters work without a running sluice too: as root, in the same network namespace, on "
        "what the last one left pinned.\n"
        "-f shows a sample, at most about a hundred packets a second and processor, and how many "
        "it left out; with --output json a line of JSON each.",
    .options = kOptions,
    .run = drops,
};

}  // namespace sluice::control
