#include <array>
#include <cstdlib>
#include <iostream>
#include <optional>

#include "gateway/main/admin_commands.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/policy_plan.h"
#include "gateway/main/table.h"
#include "policy/address.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kBanOptions{
    OptionSpec{"for", "DURATION", "10s, 10m, 2h, 1d; default 10m"},
    OptionSpec{"reason", "TEXT", "for people; shown by `sluice bans`"},
    OptionSpec{"force", "", "even where your own or an open SSH connection comes from"},
    kSocketOption,
    kOutputOption,
    kPinRootOption,
};
constexpr std::array kOptions{kSocketOption, kOutputOption, kPinRootOption};

bool is_prefix(const std::string& text) {
  if (policy::Prefix::parse(text)) return true;
  std::cerr << "sluice: '" << text
            << "' is not an address or prefix; write 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64\n";
  return false;
}

// Open connections to protected ports go on all the same; the next one may not come.
bool bans_operator(const std::string& prefix) {
  const char* ssh = std::getenv("SSH_CONNECTION");
  const auto connection = ssh != nullptr ? parse_ssh_connection(ssh) : std::nullopt;
  if (!connection || !policy::Prefix::parse(prefix)->contains(connection->client.address))
    return false;
  std::cerr << "sluice: your own SSH connection comes from " << connection->client.address.to_string()
            << "; --force bans it all the same\n";
  return true;
}

int ban(const Arguments& arguments) {
  const std::string& address = arguments.words()[0];
  if (!is_prefix(address)) return kExitUsage;
  if (!arguments.has("force") && bans_operator(address)) return kExitFailed;
  const auto seconds = parse_seconds(arguments.get("for", "10m"));
  if (!seconds) {
    std::cerr << "sluice: --for is a duration of whole seconds: 30s, 10m, 2h or 1d\n";
    return kExitUsage;
  }
  json::object request{{"command", "ban"},
                       {"address", address},
                       {"seconds", *seconds},
                       {"reason", arguments.get("reason")}};
  if (arguments.has("force")) request["force"] = true;
  if (const char* ssh = std::getenv("SSH_CONNECTION")) request["ssh"] = ssh;
  return ask_or_open_pins(
      arguments, request,
      [&](kernel::Keeper& keeper) {
        const std::string named = operator_named_by_ban(request, {.keeper = &keeper});
        if (!named.empty()) return admin_error(named);
        json::object answer = handle_ban(keeper, request);
        if (answer.at("ok") == true)
          answer["note"] =
              "which trusted_proxies the policy has is not known without a running sluice";
        static_cast<void>(keeper.end_banned_connections());
        return answer;
      },
      [&](const json::object& answer) {
        std::cout << "banned " << address << " for " << human_seconds(*seconds) << '\n';
        if (answer.contains("note")) std::cerr << "sluice: " << text_at(answer, "note") << '\n';
      });
}

int unban(const Arguments& arguments) {
  const std::string& address = arguments.words()[0];
  if (!is_prefix(address)) return kExitUsage;
  const json::object request{{"command", "unban"}, {"address", address}};
  return ask_or_open_pins(
      arguments, request, [&](kernel::Keeper& keeper) { return handle_unban(keeper, request); },
      [&](const json::object& answer) {
        const bool was = text_at(answer, "was_banned") == "true";
        std::cout << address << (was ? " is no longer banned\n" : " was not banned\n");
      });
}

void show_bans(const json::object& answer) {
  Table table({"ADDRESS", "LEFT", "ACTION", "PACKETS", "BYTES", "REASON"});
  for (const auto& value : array_at(answer, "bans")) {
    const json::object& ban = value.as_object();
    std::string action = text_at(ban, "action");
    if (ban.contains("upstream")) action += " " + text_at(ban, "upstream");
    if (ban.contains("protected")) action = "none: protected";
    table.add({text_at(ban, "address"),
               human_seconds(static_cast<long>(number_at(ban, "seconds_left"))), action,
               count_at(ban, "packets"),
               ban.contains("bytes") ? human_bytes(number_at(ban, "bytes")) : "-",
               text_at(ban, "reason")});
  }
  if (table.empty()) {
    std::cout << "nobody is banned\n";
  } else {
    table.print();
  }
}

int bans(const Arguments& arguments) {
  return ask_or_open_pins(
      arguments, {{"command", "bans"}}, [](kernel::Keeper& keeper) { return handle_bans(keeper); },
      show_bans);
}

constexpr std::string_view kWithoutProcess =
    "Works without a running sluice too: as root, in the same network namespace, on what the last "
    "one left pinned.";

}  // namespace

const Command kBanCommand{
    .name = "ban",
    .words = "ADDRESS",
    .summary = "Drop every packet of an address or prefix in the kernel, for a while.",
    .details =
        "What the policy protects is never banned. A second ban replaces the first.\n"
        "Works without a running sluice too: as root, on what the last one left pinned; whom the "
        "last policy protected\nthe kernel knows, its trusted_proxies nobody does.",
    .options = kBanOptions,
    .min_words = 1,
    .max_words = 1,
    .run = ban,
};

const Command kUnbanCommand{
    .name = "unban",
    .words = "ADDRESS",
    .summary = "End a ban, given as `sluice bans` shows it.",
    .details = kWithoutProcess,
    .options = kOptions,
    .min_words = 1,
    .max_words = 1,
    .run = unban,
};

const Command kBansCommand{
    .name = "bans",
    .words = "",
    .summary = "Who is banned, for how long still, and what was dropped of theirs.",
    .details =
        "drop: by the kernel. route: what it asks for goes to that upstream. refuse: its requests, "
        "by "
        "the gateway,\nsince a proxy says who it is. none: a later policy protects it.\n"
        "Without a running sluice, as root: what the last one left pinned, which is drop alone.",
    .options = kOptions,
    .run = bans,
};

}  // namespace sluice::control
