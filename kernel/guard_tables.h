// Rules compiled into what the program looks up: pure, no system call.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/guard_classes.h"
#include "kernel/guard_prefixes.h"
#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

struct GuardTables {
  using Trie4 = std::vector<std::pair<sluice_guard_key4, std::uint64_t>>;
  using Trie6 = std::vector<std::pair<sluice_guard_key6, std::uint64_t>>;
  // Protect entries that hold on some interfaces only.
  struct InterfaceGroups {
    std::vector<std::string> patterns;  // names and globs
    std::uint64_t groups = 0;
  };

  sluice_guard_slot slot{};
  std::vector<sluice_guard_class> classes;
  GuardClasses index;  // the same, to find them again
  std::vector<sluice_guard_port> ports;  // SLUICE_GUARD_PORTS of them
  std::array<PrefixTables, SLUICE_GUARD_FIELDS> prefixes;
  std::vector<sluice_guard_rate> rates;  // empty, or one per rule
  Trie4 protect4;
  Trie6 protect6;
  std::vector<InterfaceGroups> interfaces;
};

struct Refused {
  const char* table;  // that did not take it, as metrics name it
  Error error;
};

// `counters`: one per rule, in the rules' order. Errors: too many rules, or too many kinds of
// protect entries.
std::expected<GuardTables, Refused> compile_guard(const GuardPlan& plan,
                                                  std::span<const std::uint16_t> counters,
                                                  const std::vector<Protect>& protect,
                                                  const std::vector<std::uint16_t>& host_ports);

// A prefix as a key of the tries.
sluice_guard_key4 key4(const Prefix& prefix);
sluice_guard_key6 key6(const Prefix& prefix);

}  // namespace sluice::kernel
