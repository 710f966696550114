#include "gateway/main/commands/plan_view.h"

#include <iostream>
#include <string_view>

#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

void show_changes(const json::array& changes) {
  if (changes.empty()) {
    std::cout << "no change: it means what runs\n";
    return;
  }
  Table table({"", "SECTION", "NAME", "LAYER", "BEFORE", "AFTER"});
  for (const auto& value : changes) {
    const json::object& change = value.as_object();
    const std::string kind = text_at(change, "kind");
    table.add({kind == "added" ? "+" : kind == "removed" ? "-" : "~", text_at(change, "section"),
               text_at(change, "name"), text_at(change, "layer"), text_at(change, "before"),
               text_at(change, "after")});
  }
  table.print();
}

void show_touched(const json::object& plan) {
  if (plan.contains("connections")) {
    const json::object& touched = object_at(plan, "connections");
    std::cout << "\nconnections: " << count_at(touched, "open") << " open, of which "
              << count_at(touched, "changed") << " are judged otherwise ("
              << count_at(touched, "drained") << " drained, " << count_at(touched, "reset")
              << " reset), " << count_at(touched, "dropped") << " dropped by the guard\n";
  }
  if (plan.contains("bans")) {
    const json::object& bans = object_at(plan, "bans");
    std::cout << "bans: " << count_at(bans, "running") << " running";
    for (const auto& source : array_at(bans, "spared"))
      std::cout << ", " << std::string_view(source.as_string()) << " spared by protect";
    std::cout << '\n';
  }
  for (const auto& name : array_at(plan, "limits"))
    std::cout << "limit " << std::string_view(name.as_string()) << ": every key begins anew\n";
  if (plan.contains("restart"))
    std::cout << text_at(plan, "restart") << ": takes a restart of sluice\n";
}

}  // namespace

void show_plan(const json::object& plan) {
  const bool bright = colours();
  show_changes(array_at(plan, "changes"));
  show_touched(plan);
  for (const auto& value : array_at(plan, "warnings")) {
    const json::object& warning = value.as_object();
    std::cout << (bright ? "\x1b[33m" : "") << "warning: " << (bright ? "\x1b[0m" : "")
              << text_at(warning, "file") << ':' << count_at(warning, "line") << ':'
              << count_at(warning, "column") << ": " << text_at(warning, "message");
    if (const std::string hint = text_at(warning, "hint"); !hint.empty())
      std::cout << " (" << hint << ')';
    std::cout << '\n';
  }
  for (const auto& text : array_at(plan, "lock_out"))
    std::cout << (bright ? "\x1b[31m" : "") << "LOCK-OUT: " << (bright ? "\x1b[0m" : "")
              << std::string_view(text.as_string()) << '\n';
}

}  // namespace sluice::control
