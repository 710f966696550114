// Periods of the calendar, UTC, known by when they begin. Times are Unix time, in seconds.
#pragma once

#include <cstdint>
#include <string>

#include "policy/config/ai.h"

namespace sluice::gateway::ai {

std::int64_t period_start(policy::AiPeriod period, std::int64_t unix_seconds);
std::int64_t next_period(policy::AiPeriod period, std::int64_t unix_seconds);
std::string day_text(std::int64_t unix_seconds);  // "2026-11-29"

}  // namespace sluice::gateway::ai
