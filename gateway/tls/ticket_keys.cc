#include "gateway/tls/ticket_keys.h"

#include <cstring>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "gateway/tls/openssl.h"

namespace sluice::gateway::tls {
namespace {

constexpr std::size_t kName = 16;
constexpr std::size_t kHalf = 32;

// Looked up once: OpenSSL 3 searches its providers each time otherwise.
EVP_CIPHER* aes() {
  static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr);
  return cipher;
}

int context_slot() {
  static const int slot = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}

const unsigned char* bytes_of(const Secret& key) {
  return reinterpret_cast<const unsigned char*>(key.view().data());
}

bool set_mac(EVP_MAC_CTX* mac, const unsigned char* key) {
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, const_cast<unsigned char*>(key), kHalf),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  return EVP_MAC_CTX_set_params(mac, params) == 1;
}

}  // namespace

SecretPtr make_ticket_key() {
  std::vector<char> bytes(kTicketKeySize);
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), kTicketKeySize) != 1)
    return nullptr;
  return std::make_shared<Secret>(std::move(bytes));
}

void TicketKeys::set(std::vector<SecretPtr> keys) {
  std::erase_if(keys, [](const SecretPtr& key) { return !key || key->size() != kTicketKeySize; });
  auto next = std::make_shared<const Keys>(std::move(keys));
  const std::scoped_lock lock(mutex_);
  keys_.swap(next);
}

std::shared_ptr<const TicketKeys::Keys> TicketKeys::current() const {
  const std::scoped_lock lock(mutex_);
  return keys_;
}

void TicketKeys::attach(SSL_CTX* context) const {
  SSL_CTX_set_ex_data(context, context_slot(), const_cast<TicketKeys*>(this));
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &TicketKeys::use);
}

// SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 0 no ticket, 1 good, 2 good but make a new one.
int TicketKeys::use(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                    EVP_MAC_CTX* mac, int sealing) {
  const auto* self =
      static_cast<const TicketKeys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_slot()));
  const std::shared_ptr<const Keys> keys = self->current();
  if (keys->empty()) return 0;
  if (sealing == 1) {
    const unsigned char* key = bytes_of(*keys->front());
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes())) != 1) return -1;
    std::memcpy(name, key, kName);
    return EVP_EncryptInit_ex2(cipher, aes(), key + kName, iv, nullptr) == 1 &&
                   set_mac(mac, key + kName + kHalf)
               ? 1
               : -1;
  }
  for (const SecretPtr& candidate : *keys) {
    const unsigned char* key = bytes_of(*candidate);
    if (std::memcmp(name, key, kName) != 0) continue;
    if (EVP_DecryptInit_ex2(cipher, aes(), key + kName, iv, nullptr) != 1 ||
        !set_mac(mac, key + kName + kHalf))
      return -1;
    return candidate == keys->front() && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
  }
  return 0;
}

}  // namespace sluice::gateway::tls
