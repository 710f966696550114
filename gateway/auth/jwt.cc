#include "gateway/auth/jwt.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <openssl/evp.h>
#include <optional>

#include <boost/json.hpp>

#include "gateway/auth/base64url.h"
#include "gateway/json_fields.h"

namespace sluice::gateway::auth {

namespace {

namespace json = boost::json;

constexpr std::size_t kJsonMemory = 16 * 1024;
constexpr std::size_t kMaxClaims = 64;

std::optional<double> seconds(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->to_number<double>();
}

const json::object* parse(std::string_view bytes, json::monotonic_resource& memory,
                          std::optional<json::value>& out) {
  boost::system::error_code error;
  out.emplace(json::parse(json::string_view(bytes.data(), bytes.size()), error, &memory));
  return error ? nullptr : out->if_object();
}

std::optional<JwtAlgorithm> algorithm_named(std::string_view name) {
  if (name == "RS256") return JwtAlgorithm::rs256;
  if (name == "ES256") return JwtAlgorithm::es256;
  if (name == "EdDSA") return JwtAlgorithm::eddsa;
  return std::nullopt;
}

bool names_one_of(const json::value* audience, const std::vector<std::string>& wanted) {
  if (audience == nullptr) return false;
  const auto is_wanted = [&](const json::value& value) {
    return value.is_string() &&
           std::ranges::find(wanted, std::string_view(value.get_string())) != wanted.end();
  };
  if (audience->is_array()) return std::ranges::any_of(audience->get_array(), is_wanted);
  return is_wanted(*audience);
}

JwtError check_claims(const policy::JwtAuth& config, const json::object& claims, std::int64_t now) {
  const double leeway = std::chrono::duration<double>(config.leeway).count();
  const auto expires = seconds(claims, "exp");
  if (!expires) return JwtError::no_expiry;
  if (!(static_cast<double>(now) < *expires + leeway)) return JwtError::expired;
  if (claims.contains("nbf")) {
    const auto begins = seconds(claims, "nbf");
    if (!begins || static_cast<double>(now) < *begins - leeway) return JwtError::not_yet_valid;
  }
  if (!config.issuer.empty() && text_in(claims, "iss") != config.issuer) return JwtError::wrong_issuer;
  if (!config.audience.empty() && !names_one_of(claims.if_contains("aud"), config.audience)) {
    return JwtError::wrong_audience;
  }
  return JwtError::none;
}

// As text; nullopt: an object, null, or a list with other things than strings in it.
std::optional<std::string_view> shown(const json::value& value, std::string& memory) {
  if (value.is_string()) return std::string_view(value.get_string());
  memory.clear();
  if (value.is_bool()) return value.get_bool() ? "true" : "false";
  if (value.is_int64()) {
    memory = std::to_string(value.get_int64());
  } else if (value.is_uint64()) {
    memory = std::to_string(value.get_uint64());
  } else if (value.is_double()) {
    const double number = value.get_double();
    if (number != std::floor(number) || std::abs(number) > 9e15) return std::nullopt;
    memory = std::to_string(static_cast<std::int64_t>(number));
  } else if (value.is_array()) {
    for (const json::value& item : value.get_array()) {
      if (!item.is_string()) return std::nullopt;
      if (!memory.empty()) memory.push_back(' ');
      memory.append(item.get_string().begin(), item.get_string().end());
    }
  } else {
    return std::nullopt;
  }
  return memory;
}

}  // namespace

std::string_view to_string(JwtError error) {
  switch (error) {
    case JwtError::none:
      return "";
    case JwtError::malformed:
      return "token is malformed";
    case JwtError::algorithm_not_allowed:
      return "token's algorithm is not allowed";
    case JwtError::no_keys:
      return "the issuer's keys are not there yet";
    case JwtError::unknown_key:
      return "token's key is unknown";
    case JwtError::bad_signature:
      return "token's signature is wrong";
    case JwtError::no_expiry:
      return "token has no expiry (exp)";
    case JwtError::expired:
      return "token has expired";
    case JwtError::not_yet_valid:
      return "token is not valid yet";
    case JwtError::wrong_issuer:
      return "token is of another issuer";
    case JwtError::wrong_audience:
      return "token is for another audience";
  }
  return "";
}

JwtMemory::JwtMemory() : json_(kJsonMemory), verified_(kVerified) {}
JwtMemory::~JwtMemory() = default;

void JwtMemory::follow(KeySource& source) {
  const std::uint64_t newest = source.generation();
  if (newest == generation_) return;
  generation_ = newest;
  keys_ = source.current();
  std::ranges::fill(verified_, Digest{});
}

bool JwtVerifier::split(std::string_view token, Parts& parts) {
  const std::size_t first = token.find('.');
  const std::size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos) return false;
  parts = {.header = token.substr(0, first),
           .payload = token.substr(first + 1, second - first - 1),
           .signature = token.substr(second + 1),
           .signed_part = token.substr(0, second)};
  return parts.signature.find('.') == std::string_view::npos;
}

