// Tokens, issuers' keys and API keys: what is let in, and what each attack on them gets.
#include <array>
#include <gtest/gtest.h>
#include <memory>
#include <openssl/evp.h>
#include <string>
#include <string_view>

#include "gateway/auth/api_keys.h"
#include "gateway/auth/auth_set.h"
#include "gateway/auth/base64url.h"
#include "gateway/auth/jwt.h"
#include "policy/document.h"
#include "policy/snapshot.h"

namespace sluice::gateway::auth {
namespace {

std::string encoded(std::string_view bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (count += 8; count >= 6; count -= 6)
      out += kAlphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) out += kAlphabet[bits << (6 - count) & 63];
  return out;
}

// An issuer with one Ed25519 key.
class Issuer {
 public:
  Issuer() : key_(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), EVP_PKEY_free) {}

  std::string jwks(std::string_view id = "k1", std::string_view more = "") const {
    std::array<unsigned char, 32> raw{};
    std::size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key_.get(), raw.data(), &size);
    const std::string x = encoded({reinterpret_cast<const char*>(raw.data()), size});
    return R"({"keys":[{"kty":"OKP","crv":"Ed25519","kid":")" + std::string(id) + R"(","x":")" + x +
           "\"" + std::string(more) + "}]}";
  }
  std::string sign(const std::string& head, const std::string& claims) const {
    const std::string text = encoded(head) + "." + encoded(claims);
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free);
    std::array<unsigned char, 64> signature{};
    std::size_t size = signature.size();
    EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get());
    EVP_DigestSign(context.get(), signature.data(), &size,
                   reinterpret_cast<const unsigned char*>(text.data()), text.size());
    return text + "." + encoded({reinterpret_cast<const char*>(signature.data()), size});
  }

 private:
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
};

constexpr const char* kHead = R"({"alg":"EdDSA","kid":"k1"})";
constexpr std::int64_t kNow = 1'700'000'000;

class Tokens : public testing::Test {
 protected:
  Tokens() {
    config_.issuer = "https://idp.example";
    config_.audience = {"api", "admin"};
    source_->put(*KeySet::parse(issuer_.jwks()));
  }
  static std::string claims(const std::string& more = "", std::int64_t expires = kNow + 60) {
    return R"({"iss":"https://idp.example","aud":"api","sub":"alice","exp":)" +
           std::to_string(expires) + more + "}";
  }
  JwtError verify(const std::string& token, std::int64_t now = kNow) {
    attributes_.clear();
    return JwtVerifier(config_, source_).verify(token, now, memory_, attributes_);
  }
  JwtError verify_claims(const std::string& text, std::int64_t now = kNow) {
    return verify(issuer_.sign(kHead, text), now);
  }

  Issuer issuer_;
  policy::JwtAuth config_;
  std::shared_ptr<KeySource> source_ = std::make_shared<KeySource>();
  JwtMemory memory_;
  AttributeStore attributes_;
};

TEST_F(Tokens, ClaimsOfAGoodOneAreKnown) {
  const std::string text = claims(R"(,"n":42,"ok":true,"groups":["ops","not admins"],"scope":"a b",
      "nested":{"x":1},"mixed":["a",1],"null":null)");
  ASSERT_EQ(verify_claims(text), JwtError::none);
  EXPECT_EQ(attributes_.attribute("sub"), "alice");
  EXPECT_EQ(attributes_.attribute("n"), "42");
  EXPECT_EQ(attributes_.attribute("ok"), "true");
  EXPECT_EQ(attributes_.attribute("groups"), "ops not admins");
  EXPECT_EQ(attributes_.attribute("nested"), std::nullopt);
  EXPECT_EQ(attributes_.attribute("mixed"), std::nullopt);
  EXPECT_EQ(attributes_.attribute("null"), std::nullopt);
  EXPECT_TRUE(attributes_.has("groups", "ops"));
  EXPECT_TRUE(attributes_.has("groups", "not admins"));
  EXPECT_FALSE(attributes_.has("groups", "admins")) << "an element is never taken apart";
  EXPECT_TRUE(attributes_.has("scope", "b")) << "a text is words";
  EXPECT_FALSE(attributes_.has("scope", "a b"));
  EXPECT_FALSE(attributes_.has("tenant", ""));
}

