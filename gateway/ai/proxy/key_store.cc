#include "gateway/ai/proxy/key_store.h"

#include <algorithm>
#include <cstring>
#include <openssl/crypto.h>

namespace sluice::gateway::ai {
namespace {

// Callers cannot choose it: they would have to know a key's hash.
std::uint64_t place(const std::array<std::uint8_t, 32>& digest) {
  std::uint64_t word = 0;
  std::memcpy(&word, digest.data(), sizeof word);
  return word;
}

}  // namespace

KeyStore::KeyStore(std::vector<VirtualKey> keys, KeyStates& states) {
  KeyStates kept;
  for (VirtualKey& key : keys) {
    auto& state = kept[key.id];
    const auto known = states.find(key.id);
    if (!state) state = known != states.end() ? known->second : std::make_shared<KeyState>();
    places_.emplace(place(key.sha256), keys_.size());
    names_.emplace(key.name, keys_.size());
    keys_.push_back({std::move(key), state});
  }
  states = std::move(kept);
}

const KnownKey* KeyStore::named(std::string_view name) const {
  const auto found = names_.find(name);
  return found != names_.end() ? &keys_[found->second] : nullptr;
}

const KnownKey* KeyStore::find(std::string_view shown) const {
  const auto digest = hash_of_key(shown);
  const auto [begin, end] = places_.equal_range(place(digest));
  for (auto found = begin; found != end; ++found) {
    const KnownKey& known = keys_[found->second];
    if (CRYPTO_memcmp(known.key.sha256.data(), digest.data(), digest.size()) == 0) return &known;
  }
  return nullptr;
}

}  // namespace sluice::gateway::ai
