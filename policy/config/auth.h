// The typed form of `auth`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

using Attributes = std::vector<std::pair<std::string, std::string>>;

struct ApiKey {
  std::string name;
  std::array<std::uint8_t, 32> sha256{};  // of the key; the key itself is nowhere
  Attributes attributes;
  Location where;
};

struct ApiKeyAuth {
  std::string header = "x-api-key";  // lower case; of `authorization` what follows "Bearer "
  std::vector<ApiKey> keys;
  bool forward = false;  // the upstream gets the key too
};

// Where it is fetched from, as an origin that the gateway itself asks.
struct AuthUrl {
  std::string text;
  bool tls = false;
  std::string authority;  // host and port as written
  std::string target;     // path and query
  std::string upstream;   // whose endpoints are asked; complete() makes one where it is left out
};

enum class JwtAlgorithm : std::uint8_t { rs256, es256, eddsa };

struct JwtAuth {
  std::string issuer;                 // "": any
  std::vector<std::string> audience;  // one of these; empty: any
  std::string jwks_file;              // this or jwks_url
  std::optional<AuthUrl> jwks_url;
  Duration refresh = 5min;
  std::vector<JwtAlgorithm> algorithms{JwtAlgorithm::rs256, JwtAlgorithm::es256,
                                       JwtAlgorithm::eddsa};
  Duration leeway = 30s;
  std::string header = "authorization";  // lower case; of `authorization` what follows "Bearer "
  bool forward = true;                   // the upstream gets the token too
};

enum class OnAuthError { deny, allow };

struct ExternalAuth {
  AuthUrl url;
  Duration timeout = 1s;
  OnAuthError on_error = OnAuthError::deny;
  std::vector<std::string> request_headers;   // lower case: what it gets; empty: all
  std::vector<std::string> upstream_headers;  // lower case: of its answer, for the upstream
};

struct Auth {
  std::string name;
  std::optional<ApiKeyAuth> api_keys;  // one of the three
  std::optional<JwtAuth> jwt;
  std::optional<ExternalAuth> external;
  Location where;
};

}  // namespace sluice::policy
