// Leaves by the clock: how long one is kept, and what ends with its authority.
#include "gateway/tls/leaf_mint.h"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace sluice::gateway::tls {
namespace {

constexpr std::time_t kBegin = 1'800'000'000;  // of the authority
constexpr std::time_t kDay = 24L * 60 * 60;

std::string pem_of(BIO* memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  return {data, static_cast<std::size_t>(size)};
}

// Self-signed, from kBegin on.
KeyPair authority(std::time_t lifetime, const char* constraints = "critical,CA:TRUE") {
  const PrivateKeyPtr key(EVP_EC_gen("P-256"));
  const X509Ptr cert(X509_new());
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 1);
  X509_NAME* name = X509_get_subject_name(cert.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("own"), -1, -1, 0);
  X509_set_issuer_name(cert.get(), name);
  ASN1_TIME_set(X509_getm_notBefore(cert.get()), kBegin);
  ASN1_TIME_set(X509_getm_notAfter(cert.get()), kBegin + lifetime);
  X509_set_pubkey(cert.get(), key.get());
  X509_EXTENSION* extension =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, constraints);
  X509_add_ext(cert.get(), extension, -1);
  X509_EXTENSION_free(extension);
  X509_sign(cert.get(), key.get(), EVP_sha256());
  const BioPtr cert_pem(BIO_new(BIO_s_mem())), key_pem(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(cert_pem.get(), cert.get());
  PEM_write_bio_PrivateKey(key_pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {.cert = std::make_shared<const Secret>(pem_of(cert_pem.get())),
          .key = std::make_shared<const Secret>(pem_of(key_pem.get()))};
}

std::unique_ptr<LeafMint> mint(std::time_t lifetime) {
  policy::CertificateAuthority config;
  config.hosts = {"api.example", "*.eu.example"};
  return std::make_unique<LeafMint>(*parse_certificate(authority(lifetime)), config);
}

std::time_t end_of(const Leaf& leaf) {
  std::tm parts{};
  ASN1_TIME_to_tm(X509_get0_notAfter(leaf.certificate.get()), &parts);
  return ::timegm(&parts);
}

TEST(LeafMint, ALeafIsKeptForHalfOfItsDay) {
  const auto own = mint(30 * kDay);
  const std::time_t now = kBegin + kDay;
  const LeafPtr first = own->leaf_for("api.example", now);
  ASSERT_TRUE(first);
  EXPECT_EQ(end_of(*first), now + kDay);
  EXPECT_EQ(own->leaf_for("api.example", now + kDay / 2 - 1), first);
  const LeafPtr second = own->leaf_for("api.example", now + kDay / 2);
  EXPECT_NE(second, first);
  EXPECT_EQ(end_of(*second), now + kDay / 2 + kDay);
  EXPECT_EQ(X509_check_host(first->certificate.get(), "api.example", 0, 0, nullptr), 1);
}

TEST(LeafMint, AWildcardIsOneLeafForOneLabel) {
  const auto own = mint(30 * kDay);
  const LeafPtr leaf = own->leaf_for("a.eu.example", kBegin);
  ASSERT_TRUE(leaf);
  EXPECT_EQ(own->leaf_for("b.eu.example", kBegin), leaf);
  EXPECT_EQ(own->leaf_for("a.b.eu.example", kBegin), nullptr);
  EXPECT_EQ(own->leaf_for("eu.example", kBegin), nullptr);
  EXPECT_EQ(own->leaf_for("other.example", kBegin), nullptr);
}

TEST(LeafMint, NothingOutlivesTheAuthority) {
  const auto own = mint(kDay / 2);
  EXPECT_EQ(own->leaf_for("api.example", kBegin - 1), nullptr);
  const LeafPtr leaf = own->leaf_for("api.example", kBegin);
  ASSERT_TRUE(leaf);
  EXPECT_EQ(end_of(*leaf), kBegin + kDay / 2);
  EXPECT_EQ(own->leaf_for("api.example", kBegin + kDay / 2), nullptr);
}

TEST(LeafMint, OnlyAnAuthoritySigns) {
  EXPECT_TRUE(may_sign(*parse_certificate(authority(kDay))));
  const auto leaf = may_sign(*parse_certificate(authority(kDay, "CA:FALSE")));
  ASSERT_FALSE(leaf);
  EXPECT_EQ(leaf.error(), "is not the certificate of an authority (basicConstraints CA:TRUE)");
}

}  // namespace
}  // namespace sluice::gateway::tls
