// TLS on a transport's socket, through OpenSSL (SSL_set_fd), after or during the handshake.
#pragma once

#include <memory>
#include <openssl/ssl.h>
#include <span>

#include "gateway/transport.h"

namespace sluice::gateway {

// Its worker's thread only.
class TlsStream {
 public:
  struct SslFree {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  using SslPtr = std::unique_ptr<SSL, SslFree>;

  // `ssl`: with its descriptor (SSL_set_fd) and its side (accept or connect state) set.
  explicit TlsStream(SslPtr ssl);

  // As Transport's.
  Received read(std::span<char> room);
  Flush write(Outbox& outbox, std::uint64_t& sent);
  bool has_pending() const { return SSL_has_pending(ssl_.get()) == 1; }
  // What the last call that said `again` or `blocked` waits for, where it is the other direction.
  bool read_needs_write() const { return read_needs_write_; }
  bool write_needs_read() const { return write_needs_read_; }
  void shutdown();  // close_notify, as far as the socket takes it

  SSL* ssl() const { return ssl_.get(); }

 private:
  SslPtr ssl_;
  bool read_needs_write_ = false;
  bool write_needs_read_ = false;
  bool broken_ = false;  // SSL_shutdown(3) must not be called then
};

}  // namespace sluice::gateway
