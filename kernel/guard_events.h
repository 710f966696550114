// The sample of dropped packets that the program leaves for whoever watches.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernel/abi_guard.h"
#include "kernel/guard.h"

struct ring_buffer;

namespace sluice::kernel {

class GuardEvents {
 public:
  using NameOf = std::function<std::string(std::uint16_t counter)>;
  // Events that the ring holds; each has a header of 8 bytes.
  static constexpr double kCapacity =
      static_cast<double>(SLUICE_GUARD_EVENT_BYTES / (sizeof(sluice_guard_event) + 8));

  // `ring_map` and `state` outlive the object.
  GuardEvents(int ring_map, sluice_guard_state* state) : ring_map_(ring_map), state_(state) {}

  double waiting() const;  // events that nobody has read yet
  void poll(const NameOf& rule_name, const std::function<void(const DropEvent&)>& receive);

 private:
  struct FreeRing {
    void operator()(ring_buffer* ring) const;
  };
  struct Reader {
    const NameOf* rule_name;
    const std::function<void(const DropEvent&)>* receive;
  };
  static int on_event(void* context, void* data, std::size_t size);

  int ring_map_;
  sluice_guard_state* state_;
  std::unique_ptr<Reader> reader_ = std::make_unique<Reader>();  // the ring keeps its address
  std::unique_ptr<ring_buffer, FreeRing> ring_;
};

// "rule", "limit", "ban", "source_syn", "service_syn"
const char* drop_reason(std::uint32_t reason);

}  // namespace sluice::kernel
