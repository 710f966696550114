// Whose counter is whose: a slot per rule name, kept over reloads and restarts, freed when the rule
// has gone.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

sluice_guard_count read_tally(int tallies_map, std::uint32_t index);  // the sum of all CPUs

class GuardCounters {
 public:
  // Reads what is in force from the maps (which outlive the object). `reverted`: a trial that was
  // under way has ended with the rules before.
  GuardCounters(int names_map, int counters_map, int buckets_map, bool reverted = false);

  // One counter per rule, in their order. A rule that is in force keeps its own; the others begin
  // at 0.
  Result<std::vector<std::uint16_t>> prepare(const std::vector<GuardRule>& rules);
  // The prepared rules are in force; counters of others are free, unless `on_trial`: then at its
  // end.
  void commit(bool on_trial = false);
  void end_trial(bool reverted);  // the rules before are in force again, or gone for good
  void abandon();

  std::vector<RuleCounter> read() const;
  std::string name_of(std::uint16_t counter) const;  // of a rule in force; "" when unknown

 private:
  struct Owner {
    std::string name;
    std::uint64_t hash = 0;
    GuardAction action = GuardAction::drop;
    bool audit = false;
    std::uint16_t counter = 0;
  };
  void clear(std::uint16_t counter) const;
  void read_names(bool reverted);
  Result<void> write(const Owner& owner, std::uint16_t order, std::size_t before = 0) const;
  void write_orders() const;
  void release(std::uint16_t counter);
  void release_all_but(const std::vector<Owner>& kept, const std::vector<Owner>& owners);

  int names_map_;
  int counters_map_;
  int buckets_map_;
  std::vector<bool> used_;
  std::vector<Owner> in_force_;  // in the order of the policy
  std::vector<Owner> prepared_;
  std::vector<Owner> before_;  // while on trial: what was in force, its counters kept
};

}  // namespace sluice::kernel
