#include "gateway/log_format.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unistd.h>

#include "gateway/log_sink.h"

namespace sluice::gateway {

namespace {

std::atomic<LogLevel> lowest_level{LogLevel::info};
std::atomic<LogFormat> line_format{LogFormat::text};

struct LevelStyle {
  std::string_view name;  // five columns, so that components line up
  std::string_view colour;
};
constexpr std::array<LevelStyle, 4> kStyles{{
    {"debug", "\033[2m"},
    {"info ", "\033[32m"},
    {"warn ", "\033[33m"},
    {"error", "\033[31m"},
}};
constexpr std::string_view kColourEnd = "\033[0m";

const LevelStyle& style(LogLevel level) {
  return kStyles[static_cast<std::size_t>(level)];
}

bool is_plain(std::string_view value) {
  for (const char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return false;
  }
  return !value.empty();
}

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      char hex[5];
      std::snprintf(hex, sizeof hex, "\\x%02x", byte);
      out += hex;
    } else {
      out += c;
    }
  }
}

void append_value(std::string& out, std::string_view value) {
  if (is_plain(value)) {
    out += value;
    return;
  }
  out += '"';
  std::string quoted;
  for (const char c : value) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  append_escaped(out, quoted);
  out += '"';
}

void append_rest(std::string& out, std::string_view component, std::string_view message,
                 std::initializer_list<LogField> fields) {
  out += ' ';
  out += component;
  out += ": ";
  append_escaped(out, message);
  for (const LogField& field : fields) {
    out += ' ';
    out += field.key;
    out += '=';
    append_value(out, field.value);
  }
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {  // as the code point of the same value: valid UTF-8
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\u%04x", byte);
      out += hex;
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_member(std::string& out, std::string_view key, std::string_view value) {
  if (out.back() != '{') out += ',';
  append_json(out, key);
  out += ':';
  append_json(out, value);
}

void append_time(std::string& out) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  char text[40];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof text - length, ".%03ldZ", now.tv_nsec / 1'000'000);
  out += text;
}

bool colours() {
  static const bool wanted =
      ::isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;  // NOLINT: read once
  return wanted;
}

}  // namespace

void set_log_format(LogFormat format) {
  line_format.store(format, std::memory_order_relaxed);
}

std::string format_log_json(LogLevel level, std::string_view component, std::string_view message,
                            std::initializer_list<LogField> fields) {
  std::string line = "{";
  const std::string_view name = style(level).name;
  append_member(line, "level", name.substr(0, name.find(' ')));
  append_member(line, "component", component);
  append_member(line, "message", message);
  for (const LogField& field : fields)
    append_member(line, field.key, field.value);
  return line + '}';
}

void set_log_level(LogLevel level) {
  lowest_level.store(level, std::memory_order_relaxed);
}

std::string format_log_line(LogLevel level, std::string_view component, std::string_view message,
                            std::initializer_list<LogField> fields) {
  std::string line(style(level).name);
  append_rest(line, component, message, fields);
  return line;
}

void log_line(LogLevel level, std::string_view component, std::string_view message,
              std::initializer_list<LogField> fields) {
  if (level < lowest_level.load(std::memory_order_relaxed)) return;
  std::string line;
  if (line_format.load(std::memory_order_relaxed) == LogFormat::json) {
    std::string time;
    append_time(time);
    line = "{\"time\":\"" + time + "\"," + format_log_json(level, component, message, fields).substr(1);
    line += '\n';
    [[maybe_unused]] const auto done = ::write(STDERR_FILENO, line.data(), line.size());
    return;
  }
  append_time(line);
  line += ' ';
  if (colours()) line += style(level).colour;
  line += style(level).name;
  if (colours()) line += kColourEnd;
  append_rest(line, component, message, fields);
  line += '\n';
  // A worker may be the one that speaks: a reader that does not read costs the line, not time.
  write_patiently(STDERR_FILENO, line, 0);
}

}  // namespace sluice::gateway
