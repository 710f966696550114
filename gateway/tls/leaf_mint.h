// Certificates that a certificate authority of the operator's makes for names as clients ask for
// them.
#pragma once

#include <cstddef>
#include <ctime>
#include <expected>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/tls/certificate.h"
#include "policy/config/tls.h"

namespace sluice::gateway::tls {

// A leaf and its key, which is nowhere but here. Immutable.
struct Leaf {
  X509Ptr certificate;
  PrivateKeyPtr key;
  std::time_t renew_at = 0;
};
using LeafPtr = std::shared_ptr<const Leaf>;

// What an authority must be to make certificates: the error says what it lacks.
std::expected<void, std::string> may_sign(const Certificate& authority);

// Any thread. Holds one leaf for each entry of `hosts`, so its memory is what the policy says: for
// a wildcard the leaf is the wildcard's, whatever names clients think of.
class LeafMint {
 public:
  static constexpr std::time_t kLifetime = 24L * 60 * 60;  // seconds; half of it, and it is renewed
  static constexpr std::time_t kClockSkew = 60L * 60;      // that clients' clocks may be behind

  LeafMint(Certificate authority, const policy::CertificateAuthority& config);

  // Whether the name (in normal form) is one of the hosts.
  bool covers(std::string_view name) const { return config_.entry_for(name) != nullptr; }
  // For such a name, at `now` (Unix time). Null: not one of the hosts, or the authority itself is
  // out of date.
  LeafPtr leaf_for(std::string_view name, std::time_t now);
  // Between the leaf and the root, for the handshake.
  STACK_OF(X509) * chain() const { return chain_.get(); }

 private:
  struct FreeChain {
    void operator()(STACK_OF(X509) * chain) const { sk_X509_free(chain); }
  };
  LeafPtr make(const std::string& host, std::time_t now) const;

  const Certificate authority_;
  const policy::CertificateAuthority config_;
  std::time_t not_before_ = 0;                        // of the authority
  std::unique_ptr<STACK_OF(X509), FreeChain> chain_;  // of certificates that authority_ owns
  std::mutex mutex_;             // a handshake's signature takes a thousand times as long
  std::vector<LeafPtr> leaves_;  // as config_.hosts
};

}  // namespace sluice::gateway::tls
