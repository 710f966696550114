#include "kernel/guard_events.h"

#include <atomic>
#include <bpf/libbpf.h>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/guard_bans.h"

namespace sluice::kernel {
namespace {

constexpr std::uint64_t kWatchedFor = 5'000'000'000ULL;  // ns after the last poll

Prefix host(const __u8* bytes, bool v4) {
  Prefix prefix{{}, 128, v4};
  std::memcpy(prefix.address.data(), bytes, prefix.address.size());
  return prefix;
}

int port(std::uint32_t number) {
  return number == SLUICE_GUARD_NO_PORT ? -1 : static_cast<int>(number);
}

}  // namespace

const char* drop_reason(std::uint32_t reason) {
  switch (reason) {
    case SLUICE_GUARD_DROP_RULE:
      return "rule";
    case SLUICE_GUARD_DROP_LIMIT:
      return "limit";
    case SLUICE_GUARD_DROP_BAN:
      return "ban";
    case SLUICE_GUARD_DROP_SOURCE_SYN:
      return "source_syn";
    case SLUICE_GUARD_DROP_SERVICE_SYN:
      return "service_syn";
    default:
      return "unknown";
  }
}

void GuardEvents::FreeRing::operator()(ring_buffer* ring) const {
  ring_buffer__free(ring);
}

// BPF's own layout: a page that holds the consumer's position, then one that holds the producer's.
double GuardEvents::waiting() const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* at = ::mmap(nullptr, 2 * page, PROT_READ, MAP_SHARED, ring_map_, 0);
  if (at == MAP_FAILED) return 0;
  const auto position = [&](std::size_t offset) {
    return __atomic_load_n(
        reinterpret_cast<const std::uint64_t*>(static_cast<const char*>(at) + offset),
        __ATOMIC_ACQUIRE);
  };
  const std::uint64_t read = position(0);
  const std::uint64_t written = position(page);
  ::munmap(at, 2 * page);
  return static_cast<double>((written - read) / (sizeof(sluice_guard_event) + 8));
}

void GuardEvents::poll(const NameOf& rule_name,
                       const std::function<void(const DropEvent&)>& receive) {
  if (!ring_) ring_.reset(ring_buffer__new(ring_map_, on_event, reader_.get(), nullptr));
  if (!ring_) return;
  std::atomic_ref(state_->events_until)
      .store(monotonic_ns() + kWatchedFor, std::memory_order_relaxed);
  *reader_ = {&rule_name, &receive};
  ring_buffer__consume(ring_.get());
}

int GuardEvents::on_event(void* context, void* data, std::size_t size) {
  if (size < sizeof(sluice_guard_event)) return 0;
  const auto* reader = static_cast<const Reader*>(context);
  sluice_guard_event event{};
  std::memcpy(&event, data, sizeof(event));
  DropEvent out;
  out.when = std::chrono::nanoseconds(event.when);
  out.reason = drop_reason(event.reason);
  if (event.counter != SLUICE_GUARD_NO_RULE) out.rule = (*reader->rule_name)(event.counter);
  out.from = host(event.from, event.version == 4);
  out.to = host(event.to, event.version == 4);
  out.protocol = event.protocol == SLUICE_GUARD_NO_PROTOCOL ? -1 : event.protocol;
  out.from_port = port(event.from_port);
  out.to_port = port(event.to_port);
  out.interface_index = event.interface_index;
  out.egress = event.egress != 0;
  out.audit = event.audit != 0;
  out.bytes = event.bytes;
  (*reader->receive)(out);
  return 0;
}

}  // namespace sluice::kernel
