#include "gateway/auth/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace sluice::gateway::auth {

ApiKeyTable::ApiKeyTable(const policy::ApiKeyAuth& config, policy::HashKey secret)
    : secret_(secret), keys_(config.keys) {
  for (std::size_t i = 0; i < keys_.size(); ++i)
    places_.emplace(place(keys_[i].sha256), i);
}

std::uint64_t ApiKeyTable::place(const std::array<std::uint8_t, 32>& digest) const {
  return policy::siphash(secret_,
                         {reinterpret_cast<const char*>(digest.data()), digest.size()});
}

bool ApiKeyTable::verify(std::string_view key, AttributeStore& attributes) const {
  std::array<std::uint8_t, 32> digest{};
  EVP_Digest(key.data(), key.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  const auto [begin, end] = places_.equal_range(place(digest));
  for (auto found = begin; found != end; ++found) {
    const policy::ApiKey& known = keys_[found->second];
    if (CRYPTO_memcmp(known.sha256.data(), digest.data(), digest.size()) != 0) continue;
    attributes.add("sub", known.name);
    for (const auto& [name, value] : known.attributes)
      attributes.add(name, value);
    return true;
  }
  return false;
}

}  // namespace sluice::gateway::auth
