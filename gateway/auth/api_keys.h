// API keys, of which only hashes are known (SHA-256: keys are random, so nothing slower is needed).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/auth/attributes.h"
#include "policy/config/auth.h"
#include "policy/siphash.h"

namespace sluice::gateway::auth {

// Immutable; any thread.
class ApiKeyTable {
 public:
  // `secret`: random, of this process.
  ApiKeyTable(const policy::ApiKeyAuth& config, policy::HashKey secret);

  // False: nobody's. Takes the same time wherever a key differs: a hash of its hash, under a secret,
  // is looked up, and the rest compared in constant time.
  bool verify(std::string_view key, AttributeStore& attributes) const;

 private:
  std::uint64_t place(const std::array<std::uint8_t, 32>& digest) const;

  policy::HashKey secret_;
  std::vector<policy::ApiKey> keys_;
  std::unordered_multimap<std::uint64_t, std::size_t> places_;
};

}  // namespace sluice::gateway::auth
