#include "gateway/overload.h"

#include <cstdio>
#include <unistd.h>

#include "gateway/log.h"

namespace sluice::gateway {

namespace {

// Resident bytes (proc(5), /proc/self/statm); 0: not known.
std::uint64_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long total = 0;
  unsigned long long resident = 0;
  const int read = std::fscanf(file, "%llu %llu", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

void OverloadGuard::configure(const policy::Overload& config) {
  max_connections_.store(config.max_connections, std::memory_order_relaxed);
  max_memory_.store(config.max_memory, std::memory_order_relaxed);
  shed_percent_.store(config.shed_percent, std::memory_order_relaxed);
  retry_after_.store(
      static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::seconds>(config.retry_after).count()),
      std::memory_order_relaxed);
  look_at_memory();
}

void OverloadGuard::look_at_memory() {
  const std::uint64_t most = max_memory_.load(std::memory_order_relaxed);
  const std::uint64_t percent = shed_percent_.load(std::memory_order_relaxed);
  const bool high = most != 0 && resident_bytes() > most / 100 * percent;
  if (memory_high_.exchange(high, std::memory_order_relaxed) == high) return;
  if (high) {
    log_warn("overload", "memory is short: new requests are refused", {});
  } else {
    log_info("overload", "memory suffices again", {});
  }
}

}  // namespace sluice::gateway