TEST_F(Tokens, TimesAreHeldWithLeeway) {
  config_.leeway = std::chrono::seconds(30);
  EXPECT_EQ(verify_claims(claims("", kNow - 29)), JwtError::none);
  EXPECT_EQ(verify_claims(claims("", kNow - 30)), JwtError::expired);
  EXPECT_EQ(verify_claims(claims(",\"nbf\":" + std::to_string(kNow + 30))), JwtError::none);
  EXPECT_EQ(verify_claims(claims(",\"nbf\":" + std::to_string(kNow + 31))),
            JwtError::not_yet_valid);
  EXPECT_EQ(verify_claims(claims(R"(,"nbf":"soon")")), JwtError::not_yet_valid);
  EXPECT_EQ(verify_claims(R"({"iss":"https://idp.example","aud":"api"})"), JwtError::no_expiry)
      << "one without an end is none";
}

TEST_F(Tokens, AVerifiedOneExpiresAllTheSame) {
  const std::string token = issuer_.sign(kHead, claims());
  EXPECT_EQ(verify(token), JwtError::none);
  EXPECT_EQ(verify(token, kNow + 1000), JwtError::expired);
}

TEST_F(Tokens, IssuerAndAudienceAreThePolicys) {
  const std::string end = ",\"exp\":" + std::to_string(kNow + 60) + "}";
  EXPECT_EQ(verify_claims(R"({"iss":"https://evil.example","aud":"api")" + end),
            JwtError::wrong_issuer);
  EXPECT_EQ(verify_claims(R"({"aud":"api")" + end), JwtError::wrong_issuer);
  EXPECT_EQ(verify_claims(R"({"iss":"https://idp.example","aud":"other")" + end),
            JwtError::wrong_audience);
  EXPECT_EQ(verify_claims(R"({"iss":"https://idp.example")" + end), JwtError::wrong_audience);
  EXPECT_EQ(verify_claims(R"({"iss":"https://idp.example","aud":["other","admin"])" + end),
            JwtError::none);
}

// RFC 8725 sections 3.1 and 3.2.
TEST_F(Tokens, TheAlgorithmIsNotTheTokensToChoose) {
  for (const char* algorithm : {"none", "None", "HS256", "RS384", "", "ES256K"}) {
    const std::string head = R"({"alg":")" + std::string(algorithm) + R"(","kid":"k1"})";
    EXPECT_EQ(verify(issuer_.sign(head, claims())), JwtError::algorithm_not_allowed) << algorithm;
  }
  EXPECT_EQ(verify(issuer_.sign(R"({"alg":"ES256","kid":"k1"})", claims())),
            JwtError::bad_signature)
      << "the key is of another kind";
  config_.algorithms = {policy::JwtAlgorithm::rs256};
  EXPECT_EQ(verify(issuer_.sign(kHead, claims())), JwtError::algorithm_not_allowed);
}

TEST_F(Tokens, WhatIsChangedIsNotSigned) {
  const std::string token = issuer_.sign(kHead, claims());
  const std::string signature = token.substr(token.rfind('.'));
  EXPECT_EQ(verify(encoded(kHead) + "." + encoded(claims(R"(,"admin":true)")) + signature),
            JwtError::bad_signature);
  EXPECT_EQ(verify(token.substr(0, token.rfind('.') + 1)), JwtError::bad_signature);
  EXPECT_EQ(verify(Issuer().sign(kHead, claims())), JwtError::bad_signature);
}

TEST_F(Tokens, WhatIsNoTokenIsMalformed) {
  for (const std::string& bad :
       {std::string("a.b"), std::string("a.b.c.d"), std::string(), std::string(".."),
        std::string("!!.!!.!!"), encoded("[]") + "." + encoded("{}") + ".AA",
        issuer_.sign(kHead, "[1]"), issuer_.sign(kHead, "{"),
        issuer_.sign(R"({"alg":"EdDSA","kid":"k1","crit":["b64"]})", claims())})
    EXPECT_EQ(verify(bad), JwtError::malformed) << bad;
}

TEST_F(Tokens, KeysAreFoundByTheirId) {
  EXPECT_EQ(verify(issuer_.sign(R"({"alg":"EdDSA","kid":"k2"})", claims())), JwtError::unknown_key);
  EXPECT_TRUE(source_->take_asked()) << "it may be a new one";
  EXPECT_EQ(verify(issuer_.sign(R"({"alg":"EdDSA"})", claims())), JwtError::none)
      << "without one all are tried";
}

TEST_F(Tokens, ARevokedKeyIsForgottenWithWhatItHasVerified) {
  const std::string token = issuer_.sign(kHead, claims());
  EXPECT_EQ(verify(token), JwtError::none);
  source_->put(*KeySet::parse(Issuer().jwks()));
  EXPECT_EQ(verify(token), JwtError::bad_signature);
}

TEST_F(Tokens, WithoutKeysItIsNotTheCallersFault) {
  source_ = std::make_shared<KeySource>();
  JwtMemory memory;
  EXPECT_EQ(JwtVerifier(config_, source_).verify("a.b.c", kNow, memory, attributes_),
            JwtError::no_keys);
}

TEST(KeySets, UnusableKeysAreLeftOut) {
  const Issuer issuer;
  EXPECT_TRUE(KeySet::parse(issuer.jwks("k", R"(,"use":"sig","alg":"EdDSA")")));
  EXPECT_FALSE(KeySet::parse(issuer.jwks("k", R"(,"use":"enc")")));
  EXPECT_FALSE(KeySet::parse(issuer.jwks("k", R"(,"alg":"RS256")")));
  EXPECT_FALSE(KeySet::parse(issuer.jwks("k", R"(,"key_ops":["sign"])")));
  const std::string weak = R"({"keys":[{"kty":"RSA","n":")" + encoded(std::string(128, '\x7f')) +
                           R"(","e":"AQAB"}]})";
  EXPECT_FALSE(KeySet::parse(weak)) << "1024 bits";
  const std::string off_curve = R"({"keys":[{"kty":"EC","crv":"P-256","x":")" +
                                encoded(std::string(32, '\1')) + R"(","y":")" +
                                encoded(std::string(32, '\2')) + R"("}]})";
  EXPECT_FALSE(KeySet::parse(off_curve));
  for (const char* bad : {"", "[]", "{}", R"({"keys":{}})", R"({"keys":[]})", R"({"keys":[1]})"})
    EXPECT_FALSE(KeySet::parse(bad)) << bad;
}

