#include <array>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"
#include "policy/address.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    OptionSpec{"for", "DURATION", "of add: 10s, 10m, 2h, 1d; without it until it is deleted"},
    OptionSpec{"reason", "TEXT", "of add: for people; shown by `sluice set list NAME`"},
    OptionSpec{"force", "", "of add and delete: even where it cuts the operator off"},
    kSocketOption,
    kOutputOption,
};

int usage(const std::string& message) {
  std::cerr << "sluice: " << message << "\n`sluice set --help` tells more.\n";
  return kExitUsage;
}

void show_sets(const json::object& answer) {
  Table table({"SET", "PREFIXES", "ADDED", "FILE"});
  for (const auto& value : array_at(answer, "sets")) {
    const json::object& set = value.as_object();
    std::string file = set.contains("file") ? text_at(set, "file") : "-";
    if (set.contains("stale")) file += " (bad: what it had stays)";
    table.add(
        {text_at(set, "name"), count_at(set, "prefixes"), count_at(set, "added"), std::move(file)});
  }
  if (table.empty()) {
    std::cout << "the policy has no sets\n";
  } else {
    table.print();
  }
}

void show_members(const json::object& answer) {
  const json::object& set = array_at(answer, "sets").front().as_object();
  std::cout << text_at(set, "name") << ": " << count_at(set, "declared")
            << " prefixes by the policy" << (set.contains("file") ? " and its file" : "") << ", "
            << count_at(set, "added") << " added at run time";
  if (set.contains("pods")) std::cout << ", " << count_at(set, "pods") << " addresses of pods";
  std::cout << '\n';
  if (set.contains("stale")) std::cout << text_at(set, "stale") << '\n';
  Table table({"ADDRESS", "LEFT", set.contains("pods") ? "POD OR REASON" : "REASON"});
  for (const auto& value : array_at(set, "members")) {
    const json::object& member = value.as_object();
    table.add({text_at(member, "address"),
               member.contains("seconds_left")
                   ? human_seconds(static_cast<long>(number_at(member, "seconds_left")))
                   : "-",
               text_at(member, member.contains("pod") ? "pod" : "reason")});
  }
  if (!table.empty()) table.print();
}

int list(const Arguments& arguments) {
  const auto& words = arguments.words();
  if (words.size() > 2) return usage("'" + words[2] + "' is one word too many");
  json::object request{{"command", "set"}, {"action", "list"}};
  if (words.size() == 2) request["set"] = words[1];
  return ask_and_show(arguments, request, words.size() == 2 ? show_members : show_sets);
}

int change(const Arguments& arguments, const std::string& action) {
  const auto& words = arguments.words();
  if (words.size() < 3) return usage("set " + action + " needs NAME ADDRESS...");
  json::object request{{"command", "set"}, {"action", action}, {"set", words[1]}};
  json::array addresses;
  for (std::size_t i = 2; i < words.size(); ++i) {
    if (!policy::Prefix::parse(words[i]))
      return usage("'" + words[i] +
                   "' is not an address or prefix; write 192.0.2.1, 192.0.2.0/24 or "
                   "2001:db8::/64");
    addresses.push_back(json::string(words[i]));
  }
  request["addresses"] = std::move(addresses);
  if (action == "add") request["reason"] = arguments.get("reason");
  if (arguments.has("force")) request["force"] = true;
  if (const char* ssh = std::getenv("SSH_CONNECTION")) request["ssh"] = ssh;
  if (arguments.has("for")) {
    const auto seconds = parse_seconds(arguments.get("for"));
    if (!seconds || action != "add")
      return usage("--for is of `set add`, and a duration of whole seconds: 30s, 10m, 2h or 1d");
    request["seconds"] = *seconds;
  }
  return ask_and_show(
      arguments, request,
      [&](const json::object& answer) {
        std::cout << count_at(answer, "changed")
                  << (action == "add" ? " added to " : " deleted from ") << words[1]
                  << ", in force\n";
        if (answer.contains("warning"))
          std::cerr << "sluice: " << text_at(answer, "warning") << '\n';
      },
      std::chrono::seconds(60));
}

int set(const Arguments& arguments) {
  const std::string& action = arguments.words()[0];
  return action == "list" ? list(arguments) : change(arguments, action);
}

}  // namespace

const Command kSetCommand{
    .name = "set",
    .words = "add|delete|list [NAME] [ADDRESS...]",
    .summary = "Add and delete members of the policy's sets while it runs; list sets and members.",
    .details =
        "  sluice set add NAME ADDRESS... [--for 1h] [--reason TEXT]\n"
        "  sluice set delete NAME ADDRESS...\n"
        "  sluice set list [NAME]\n\n"
        "Members are kept in the policy's state_dir and survive reloads and restarts until their "
        "time is up.\n"
        "What the policy or a set's file declares can only be deleted there. `add` answers when "
        "the member is in force.",
    .options = kOptions,
    .min_words = 1,
    .max_words = 1026,
    .run = set,
    .first_words = "add delete list",
};

}  // namespace sluice::control
