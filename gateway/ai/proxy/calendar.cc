#include "gateway/ai/proxy/calendar.h"

#include <chrono>
#include <cstddef>

namespace sluice::gateway::ai {
namespace {

using namespace std::chrono;
using policy::AiPeriod;

sys_days day_of(std::int64_t unix_seconds) {
  return floor<days>(sys_seconds(seconds(unix_seconds)));
}

std::int64_t unix_of(sys_days day) {
  return sys_seconds(day).time_since_epoch().count();
}

constexpr std::int64_t kHour = 3600;

}  // namespace

std::int64_t period_start(AiPeriod period, std::int64_t unix_seconds) {
  const sys_days day = day_of(unix_seconds);
  switch (period) {
    case AiPeriod::hour:
      return unix_seconds - unix_seconds % kHour;
    case AiPeriod::day:
      return unix_of(day);
    case AiPeriod::week:
      return unix_of(day - (weekday(day) - Monday));
    case AiPeriod::month:
      break;
  }
  const year_month_day date(day);
  return unix_of(sys_days(date.year() / date.month() / 1));
}

std::int64_t next_period(AiPeriod period, std::int64_t unix_seconds) {
  const sys_days day = day_of(unix_seconds);
  switch (period) {
    case AiPeriod::hour:
      return unix_seconds - unix_seconds % kHour + kHour;
    case AiPeriod::day:
      return unix_of(day + days(1));
    case AiPeriod::week:
      return unix_of(day - (weekday(day) - Monday) + days(7));
    case AiPeriod::month:
      break;
  }
  const year_month_day date(day);
  return unix_of(sys_days((date.year() / date.month() + months(1)) / 1));
}

std::string day_text(std::int64_t unix_seconds) {
  const year_month_day date(day_of(unix_seconds));
  std::string text = "0000-00-00";
  if (date.year() < std::chrono::year(0)) return text;  // before every other day
  const auto write = [&](std::size_t last, unsigned number) {
    for (std::size_t at = last; number > 0; number /= 10)
      text[at--] = static_cast<char>('0' + number % 10);
  };
  write(3, static_cast<unsigned>(static_cast<int>(date.year())) % 10'000U);
  write(6, static_cast<unsigned>(date.month()));
  write(9, static_cast<unsigned>(date.day()));
  return text;
}

}  // namespace sluice::gateway::ai