TEST(Base64Url, IsCanonicalOrNothing) {
  const auto decodes = [](std::string_view text) {
    std::string out;
    return decode_base64url(text, out) ? out : "no";
  };
  EXPECT_EQ(decodes(""), "");
  EXPECT_EQ(decodes("YQ"), "a");
  EXPECT_EQ(decodes("YWI"), "ab");
  EXPECT_EQ(decodes("YWJj"), "abc");
  for (const char* bad : {"YQ==", "YR", "Y", "YW J", "YWI+", "YW/j", "YWI\n"})
    EXPECT_EQ(decodes(bad), "no") << bad;
}

TEST(ApiKeys, AreKnownByTheirHash) {
  policy::ApiKeyAuth config;
  policy::ApiKey& key = config.keys.emplace_back();
  key.name = "partner";
  key.attributes = {{"plan", "gold"}, {"sub", "never"}};
  const std::string_view secret = "s3cret";
  EVP_Digest(secret.data(), secret.size(), key.sha256.data(), nullptr, EVP_sha256(), nullptr);
  const ApiKeyTable table(config, {1, 2});
  AttributeStore attributes;
  EXPECT_TRUE(table.verify(secret, attributes));
  EXPECT_EQ(attributes.attribute("sub"), "partner") << "its name, whatever its attributes say";
  EXPECT_EQ(attributes.attribute("plan"), "gold");
  attributes.clear();
  for (const char* wrong : {"", "s3cre", "s3cret ", "S3CRET"})
    EXPECT_FALSE(table.verify(wrong, attributes)) << wrong;
  EXPECT_TRUE(attributes.empty());
}

std::shared_ptr<const policy::Snapshot> with_issuer(const std::string& url) {
  const policy::PolicyFile file{
      "p.yaml", "version: 1\nauth: { partners: { jwt: { jwks: { url: \"" + url + "\" } } } }\n"};
  return policy::Snapshot::compile(*policy::parse(std::span(&file, 1)).config);
}

// A gateway that begins while the issuer is away: with the keys that the one before had.
TEST(KeysByUrl, AreKnownToTheNextGateway) {
  const auto snapshot = with_issuer("http://192.0.2.7/keys");
  const std::string text = Issuer().jwks();
  AuthRegistry before({1, 2});
  const auto set = before.apply(*snapshot, nullptr);
  EXPECT_TRUE(before.keys().empty()) << "nobody has answered";
  set->at(0).keys->put(*KeySet::parse(text), text);

  AuthRegistry next({3, 4});
  next.take_over(before.keys());
  EXPECT_EQ(next.keys(), before.keys()) << "for the one after it, whatever comes first";
  const auto here = next.apply(*snapshot, nullptr);
  ASSERT_TRUE(here->at(0).keys->current());
  EXPECT_TRUE(here->at(0).keys->current()->knows("k1"));
  EXPECT_EQ(next.keys(), before.keys());
}

TEST(KeysByUrl, AreOfThatUrlAlone) {
  AuthRegistry next({3, 4});
  next.take_over({{"http://192.0.2.7/keys auth.partners.jwks", Issuer().jwks()},
                  {"https://other.example/ x", "no keys"}});
  const auto set = next.apply(*with_issuer("http://192.0.2.7/other"), nullptr);
  EXPECT_EQ(set->at(0).keys->generation(), 0U);
  EXPECT_TRUE(next.keys().empty());
}

}  // namespace
}  // namespace sluice::gateway::auth
