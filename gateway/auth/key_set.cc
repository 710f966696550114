#include "gateway/auth/key_set.h"

#include <algorithm>

#include <boost/json.hpp>

#include "gateway/auth/base64url.h"
#include "gateway/json_fields.h"

namespace sluice::gateway::auth {

namespace {

namespace json = boost::json;

std::string decoded(const json::object& object, std::string_view name) {
  std::string bytes;
  if (!decode_base64url(text_in(object, name), bytes)) bytes.clear();
  return bytes;
}

bool is_for(const json::object& object, std::string_view algorithm) {
  const std::string_view use = text_in(object, "use");
  const std::string_view alg = text_in(object, "alg");
  if (const json::value* ops = object.if_contains("key_ops"); ops && ops->is_array()) {
    const json::value verify("verify");
    if (std::ranges::find(ops->get_array(), verify) == ops->get_array().end()) return false;
  }
  return (use.empty() || use == "sig") && (alg.empty() || alg == algorithm);
}

std::unique_ptr<const PublicKey> key_of(const json::object& object) {
  const std::string_view kind = text_in(object, "kty");
  const std::string_view curve = text_in(object, "crv");
  if (kind == "RSA" && is_for(object, "RS256")) {
    return PublicKey::rsa(decoded(object, "n"), decoded(object, "e"));
  }
  if (kind == "EC" && curve == "P-256" && is_for(object, "ES256")) {
    return PublicKey::p256(decoded(object, "x"), decoded(object, "y"));
  }
  if (kind == "OKP" && curve == "Ed25519" && is_for(object, "EdDSA")) {
    return PublicKey::ed25519(decoded(object, "x"));
  }
  return nullptr;
}

}  // namespace

std::expected<std::shared_ptr<const KeySet>, std::string> KeySet::parse(std::string_view text_) {
  if (text_.size() > kMaxBytes) return std::unexpected("larger than 256 KiB");
  boost::system::error_code error;
  const json::value document = json::parse(json::string_view(text_.data(), text_.size()), error);
  if (error) return std::unexpected("not JSON: " + error.message());
  const json::object* root = document.if_object();
  const json::value* keys = root != nullptr ? root->if_contains("keys") : nullptr;
  if (keys == nullptr || !keys->is_array()) {
    return std::unexpected("not a JSON Web Key Set: no array `keys`");
  }
  auto set = std::make_shared<KeySet>();
  for (const json::value& item : keys->get_array()) {
    if (!item.is_object() || set->keys_.size() == kMaxKeys) continue;
    auto key = key_of(item.get_object());
    if (key) set->keys_.push_back({std::string(text_in(item.get_object(), "kid")), std::move(key)});
  }
  if (set->keys_.empty()) {
    return std::unexpected(
        "no usable key: RSA from 2048 bits for RS256, P-256 for ES256, Ed25519 for EdDSA");
  }
  return set;
}

bool KeySet::knows(std::string_view key_id) const {
  return key_id.empty() || std::ranges::find(keys_, key_id, &Entry::id) != keys_.end();
}

}  // namespace sluice::gateway::auth
