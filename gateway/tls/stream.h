// TLS on a transport's socket, through OpenSSL: the handshake, then records both ways.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/tls/failure.h"
#include "gateway/tls/identity.h"
#include "gateway/tls/openssl.h"
#include "gateway/transport.h"

namespace sluice::gateway {

// Its worker's thread only.
class TlsStream {
 public:
  enum class Step : std::uint8_t { done, wants_read, wants_write, failed };

  // `ssl`: with its side (accept or connect state) set. Transport::set_tls makes the connection
  // between the two. `early`: bytes that were read from the socket already.
  explicit TlsStream(tls::SslPtr ssl, std::string early = {});
  void attach(Transport& transport);

  // One step; again when the transport is readable, or writable. Never blocks.
  Step handshake();
  tls::Failure failure() const { return failure_; }  // of handshake(), after `failed`
  // For people: "certificate has expired", "tlsv1 alert no application protocol". A literal.
  std::string_view reason() const;

  // --- after the handshake ---
  std::string_view protocol() const;     // by ALPN: "h2", "http/1.1", or ""
  std::string_view server_name() const;  // that the client asked for; "" if for none
  bool resumed() const { return SSL_session_reused(ssl_.get()) == 1; }
  int version() const { return SSL_version(ssl_.get()); }  // TLS1_3_VERSION
  // Of a client that has shown a certificate; else null. Made when it is first asked for.
  const tls::Identity* identity();

  // As Transport's.
  Received read(std::span<char> room);
  Flush write(Outbox& outbox, std::uint64_t& sent);
  // Bytes of the socket wait inside, and nobody has looked at them yet.
  bool has_pending() const { return !drained_ && SSL_has_pending(ssl_.get()) == 1; }
  // What the last call that said `again` or `blocked` waits for, where it is the other direction.
  bool read_needs_write() const { return read_needs_write_; }
  bool write_needs_read() const { return write_needs_read_; }
  // Why read() has failed, as far as TLS tells: "tlsv13 alert certificate required"; "": it was
  // just the end. A literal.
  std::string_view complaint() const { return complaint_; }
  void shutdown();  // close_notify, as far as the socket takes it

  SSL* ssl() const { return ssl_.get(); }
  // For what reads in place of the socket: of the early bytes, as many as there is room for.
  std::size_t take_early(std::span<char> room);

 private:
  void note_complaint();

  tls::SslPtr ssl_;
  std::string early_;  // what is left of them
  std::optional<std::unique_ptr<const tls::Identity>> identity_;
  tls::Failure failure_ = tls::Failure::closed;
  std::string_view said_;  // by OpenSSL, of the failure
  std::string_view complaint_;
  bool read_needs_write_ = false;
  bool write_needs_read_ = false;
  bool drained_ = false;  // what is inside is a part of a record: only the socket helps
  bool broken_ = false;   // SSL_shutdown(3) must not be called then
};

}  // namespace sluice::gateway
