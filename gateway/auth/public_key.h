// Public keys of tokens' issuers, and the three kinds of signature that are taken. Each key is
// pinned to its algorithm by its own kind: a token cannot choose another.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "policy/config/auth.h"

struct evp_pkey_st;

namespace sluice::gateway::auth {

using policy::JwtAlgorithm;

class PublicKey {
 public:
  // From the members of a JSON Web Key (RFC 7518 section 6, RFC 8037), decoded. Null: not a key, or
  // one too weak (RSA below 2048 bits).
  static std::unique_ptr<const PublicKey> rsa(std::string_view n, std::string_view e);
  static std::unique_ptr<const PublicKey> p256(std::string_view x, std::string_view y);
  static std::unique_ptr<const PublicKey> ed25519(std::string_view x);
  ~PublicKey();
  PublicKey(const PublicKey&) = delete;
  PublicKey& operator=(const PublicKey&) = delete;

  JwtAlgorithm algorithm() const { return algorithm_; }
  // Any thread.
  bool verifies(std::string_view message, std::string_view signature) const;

 private:
  PublicKey(JwtAlgorithm algorithm, evp_pkey_st* key) : algorithm_(algorithm), key_(key) {}
  static std::unique_ptr<const PublicKey> make(JwtAlgorithm algorithm, evp_pkey_st* key);

  JwtAlgorithm algorithm_;
  evp_pkey_st* key_;  // owned
};

}  // namespace sluice::gateway::auth
