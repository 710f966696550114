// Inner maps of the guard: made, filled, and put into their places in the maps of maps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "kernel/abi_guard.h"
#include "kernel/keeper.h"
#include "kernel/mapped_map.h"
#include "kernel/pins.h"

namespace sluice::kernel {

// By batches: a system call per 4,096 entries.
Result<void> fill_map(int map, const void* keys, std::size_t key_size, const void* values,
                      std::size_t value_size, std::size_t count);
template <typename Key, typename Value>
Result<void> fill_map(int map, const std::vector<Key>& keys, const std::vector<Value>& values) {
  return fill_map(map, keys.data(), sizeof(Key), values.data(), sizeof(Value), keys.size());
}

// A memory-mapped array; `write` gets its memory, all zeros. `fixed`: an inner map whose outer one
// takes no other size, for which the lookup is inlined.
Result<Descriptor> make_mapped_array(const char* name, std::size_t value_size, std::size_t count,
                                     bool fixed, const std::function<void(void*)>& write);

// `values` empty: one zero element.
template <typename Value>
Result<Descriptor> make_array(const char* name, const std::vector<Value>& values) {
  return make_mapped_array(name, sizeof(Value), std::max<std::size_t>(values.size(), 1), false,
                           [&](void* to) { std::ranges::copy(values, static_cast<Value*>(to)); });
}

Result<Descriptor> make_trie(const char* name,
                             const std::vector<std::pair<sluice_guard_key4, std::uint64_t>>&);
Result<Descriptor> make_trie(const char* name,
                             const std::vector<std::pair<sluice_guard_key6, std::uint64_t>>&);
Result<Descriptor> make_classes(std::vector<sluice_guard_class> classes);

// The updates of several outer maps wait for one grace period (grace_periods.h).
class Placing {
 public:
  // `made` was refused: place() says so, and places nothing. `shown`: its name in metrics.
  void put(int outer, std::uint32_t index, const char* shown, Result<Descriptor> made);
  void take_away(int outer, std::uint32_t index);
  Result<void> place();
  const char* refused() const { return refused_table_; }  // the first; nullptr: none

 private:
  struct Outer {
    int map = -1;
    std::vector<std::uint32_t> indexes;
    std::vector<int> fds;
    std::vector<std::uint32_t> gone;
    Result<void> outcome;
    void update();
  };
  Outer& of(int outer);

  std::vector<Outer> outers_;
  std::vector<Descriptor> made_;
  Result<void> refused_;
  const char* refused_table_ = nullptr;
};

}  // namespace sluice::kernel
