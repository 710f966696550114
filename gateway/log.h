// The process's own log lines, on standard error: `2026-01-02T03:04:05.678Z warn  upstream: message
// key=value`.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sluice::gateway {

enum class LogLevel : std::uint8_t { debug, info, warn, error };

// A key (a literal) and its value; values with spaces, quotes or control bytes are quoted and
// escaped in the line.
struct LogField {
  std::string_view key;
  std::string value;

  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  LogField(std::string_view k, bool v) : key(k), value(v ? "true" : "false") {}
  template <std::integral Int>
    requires(!std::same_as<Int, bool>)
  LogField(std::string_view k, Int v) : key(k), value(std::to_string(v)) {}
};

// Any thread. One write(2) per line, so lines of several threads and processes do not mix. Coloured
// on a terminal only, and not when NO_COLOR is set. Never fails: a line that cannot be written is
// lost.
void log_line(LogLevel level, std::string_view component, std::string_view message,
              std::initializer_list<LogField> fields = {});

inline void log_debug(std::string_view component, std::string_view message,
                      std::initializer_list<LogField> fields = {}) {
  log_line(LogLevel::debug, component, message, fields);
}
inline void log_info(std::string_view component, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
  log_line(LogLevel::info, component, message, fields);
}
inline void log_warn(std::string_view component, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
  log_line(LogLevel::warn, component, message, fields);
}
inline void log_error(std::string_view component, std::string_view message,
                      std::initializer_list<LogField> fields = {}) {
  log_line(LogLevel::error, component, message, fields);
}

// Lines below `level` are not written. Default: info.
void set_log_level(LogLevel level);

// The line without its time, uncoloured and without the newline: what log_line writes, for tests.
std::string format_log_line(LogLevel level, std::string_view component, std::string_view message,
                            std::initializer_list<LogField> fields);

}  // namespace sluice::gateway
