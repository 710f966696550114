// Which slot of the workers' arrays belongs to which named object, over the generations of the
// policy.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sluice::gateway {

// Slots of one kind (listeners, routes, …). A name keeps its slot from one generation to the next.
class SlotDirectory {
 public:
  using Key = std::vector<std::string>;  // the series' label values

  // The slot of `key` in the generation that is being built; the same again for a key that is given
  // twice.
  std::uint32_t take(const Key& key);
  std::uint32_t size() const { return next_; }  // slots ever given out

  // Ends the building: what was not taken is retired, and no longer shown.
  void publish();
  void abandon();  // instead of publish(): what was shown stays
  // Retired slots of generations before `oldest_alive` can have no writer: frees them. Returns
  // those to reset.
  std::vector<std::uint32_t> collect(std::uint64_t oldest_alive);

  std::uint64_t generation() const { return generation_; }  // of the last publish()
  const std::map<Key, std::uint32_t>& shown() const { return shown_; }

 private:
  struct Retired {
    std::uint32_t slot;
    std::uint64_t last_generation;  // the last that could write to it
  };

  std::map<Key, std::uint32_t> shown_;
  std::map<Key, std::uint32_t> building_;
  std::map<Key, Retired> retired_;
  std::vector<std::uint32_t> free_;
  std::uint32_t next_ = 0;
  std::uint64_t generation_ = 0;
};

}  // namespace sluice::gateway
