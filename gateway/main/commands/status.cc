#include <array>
#include <chrono>
#include <cmath>
#include <iostream>

#include "gateway/ai/proxy/budgets.h"
#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    kSocketOption,
    kOutputOption,
    OptionSpec{"ready", "", "exit code 1 unless the process that answers serves: for probes"},
};

void show_head(const json::object& status) {
  std::cout << "sluice " << text_at(status, "version") << ", " << text_at(status, "mode")
            << " mode, pid " << text_at(status, "pid") << ", up "
            << human_seconds(static_cast<long>(number_at(status, "uptime_seconds"))) << '\n';
  const json::object& policy = object_at(status, "policy");
  const json::object& last = object_at(policy, "last_reload");
  std::cout << "policy " << text_at(policy, "path") << ", generation "
            << count_at(status, "generation");
  if (const std::string at = text_at(last, "at"); !at.empty())
    std::cout << "; last reload " << at << ": " << text_at(last, "result");
  std::cout << '\n';
  if (const std::string error = text_at(last, "error"); !error.empty())
    std::cout << (colours() ? "\x1b[31m" : "")
              << "THE POLICY ON DISK IS REFUSED, the old one stays:\n"
              << error << (colours() ? "\x1b[0m\n" : "\n");
  const std::string left = text_at(policy, "unconfirmed_seconds");
  if (!left.empty()) {
    std::cout << "UNCONFIRMED: the policy before comes back in " << left
              << " s unless `sluice confirm` comes\n";
  } else if (text_at(policy, "differs_from_disk") == "true") {
    std::cout << "WHAT RUNS DIFFERS FROM WHAT LIES ON DISK; `sluice plan "
              << text_at(policy, "path") << "` tells how\n";
  }
  const json::object& process = object_at(status, "gateway");
  const bool handed_over = text_at(status, "handed_over") == "true";
  if (handed_over)
    std::cout << "HANDED OVER to another sluice, which serves; gateways that finish what is open: "
              << array_at(process, "finishing").size() << '\n';
  else if (!process.empty())
    std::cout << "gateway pid " << text_at(process, "pid") << ", "
              << (text_at(process, "alive") == "true" ? "serving" : "NOT SERVING") << ", restarts "
              << count_at(process, "restarts") << '\n';
  if (text_at(status, "draining") == "true")
    std::cout << "DRAINS: what is open may finish, nothing new is served\n";
  for (const auto& problem : array_at(status, "problems"))
    std::cout << (colours() ? "\x1b[31m" : "") << "PROBLEM: " << problem.as_string().c_str()
              << (colours() ? "\x1b[0m\n" : "\n");
  for (const auto& warning : array_at(status, "warnings"))
    std::cout << "warning: " << warning.as_string().c_str() << '\n';
  if (const json::object& console = object_at(status, "console"); !console.empty())
    std::cout << "console " << text_at(console, "url")
              << (text_at(console, "pid").empty() ? " DOES NOT RUN" : "") << '\n';
  if (const std::string error = text_at(status, "gateway_error"); !error.empty() && !handed_over)
    std::cout << error << '\n';
}

std::string dollars_at(const json::object& object, std::string_view key) {
  return gateway::ai::dollars_text(std::llround(number_at(object, key) * 1e6));
}

// A table of whatever scalars the objects of an array have: what the gateway tells can grow without
// a change here.
void show_objects(const std::string& title, const json::array& objects, const std::string& nested) {
  if (objects.empty() || !objects.front().is_object()) return;
  std::vector<std::string> keys;
  std::vector<std::string> heads;
  for (const auto& [key, value] : objects.front().as_object()) {
    if (value.is_structured() || key == nested) continue;
    keys.emplace_back(key);
    std::string head(key);
    for (char& c : head)
      c = c == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    heads.push_back(std::move(head));
  }
  if (keys.empty()) return;
  Table table(std::move(heads));
  for (const auto& value : objects) {
    if (!value.is_object()) continue;
    std::vector<std::string> row;
    for (const auto& key : keys)
      row.push_back(key == "dollars" ? dollars_at(value.as_object(), key)
                                     : text_at(value.as_object(), key));
    table.add(std::move(row));
  }
  std::cout << '\n' << title << '\n';
  table.print();
}

// Endpoints as rows of their own, with the upstream's name before them.
json::array endpoints_of(const json::array& upstreams) {
  json::array out;
  for (const auto& value : upstreams) {
    if (!value.is_object()) continue;
    for (const auto& endpoint : array_at(value.as_object(), "endpoints")) {
      if (!endpoint.is_object()) continue;
      json::object row{{"upstream", text_at(value.as_object(), "name")}};
      for (const auto& [key, field] : endpoint.as_object())
        row[key] = field;
      out.push_back(std::move(row));
    }
  }
  return out;
}

void show(const json::object& status) {
  show_head(status);
  show_objects("listeners", array_at(status, "listeners"), "");
  show_objects("upstreams", array_at(status, "upstreams"), "endpoints");
  show_objects("endpoints", endpoints_of(array_at(status, "upstreams")), "");
  show_objects("express lane", array_at(status, "express"), "");
  show_objects("redis", array_at(status, "redis"), "");
  const json::object& models = object_at(status, "language_models");
  show_objects("language models", array_at(models, "providers"), "");
  show_objects("language models, today (UTC)", array_at(models, "today"), "");
}

// "": it serves. A process without a keeper answers when it does.
std::string why_not_ready(const json::object& status) {
  if (text_at(status, "handed_over") == "true") return "another sluice has taken over";
  if (text_at(status, "draining") == "true")
    return "sluice drains: what is open may finish, nothing new is served";
  return text_at(status, "ready") == "false" ? "the gateway does not serve yet" : "";
}

int status(const Arguments& arguments) {
  if (arguments.has("ready")) {
    const std::string socket = gateway::admin_socket_path(arguments.get("socket"));
    const auto answer =
        gateway::ask_admin(socket, {{"command", "status"}}, std::chrono::seconds(5));
    if (!answer) return failed(arguments, answer.error().message);
    if (const std::string why = why_not_ready(*answer); !why.empty()) return failed(arguments, why);
    return show_answer(arguments, *answer, show);
  }
  return ask_and_show(arguments, {{"command", "status"}}, show);
}

}  // namespace

const Command kStatusCommand{
    .name = "status",
    .words = "",
    .summary = "What serves: listeners, upstreams and their health, generation, last reload.",
    .details = "",
    .options = kOptions,
    .run = status,
};

}  // namespace sluice::control
