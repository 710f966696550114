// What the commands that talk to a running sluice have in common.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <string>

#include <boost/json.hpp>

#include "gateway/main/arguments.h"
#include "kernel/keeper.h"

namespace sluice::control {

inline constexpr OptionSpec kSocketOption{"socket", "PATH",
                                          "the admin socket (also SLUICE_SOCKET)"};
inline constexpr OptionSpec kOutputOption{"output", "FORMAT", "table (default) or json", 0,
                                          "table json"};
inline constexpr OptionSpec kPinRootOption{"pin-root", "PATH",
                                           "where pins are, default /sys/fs/bpf/sluice"};

// What went wrong, for people; on standard output too, as {"ok": false, "error"}, where a program
// asked for JSON. The exit code.
int failed(const Arguments& arguments, const std::string& message);

// On standard error, a line each: what an answer that is ok warns of all the same.
void say_warnings(const boost::json::object& answer);

// Prints an answer: as it came for --output json, else by `show`. One that is not ok goes to standard
// error. The exit code.
int show_answer(const Arguments& arguments, const boost::json::object& answer,
                const std::function<void(const boost::json::object&)>& show);
// Asks, then shows the answer.
int ask_and_show(const Arguments& arguments, const boost::json::object& request,
                 const std::function<void(const boost::json::object&)>& show,
                 std::chrono::milliseconds timeout = std::chrono::seconds(10));

// The same for what can be done without a running sluice: where none answers, root does it on the
// pins that the last one left in this network namespace.
int ask_or_open_pins(const Arguments& arguments, const boost::json::object& request,
                     const std::function<boost::json::object(kernel::Keeper&)>& offline,
                     const std::function<void(const boost::json::object&)>& show);

// The value at `key`, or an empty text, 0, an empty array or object.
std::string text_at(const boost::json::object& object, std::string_view key);
double number_at(const boost::json::object& object, std::string_view key);
const boost::json::array& array_at(const boost::json::object& object, std::string_view key);
const boost::json::object& object_at(const boost::json::object& object, std::string_view key);
// A whole number, or "-".
std::string count_at(const boost::json::object& object, std::string_view key);

}  // namespace sluice::control