JwtError JwtVerifier::verify(std::string_view token, std::int64_t now, JwtMemory& memory,
                             AttributeStore& claims) const {
  memory.follow(*source_);
  if (!memory.keys_) return JwtError::no_keys;
  Parts parts;
  if (!split(token, parts)) return JwtError::malformed;
  if (const JwtError error = check_signature(token, parts, memory); error != JwtError::none) {
    return error;
  }
  memory.payload_.clear();
  if (!decode_base64url(parts.payload, memory.payload_)) return JwtError::malformed;
  json::monotonic_resource resource(reinterpret_cast<unsigned char*>(memory.json_.data()),
                                    memory.json_.size());
  std::optional<json::value> document;
  const json::object* object = parse(memory.payload_, resource, document);
  if (object == nullptr) return JwtError::malformed;
  if (const JwtError error = check_claims(config_, *object, now); error != JwtError::none) {
    return error;
  }
  std::size_t count = 0;
  for (const auto& [name, value] : *object) {
    if (++count > kMaxClaims) break;
    const auto shown_value = shown(value, memory.list_);
    if (!shown_value) continue;
    if (!value.is_array()) {
      claims.add(name, *shown_value);
      continue;
    }
    claims.add_list(name, *shown_value);
    for (const json::value& item : value.get_array())
      claims.add_element(name, item.get_string());
  }
  return JwtError::none;
}

JwtError JwtVerifier::check_signature(std::string_view token, const Parts& parts,
                                      JwtMemory& memory) const {
  JwtMemory::Digest digest{};
  EVP_Digest(token.data(), token.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  std::uint16_t place = 0;
  std::memcpy(&place, digest.data(), sizeof place);
  JwtMemory::Digest& known = memory.verified_[place % JwtMemory::kVerified];
  if (known == digest) return JwtError::none;

  memory.header_.clear();
  memory.signature_.clear();
  if (!decode_base64url(parts.header, memory.header_) ||
      !decode_base64url(parts.signature, memory.signature_)) {
    return JwtError::malformed;
  }
  json::monotonic_resource resource(reinterpret_cast<unsigned char*>(memory.json_.data()),
                                    memory.json_.size());
  std::optional<json::value> document;
  const json::object* header = parse(memory.header_, resource, document);
  if (header == nullptr || header->contains("crit")) return JwtError::malformed;
  const auto algorithm = algorithm_named(text_in(*header, "alg"));
  if (!algorithm || std::ranges::find(config_.algorithms, *algorithm) == config_.algorithms.end()) {
    return JwtError::algorithm_not_allowed;
  }
  const std::string_view key_id = text_in(*header, "kid");
  if (!memory.keys_->knows(key_id)) {
    source_->ask();
    return JwtError::unknown_key;
  }
  const bool good = memory.keys_->any(key_id, *algorithm, [&](const PublicKey& key) {
    return key.verifies(parts.signed_part, memory.signature_);
  });
  if (!good) return JwtError::bad_signature;
  known = digest;
  return JwtError::none;
}

}  // namespace sluice::gateway::auth
