#include "gateway/tls/stream.h"

#include <array>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "gateway/tls/transport_bio.h"

namespace sluice::gateway {
namespace {

constexpr std::size_t kRecord = 16 * 1024;  // RFC 8446 section 5.1

}  // namespace

// A blocked write is tried again from wherever its bytes lie then.
TlsStream::TlsStream(tls::SslPtr ssl, std::string early)
    : ssl_(std::move(ssl)), early_(std::move(early)) {
  SSL_set_mode(ssl_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void TlsStream::attach(Transport& transport) {
  tls::BioPtr bio = tls::make_transport_bio(transport);
  BIO* const raw = bio.release();
  SSL_set_bio(ssl_.get(), raw, raw);  // the one reference is for both directions
}

std::size_t TlsStream::take_early(std::span<char> room) {
  const std::size_t bytes = early_.copy(room.data(), room.size());
  if (bytes == early_.size()) {
    early_ = {};
  } else {
    early_.erase(0, bytes);
  }
  return bytes;
}

TlsStream::Step TlsStream::handshake() {
  ERR_clear_error();
  drained_ = false;
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) return Step::done;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      drained_ = true;
      return Step::wants_read;
    case SSL_ERROR_WANT_WRITE:
      return Step::wants_write;
    default:
      broken_ = drained_ = true;
      if (const char* said = ERR_reason_error_string(ERR_peek_error())) said_ = said;
      failure_ = tls::take_failure();
      if (failure_ == tls::Failure::bad_certificate)
        failure_ = tls::failure_of_verification(SSL_get_verify_result(ssl_.get()));
      return Step::failed;
  }
}

// Most connections just end, which needs no looking up.
void TlsStream::note_complaint() {
  const unsigned long code = ERR_peek_error();
  if (tls::take_failure() == tls::Failure::closed) return;
  if (const char* said = ERR_reason_error_string(code)) complaint_ = said;
}

std::string_view TlsStream::reason() const {
  const long result = SSL_get_verify_result(ssl_.get());
  if (result != X509_V_OK) return X509_verify_cert_error_string(result);
  return said_.empty() ? tls::name(failure_) : said_;
}

std::string_view TlsStream::protocol() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

std::string_view TlsStream::server_name() const {
  const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? std::string_view() : name;
}

const tls::Identity* TlsStream::identity() {
  if (!identity_) identity_ = tls::identity_of(ssl_.get());
  return identity_->get();
}

Received TlsStream::read(std::span<char> room) {
  read_needs_write_ = false;
  drained_ = false;
  ERR_clear_error();
  std::size_t bytes = 0;
  if (SSL_read_ex(ssl_.get(), room.data(), room.size(), &bytes) == 1) {
    return {ReadResult::data, bytes};  // the socket may hold more records
  }
  switch (SSL_get_error(ssl_.get(), 0)) {
    case SSL_ERROR_WANT_READ:
      drained_ = true;
      return {ReadResult::again};
    case SSL_ERROR_WANT_WRITE:
      read_needs_write_ = true;
      return {ReadResult::again};
    case SSL_ERROR_ZERO_RETURN:
      return {ReadResult::eof};
    default:  // an end without close_notify is one of these: what came may have been cut
      broken_ = true;
      note_complaint();
      return {ReadResult::failed};
  }
}

// Slices are gathered, so that a head and its body share a record.
Flush TlsStream::write(Outbox& outbox, std::uint64_t& sent) {
  write_needs_read_ = false;
  while (!outbox.empty()) {
    std::array<char, kRecord> record;
    const std::span<const char> next = outbox.gather(record);
    std::size_t bytes = 0;
    ERR_clear_error();
    if (SSL_write_ex(ssl_.get(), next.data(), next.size(), &bytes) == 1) {
      sent += bytes;
      outbox.drop(bytes);
      continue;
    }
    switch (SSL_get_error(ssl_.get(), 0)) {
      case SSL_ERROR_WANT_READ:
        write_needs_read_ = true;
        return Flush::blocked;
      case SSL_ERROR_WANT_WRITE:
        return Flush::blocked;
      default:
        broken_ = true;
        return Flush::failed;
    }
  }
  return Flush::done;
}

void TlsStream::shutdown() {
  if (broken_ || SSL_in_init(ssl_.get()) == 1) return;
  ERR_clear_error();
  if (SSL_shutdown(ssl_.get()) < 0) ERR_clear_error();
}

}  // namespace sluice::gateway
