#include "gateway/main/watchdog.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "gateway/main/service_manager.h"

namespace sluice::control {
namespace {

std::int64_t number_in_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  const char* end = text + std::strlen(text);
  std::int64_t number = 0;
  const auto [at, error] = std::from_chars(text, end, number);
  return error == std::errc{} && at == end ? number : 0;
}

std::chrono::microseconds interval_asked_for() {
  const pid_t self = ::getpid();
  if (number_in_environment("WATCHDOG_PID", self) != self) return {};
  return std::chrono::microseconds(number_in_environment("WATCHDOG_USEC", 0) / 2);
}

}  // namespace

Watchdog::Watchdog(boost::asio::io_context& io) : timer_(io), interval_(interval_asked_for()) {
  if (interval_.count() == 0) return;
  tell_service_manager("WATCHDOG=1");  // the program before this one may have said so long ago
  wait();
}

void Watchdog::wait() {
  timer_.expires_after(interval_);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    tell_service_manager("WATCHDOG=1");
    wait();
  });
}

}  // namespace sluice::control
