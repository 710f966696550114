#include "gateway/tls/leaf_mint.h"

#include <algorithm>
#include <array>
#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

namespace sluice::gateway::tls {
namespace {

constexpr std::size_t kLongestCommonName = 64;  // RFC 5280, ub-common-name
constexpr int kVersion3 = 2;                    // as X.509 counts
constexpr std::size_t kSerialBytes = 16;        // RFC 5280 section 4.1.2.2: at most 20

std::time_t unix_time(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? ::timegm(&parts) : 0;
}

bool set_serial(X509* leaf) {
  std::array<unsigned char, kSerialBytes> bytes;
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return false;
  bytes[0] &= 0x7f;  // positive
  const std::unique_ptr<BIGNUM, FreeBy<BN_free>> number(
      BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(leaf)) != nullptr;
}

// Long names are in subjectAltName alone, which is what clients read (RFC 6125).
bool set_subject(X509* leaf, const std::string& host) {
  if (host.size() > kLongestCommonName) return true;
  return X509_NAME_add_entry_by_txt(X509_get_subject_name(leaf), "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(host.c_str()), -1, -1,
                                    0) == 1;
}

bool add_extension(X509* leaf, X509V3_CTX& context, int id, const std::string& value) {
  const std::unique_ptr<X509_EXTENSION, FreeBy<X509_EXTENSION_free>> extension(
      X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
  return extension && X509_add_ext(leaf, extension.get(), -1) == 1;
}

// `host` has letters, digits, `-`, `.` and a leading `*` alone, so that nothing of it is syntax.
bool add_extensions(X509* leaf, X509* authority, const std::string& host) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, authority, leaf, nullptr, nullptr, 0);
  const bool named = host.size() <= kLongestCommonName;
  const bool identified = X509_get0_subject_key_id(authority) != nullptr;
  return add_extension(leaf, context, NID_basic_constraints, "critical,CA:FALSE") &&
         add_extension(leaf, context, NID_key_usage, "critical,digitalSignature") &&
         add_extension(leaf, context, NID_ext_key_usage, "serverAuth") &&
         add_extension(leaf, context, NID_subject_key_identifier, "hash") &&
         (!identified || add_extension(leaf, context, NID_authority_key_identifier, "keyid")) &&
         add_extension(leaf, context, NID_subject_alt_name,
                       (named ? "DNS:" : "critical,DNS:") + host);
}

// Ed25519 and Ed448 have a digest of their own.
const EVP_MD* digest_for(EVP_PKEY* key) {
  const int kind = EVP_PKEY_get_base_id(key);
  return kind == EVP_PKEY_ED25519 || kind == EVP_PKEY_ED448 ? nullptr : EVP_sha256();
}

}  // namespace

std::expected<void, std::string> may_sign(const Certificate& authority) {
  if (X509_check_ca(authority.leaf.get()) != 1)
    return std::unexpected("is not the certificate of an authority (basicConstraints CA:TRUE)");
  if ((X509_get_key_usage(authority.leaf.get()) & KU_KEY_CERT_SIGN) == 0)
    return std::unexpected("may not sign certificates (keyUsage keyCertSign)");
  return {};
}

LeafMint::LeafMint(Certificate authority, const policy::CertificateAuthority& config)
    : authority_(std::move(authority)),
      config_(config),
      not_before_(unix_time(X509_get0_notBefore(authority_.leaf.get()))),
      chain_(sk_X509_new_null()),
      leaves_(config.hosts.size()) {
  // The root is with the clients, or nowhere.
  X509* const issuer = authority_.leaf.get();
  if (X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(issuer)) != 0)
    sk_X509_push(chain_.get(), issuer);
  for (const X509Ptr& link : authority_.chain)
    sk_X509_push(chain_.get(), link.get());
}

LeafPtr LeafMint::leaf_for(std::string_view name, std::time_t now) {
  const std::string* host = config_.entry_for(name);
  if (host == nullptr || now < not_before_ || now >= authority_.not_after) return nullptr;
  const std::scoped_lock lock(mutex_);
  LeafPtr& leaf = leaves_[static_cast<std::size_t>(host - config_.hosts.data())];
  if (!leaf || now >= leaf->renew_at) leaf = make(*host, now);
  return leaf;
}

LeafPtr LeafMint::make(const std::string& host, std::time_t now) const {
  auto leaf = std::make_shared<Leaf>();
  const std::time_t begins = std::max(now - kClockSkew, not_before_);
  const std::time_t ends = std::min(now + kLifetime, authority_.not_after);
  leaf->renew_at = now + std::max<std::time_t>((ends - now) / 2, 1);
  leaf->certificate.reset(X509_new());
  leaf->key.reset(EVP_EC_gen("P-256"));
  X509* const raw = leaf->certificate.get();
  EVP_PKEY* const signer = authority_.key.get();
  const bool made =
      raw != nullptr && leaf->key && X509_set_version(raw, kVersion3) == 1 && set_serial(raw) &&
      X509_set_issuer_name(raw, X509_get_subject_name(authority_.leaf.get())) == 1 &&
      set_subject(raw, host) && ASN1_TIME_set(X509_getm_notBefore(raw), begins) != nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(raw), ends) != nullptr &&
      X509_set_pubkey(raw, leaf->key.get()) == 1 &&
      add_extensions(raw, authority_.leaf.get(), host) &&
      X509_sign(raw, signer, digest_for(signer)) > 0;
  if (made) return leaf;
  last_error();  // empties the queue, which a handshake reads
  return nullptr;
}

}  // namespace sluice::gateway::tls
