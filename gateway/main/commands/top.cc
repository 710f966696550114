#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <poll.h>
#include <stop_token>
#include <sys/ioctl.h>
#include <termios.h>
#include <thread>
#include <unistd.h>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    OptionSpec{"by", "WHAT", "service (default) or source", 0, "service source"},
    OptionSpec{"sort", "COLUMN", "packets (default), bytes, connections, resets or requests", 0,
               "packets bytes connections resets requests"},
    OptionSpec{"all", "", "of services: those too that the policy does not serve"},
    OptionSpec{"once", "", "one interval of a second, then end"},
    OptionSpec{"lines", "N", "at most so many; default what fits, or 20; JSON: all"},
    kSocketOption,
    kOutputOption,
};

struct Column {
  const char* name;  // of --sort
  const char* key;   // of the row
  const char* head;
  char letter;  // pressed, it sorts
};
constexpr std::array kColumns{
    Column{"packets", "packets", "PACKETS/s", 'p'},
    Column{"bytes", "bytes", "BYTES/s", 'b'},
    Column{"connections", "connections", "CONNS/s", 'c'},
    Column{"resets", "resets", "RESETS/s", 'r'},
    Column{"requests", "requests_estimate", "REQUESTS/s~", 'q'},
};

// By the column, the most first; at most `lines` of them.
std::vector<const json::object*> sorted(const json::array& rows, const Column& column,
                                        std::size_t lines) {
  std::vector<const json::object*> out;
  for (const auto& row : rows)
    out.push_back(&row.as_object());
  std::ranges::stable_sort(out, std::ranges::greater(),
                           [&](const json::object* row) { return number_at(*row, column.key); });
  if (out.size() > lines) out.resize(lines);
  return out;
}

// What --output json prints of an interval.
json::object line_of(const json::object& line, const Column& column, std::size_t lines) {
  json::object out = line;
  json::array rows;
  for (const json::object* row : sorted(array_at(line, "rows"), column, lines))
    rows.push_back(*row);
  out["rows"] = std::move(rows);
  return out;
}

std::string rate(const json::object& row, const Column& column) {
  const double value = number_at(row, column.key);
  if (column.letter == 'b') return human_bytes(value);
  char text[32];
  std::snprintf(text, sizeof text, value < 10 ? "%.1f" : "%.0f", value);
  return text;
}

