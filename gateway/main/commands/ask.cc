#include "gateway/main/commands/ask.h"

#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <unistd.h>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/command.h"
#include "policy/diagnostic.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

// Pins of this network namespace, of any ABI version: without them there is nothing to open, and
// opening would make them.
bool has_pins(const std::string& root) {
  namespace fs = std::filesystem;
  const std::string here = std::to_string(network_namespace());
  std::error_code error;
  for (fs::directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    if (fs::is_directory(it->path() / here, error)) return true;
  }
  return false;
}

}  // namespace

int failed(const Arguments& arguments, const std::string& message) {
  std::cerr << "sluice: " << message << '\n';
  if (arguments.get("output") == "json")
    std::cout << json::serialize(json::object{{"ok", false}, {"error", message}}) << '\n';
  return kExitFailed;
}

void say_warnings(const json::object& answer) {
  for (const auto& value : array_at(answer, "diagnostics")) {
    const json::object& one = value.as_object();
    const policy::Diagnostic warning{
        .severity = policy::Diagnostic::Severity::warning,
        .where = {.file = text_at(one, "file"),
                  .line = static_cast<int>(number_at(one, "line")),
                  .column = static_cast<int>(number_at(one, "column"))},
        .message = text_at(one, "message"),
        .hint = text_at(one, "hint")};
    std::cerr << warning.to_string() << '\n';
  }
}

int show_answer(const Arguments& arguments, const json::object& answer,
                const std::function<void(const json::object&)>& show) {
  const json::value* ok = answer.if_contains("ok");
  const bool good = ok != nullptr && ok->is_bool() && ok->as_bool();
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(answer) << '\n';
  } else if (good) {
    show(answer);
  }
  if (!good) std::cerr << "sluice: " << text_at(answer, "error") << '\n';
  return good ? kExitOk : kExitFailed;
}

int ask_and_show(const Arguments& arguments, const json::object& request,
                 const std::function<void(const json::object&)>& show,
                 std::chrono::milliseconds timeout) {
  const auto answer =
      gateway::ask_admin(gateway::admin_socket_path(arguments.get("socket")), request, timeout);
  if (answer) return show_answer(arguments, *answer, show);
  return failed(arguments, answer.error().message);
}

int ask_or_open_pins(const Arguments& arguments, const json::object& request,
                     const std::function<json::object(kernel::Keeper&)>& offline,
                     const std::function<void(const json::object&)>& show) {
  const auto answer = gateway::ask_admin(gateway::admin_socket_path(arguments.get("socket")),
                                         request, std::chrono::seconds(10));
  if (answer) return show_answer(arguments, *answer, show);

  const kernel::KeeperOptions options{
      .pin_root = arguments.get("pin-root", kernel::KeeperOptions{}.pin_root)};
  if (answer.error().kind == gateway::AdminError::Kind::not_running && ::geteuid() == 0 &&
      has_pins(options.pin_root)) {
    auto keeper = kernel::Keeper::open(options);
    if (keeper) {
      std::cerr << "sluice: nobody answers; using what the last one left in the kernel\n";
      return show_answer(arguments, offline(**keeper), show);
    }
    std::cerr << "sluice: " << keeper.error().message << '\n';
  }
  return failed(arguments, answer.error().message);
}

std::string text_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return {};
  if (value->is_string()) return std::string(value->as_string());
  if (value->is_double()) {  // JSON has an exponent there
    std::array<char, 400> memory;
    const auto end = std::to_chars(memory.data(), memory.data() + memory.size(), value->as_double(),
                                   std::chars_format::fixed);
    return {memory.data(), end.ptr};
  }
  return json::serialize(*value);
}

double number_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  boost::system::error_code error;
  const double number = value != nullptr ? value->to_number<double>(error) : 0;
  return error ? 0 : number;
}

const json::array& array_at(const json::object& object, std::string_view key) {
  static const json::array kNone;
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_array() ? value->as_array() : kNone;
}

const json::object& object_at(const json::object& object, std::string_view key) {
  static const json::object kNone;
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_object() ? value->as_object() : kNone;
}

std::string count_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return "-";
  return std::to_string(std::llround(number_at(object, key)));
}

}  // namespace sluice::control
