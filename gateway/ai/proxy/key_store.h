// The virtual keys in force, by what callers show.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/ai/proxy/key_state.h"
#include "gateway/ai/proxy/virtual_keys.h"

namespace sluice::gateway::ai {

struct KnownKey {
  VirtualKey key;
  std::shared_ptr<KeyState> state;
};

// What has been used, by the keys' ids: outlives stores.
using KeyStates = std::map<std::string, std::shared_ptr<KeyState>>;

// Immutable, but the states; any thread.
class KeyStore {
 public:
  KeyStore() = default;
  // Takes states from `states`, and puts new ones there.
  KeyStore(std::vector<VirtualKey> keys, KeyStates& states);

  // Null: unknown. Whether it has expired is for the caller to see.
  const KnownKey* find(std::string_view shown) const;
  const KnownKey* find_name(std::string_view name) const;  // the same
  const std::vector<KnownKey>& keys() const { return keys_; }

 private:
  std::vector<KnownKey> keys_;
  std::unordered_multimap<std::uint64_t, std::size_t> places_;  // by the hash's first bytes
};

}  // namespace sluice::gateway::ai
