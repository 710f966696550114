// The keys that session tickets (RFC 5077, RFC 8446 section 4.6.1) are sealed with. All workers
// have the same, and so has the next gateway process: a client resumes wherever it lands.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <openssl/ssl.h>
#include <vector>

#include "gateway/tls/secret.h"

namespace sluice::gateway::tls {

inline constexpr std::size_t kTicketKeySize = 80;  // name 16, AES-256 32, HMAC-SHA256 32

// A new one, of the system's random bytes.
SecretPtr make_ticket_key();

// Any thread.
class TicketKeys {
 public:
  // The first one makes tickets; the others still open theirs.
  void set(std::vector<SecretPtr> keys);

  // For this context and those that SNI leads to from it; outlives it.
  void attach(SSL_CTX* context) const;

 private:
  using Keys = std::vector<SecretPtr>;
  static int use(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                 EVP_MAC_CTX* mac, int sealing);

  std::shared_ptr<const Keys> current() const;

  // Not std::atomic<std::shared_ptr>: GCC 12's gives its lock up without release after a load.
  mutable std::mutex mutex_;
  std::shared_ptr<const Keys> keys_ = std::make_shared<const Keys>();
};

}  // namespace sluice::gateway::tls
