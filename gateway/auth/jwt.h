// JSON Web Tokens (RFC 7519) in the compact form of JWS (RFC 7515), by the practice of RFC 8725:
// algorithms pinned by policy and key, issuer and audience checked, an expiry required.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/auth/attributes.h"
#include "gateway/auth/key_source.h"
#include "policy/config/auth.h"

namespace sluice::gateway::auth {

enum class JwtError : std::uint8_t {
  none,
  malformed,
  algorithm_not_allowed,
  no_keys,  // none has been fetched yet: not the caller's fault
  unknown_key,
  bad_signature,
  no_expiry,
  expired,
  not_yet_valid,
  wrong_issuer,
  wrong_audience,
};
std::string_view to_string(JwtError error);

// What one worker remembers of one verifier: buffers, the keys, and which tokens it has verified
// under them, since a signature costs more than the rest of a request.
class JwtMemory {
 public:
  JwtMemory();
  ~JwtMemory();

 private:
  friend class JwtVerifier;
  using Digest = std::array<std::uint8_t, 32>;
  static constexpr std::size_t kVerified = 1024;

  void follow(KeySource& source);

  std::uint64_t generation_ = 0;
  std::shared_ptr<const KeySet> keys_;
  std::string header_;
  std::string payload_;
  std::string signature_;
  std::string list_;
  std::vector<std::byte> json_;
  std::vector<Digest> verified_;  // by the digest's first bytes; zeroes: none
};

class JwtVerifier {
 public:
  JwtVerifier(const policy::JwtAuth& config, std::shared_ptr<KeySource> source)
      : config_(config), source_(std::move(source)) {}

  // `now`: Unix time in seconds. The claims of a good token go to `claims`: strings, numbers and
  // booleans as text, lists of strings joined by spaces.
  JwtError verify(std::string_view token, std::int64_t now, JwtMemory& memory,
                  AttributeStore& claims) const;

 private:
  struct Parts {
    std::string_view header, payload, signature, signed_part;
  };
  static bool split(std::string_view token, Parts& parts);
  JwtError check_signature(std::string_view token, const Parts& parts, JwtMemory& memory) const;

  policy::JwtAuth config_;
  std::shared_ptr<KeySource> source_;
};

}  // namespace sluice::gateway::auth
