// Rates of what the guard's monitor counts. Pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernel/keeper.h"
#include "policy/config.h"

namespace sluice::control {

// One line of the table. Rates are per second, over the last interval.
struct TopRow {
  std::string name;      // "203.0.113.7:443", or a source
  std::string listener;  // that the policy gives what goes there; "": none
  double packets = 0;
  double bytes = 0;
  double connections = 0;
  double resets = 0;
  double requests = 0;
};

// The rates of one reading after another.
class TopRates {
 public:
  using Clock = std::chrono::steady_clock;

  // Rows that saw anything since the last call, in no order; the first call has none to compare
  // with, and returns nothing.
  std::vector<TopRow> update(const std::vector<kernel::Seen>& seen, kernel::SeenBy by,
                             const policy::Config& config, Clock::time_point now);

 private:
  using Key = std::pair<kernel::Prefix, std::uint16_t>;
  std::map<Key, kernel::Seen> last_;
  Clock::time_point at_{};
};

// The `most` largest by each of the columns, so that whoever shows them can sort by any. Sorted by
// packets.
std::vector<TopRow> top_of(std::vector<TopRow> rows, std::size_t most);

// The listener to which the policy's entries give a destination; "": none.
std::string listener_of(const policy::Config& config, const policy::IpAddress& address,
                        std::uint16_t port);

}  // namespace sluice::control
