// The form of the process's own log lines.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "gateway/log.h"

namespace sluice::gateway {

// json: an object a line, {"time", "level", "component", "message", …fields as texts}.
enum class LogFormat : std::uint8_t { text, json };
void set_log_format(LogFormat format);

// A line as JSON, without its time and line end.
std::string format_log_json(LogLevel level, std::string_view component, std::string_view message,
                            std::initializer_list<LogField> fields);

}  // namespace sluice::gateway