// Keys without Enter, for as long as it lives; none where standard input is no terminal.
class RawTerminal {
 public:
  RawTerminal() {
    if (::isatty(STDIN_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    on_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() { restore(); }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  bool on() const { return on_; }
  void restore() const {
    if (on_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }

 private:
  termios before_{};
  bool on_ = false;
};

// Drawn by the thread that hears from sluice, and by the one that reads keys.
class Screen {
 public:
  Screen(std::string by, std::size_t column, std::size_t lines, bool live)
      : by_(std::move(by)), column_(column), lines_(lines), live_(live) {}

  void show(const json::object& line) {
    const std::lock_guard lock(mutex_);
    rows_ = array_at(line, "rows");
    express_ = object_at(line, "express");
    draw();
  }
  // False: time to go.
  bool key(char pressed) {
    const std::lock_guard lock(mutex_);
    if (pressed == 'x' || pressed == 'X' || pressed == 4) return false;
    const auto named = std::ranges::find(kColumns, pressed, &Column::letter);
    if (named == kColumns.end()) return true;
    column_ = static_cast<std::size_t>(named - kColumns.begin());
    draw();
    return true;
  }

 private:
  std::size_t lines() const {
    if (lines_ > 0) return lines_;
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 6) return size.ws_row - 4U;
    return 20;
  }

  void draw() {
    const auto rows = sorted(rows_, kColumns[column_], lines());
    const bool services = by_ == "service";
    std::vector<std::string> heads{services ? "SERVICE" : "SOURCE"};
    if (services) heads.emplace_back("LISTENER");
    for (std::size_t i = 0; i < kColumns.size(); ++i)
      heads.push_back(std::string(kColumns[i].head) + (i == column_ ? "*" : ""));
    Table table(heads);
    for (const json::object* row : rows) {
      std::vector<std::string> cells{text_at(*row, "name")};
      if (services) cells.push_back(row->at("listener").as_string().empty() ? "-" : text_at(*row, "listener"));
      for (const Column& column : kColumns)
        cells.push_back(rate(*row, column));
      table.add(std::move(cells));
    }
    if (live_) std::cout << "\x1b[H\x1b[2J";
    table.print();
    if (table.empty()) std::cout << "nothing came in\n";
    if (number_at(express_, "connections") > 0)
      std::cout << "express lane: " << text_at(express_, "connections") << " connections, "
                << human_bytes(number_at(express_, "bytes")) << "/s, none of it above\n";
    if (live_)
      std::cout << "sort: p packets, b bytes, c connections, r resets, q requests (an estimate); "
                   "x ends\n";
    std::cout.flush();
  }

  std::mutex mutex_;
  json::array rows_;
  json::object express_;
  std::string by_;
  std::size_t column_;
  std::size_t lines_;
  bool live_;
};

// The other thread may wait for sluice for as long as a second: the process ends from here.
void read_keys(const std::stop_token& stop, Screen& screen, const RawTerminal& terminal) {
  while (!stop.stop_requested()) {
    pollfd wait{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 100) <= 0) continue;
    char pressed = 0;
    if (::read(STDIN_FILENO, &pressed, 1) != 1) return;
    if (screen.key(pressed)) continue;
    terminal.restore();
    std::_Exit(kExitOk);
  }
}

int usage(const std::string& message) {
  std::cerr << "sluice: " << message << "\n`sluice top --help` tells more.\n";
  return kExitUsage;
}

int top(const Arguments& arguments) {
  const std::string by = arguments.get("by", "service");
  if (by != "service" && by != "source") return usage("--by is service or source, not '" + by + "'");
  const std::string sort = arguments.get("sort", "packets");
  const auto column = std::ranges::find(kColumns, sort, [](const Column& c) {
    return std::string_view(c.name);
  });
  if (column == kColumns.end())
    return usage("--sort is packets, bytes, connections, resets or requests, not '" + sort + "'");
  const std::string lines = arguments.get("lines", "0");
  if (lines.empty() || lines.size() > 4 || lines.find_first_not_of("0123456789") != std::string::npos)
    return usage("--lines is a number, not '" + lines + "'");
  const std::size_t wanted = std::stoul(lines);
  const bool as_json = arguments.get("output") == "json";
  const bool once = arguments.has("once");
  const bool live = !once && !as_json && ::isatty(STDOUT_FILENO) != 0;

  RawTerminal terminal;
  Screen screen(by, static_cast<std::size_t>(column - kColumns.begin()), wanted, live);
  std::jthread keys;
  if (live && terminal.on())
    keys = std::jthread([&](const std::stop_token& stop) { read_keys(stop, screen, terminal); });
  bool refused = false;
  const auto done = gateway::follow_admin(
      gateway::admin_socket_path(arguments.get("socket")),
      {{"command", "top"}, {"by", by}, {"all", arguments.has("all")}},
      [&](const json::object& line) {
        if (const json::value* ok = line.if_contains("ok")) {
          refused = !ok->is_bool() || !ok->as_bool();
          if (refused) failed(arguments, text_at(line, "error"));
          return !refused;
        }
        if (as_json) {
          const std::size_t most = wanted > 0 ? wanted : SIZE_MAX;
          std::cout << json::serialize(line_of(line, *column, most)) << std::endl;
        } else {
          screen.show(line);
        }
        return !once && static_cast<bool>(std::cout);
      });
  if (!done) std::cerr << "sluice: " << done.error().message << '\n';
  return done && !refused ? kExitOk : kExitFailed;
}

}  // namespace

const Command kTopCommand{
    .name = "top",
    .words = "",
    .summary = "Services or sources by rate, live: packets, bytes, connections, resets, requests.",
    .details =
        "What comes in by TCP and passes the guard, per second, once a second. The policy asks for "
        "it:\n"
        "  guard: { monitor: [service, source] }\n\n"
        "Keys sort: p, b, c, r, q; x ends. Requests are an estimate: buffers that begin like an "
        "HTTP/1.1\n"
        "request or HTTP/2's preface. Entries begin with a SYN, so connections that were open "
        "before the\n"
        "monitor was asked for are counted once a new one comes to the same service. What goes by "
        "the\n"
        "express lane is no packet: a line of its own tells of it.",
    .options = kOptions,
    .run = top,
};

}  // namespace sluice::control
