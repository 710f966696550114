#include "gateway/tls/certificate.h"

#include <algorithm>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace sluice::gateway::tls {
namespace {

using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, FreeBy<GENERAL_NAMES_free>>;

// Never asks at the terminal: an encrypted key is an error.
int no_password(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*user*/) {
  return -1;
}

BioPtr reader(std::string_view bytes) {
  return BioPtr(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return out;
}

std::string_view text_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

std::vector<std::string> names_of(X509* leaf) {
  std::vector<std::string> names;
  const GeneralNamesPtr all(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; all && i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(all.get(), i);
    if (name->type == GEN_DNS) names.push_back(lower(text_of(name->d.dNSName)));
  }
  if (all) return names;
  const X509_NAME* subject = X509_get_subject_name(leaf);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0)
    names.push_back(lower(text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)))));
  return names;
}

std::time_t time_of(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? ::timegm(&parts) : 0;
}

// PEM_read_bio has found no further "BEGIN"; anything else is a block that is cut or damaged.
bool at_end_of_file() {
  const unsigned long error = ERR_peek_last_error();
  const bool end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (end) ERR_clear_error();
  return end;
}

}  // namespace

std::string last_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

std::expected<Certificate, std::string> parse_certificate(const KeyPair& pair) {
  ERR_clear_error();
  Certificate out;
  const BioPtr certs = reader(pair.cert->view());
  while (X509* next = PEM_read_bio_X509(certs.get(), nullptr, no_password, nullptr)) {
    if (out.leaf) {
      out.chain.emplace_back(next);
    } else {
      out.leaf.reset(next);
    }
  }
  if (!at_end_of_file()) return std::unexpected("the certificate is damaged: " + last_error());
  if (!out.leaf) return std::unexpected("there is no certificate in it (PEM)");
  const BioPtr keys = reader(pair.key->view());
  out.key.reset(PEM_read_bio_PrivateKey(keys.get(), nullptr, no_password, nullptr));
  if (!out.key) {
    ERR_clear_error();  // it says "unsupported", whatever it was
    return std::unexpected("there is no private key that can be read (PEM, without a password)");
  }
  if (X509_check_private_key(out.leaf.get(), out.key.get()) != 1) {
    ERR_clear_error();
    return std::unexpected("the private key is not the certificate's");
  }
  out.names = names_of(out.leaf.get());
  out.not_after = time_of(X509_get0_notAfter(out.leaf.get()));
  return out;
}

std::expected<X509StorePtr, std::string> parse_authorities(std::string_view pem) {
  ERR_clear_error();
  X509StorePtr store(X509_STORE_new());
  const BioPtr certs = reader(pem);
  std::size_t count = 0;
  while (X509Ptr next{PEM_read_bio_X509(certs.get(), nullptr, no_password, nullptr)}) {
    X509_STORE_add_cert(store.get(), next.get());  // twice the same is once
    ++count;
  }
  if (!at_end_of_file()) return std::unexpected("a certificate is damaged: " + last_error());
  if (count == 0) return std::unexpected("there is no certificate in it (PEM)");
  return store;
}

}  // namespace sluice::gateway::tls
