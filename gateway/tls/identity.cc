#include "gateway/tls/identity.h"

#include <array>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <span>

#include "policy/hexadecimal.h"

namespace sluice::gateway::tls {
namespace {

using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, FreeBy<GENERAL_NAMES_free>>;
using BignumPtr = std::unique_ptr<BIGNUM, FreeBy<BN_free>>;

std::string copy_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

std::string subject_of(const X509* certificate) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  // Escaped, so that no name can hold a line break or look like two.
  X509_NAME_print_ex(memory.get(), X509_get_subject_name(certificate), 0,
                     XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

std::string common_name_of(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  return at < 0 ? "" : copy_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

std::string serial_of(const X509* certificate) {
  const BignumPtr number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  char* text = number ? BN_bn2hex(number.get()) : nullptr;
  std::string out = text == nullptr ? "" : text;
  OPENSSL_free(text);
  return out;
}

std::string fingerprint_of(const X509* certificate) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return {};
  return policy::to_hexadecimal(std::span(digest).first(size));
}

}  // namespace

std::unique_ptr<const Identity> identity_of(const SSL* ssl) {
  const X509* certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) return nullptr;
  auto identity = std::make_unique<Identity>();
  identity->subject = subject_of(certificate);
  identity->common_name = common_name_of(certificate);
  identity->serial = serial_of(certificate);
  identity->fingerprint = fingerprint_of(certificate);
  const GeneralNamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) identity->dns.push_back(copy_of(name->d.dNSName));
    if (name->type == GEN_URI) identity->uris.push_back(copy_of(name->d.uniformResourceIdentifier));
  }
  for (const auto* list : {&identity->dns, &identity->uris})
    identity->names.insert(identity->names.end(), list->begin(), list->end());
  if (!identity->common_name.empty()) identity->names.push_back(identity->common_name);
  return identity;
}

}  // namespace sluice::gateway::tls
