// A JSON Web Key Set (RFC 7517): the keys of it that can verify what we take.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/auth/public_key.h"

namespace sluice::gateway::auth {

// Immutable; any thread.
class KeySet {
 public:
  static constexpr std::size_t kMaxBytes = 256 * 1024;
  static constexpr std::size_t kMaxKeys = 64;

  // Keys of other kinds, for other uses, or malformed ones are left out. The error says why there
  // is not a single usable one.
  static std::expected<std::shared_ptr<const KeySet>, std::string> parse(std::string_view json);

  // Calls `take` with the keys that a token with this key id ("": none given) can be signed by,
  // until it returns true; returns whether it did.
  template <typename Take>
  bool any(std::string_view key_id, JwtAlgorithm algorithm, Take take) const {
    for (const Entry& entry : keys_) {
      if (entry.key->algorithm() != algorithm) continue;
      if (!key_id.empty() && entry.id != key_id) continue;
      if (take(*entry.key)) return true;
    }
    return false;
  }
  bool knows(std::string_view key_id) const;
  std::size_t size() const { return keys_.size(); }

 private:
  struct Entry {
    std::string id;
    std::unique_ptr<const PublicKey> key;
  };
  std::vector<Entry> keys_;
};

}  // namespace sluice::gateway::auth
