// Cross-checks of who may call.
#include <algorithm>
#include <map>

#include "policy/auth_url.h"
#include "policy/validate.h"

namespace sluice::policy {

namespace {

class AuthCheck {
 public:
  AuthCheck(const Auth& auth, Reporter& reporter) : auth_(auth), reporter_(reporter) {}

  void run() {
    if (!auth_.api_keys && !auth_.jwt && !auth_.external) {
      error("auth `" + auth_.name + "` says nothing", "give it `api_keys`, `jwt` or `external`");
    }
    if (auth_.api_keys) keys(*auth_.api_keys);
    if (auth_.jwt) jwt(*auth_.jwt);
    if (auth_.external) url(auth_.external->url, "external.url");
  }

 private:
  void error(const std::string& what, const std::string& hint) {
    reporter_.error(auth_.where, what, hint);
  }

  void keys(const ApiKeyAuth& api) {
    std::map<std::array<std::uint8_t, 32>, const ApiKey*> seen;
    for (const ApiKey& key : api.keys) {
      const bool zero = std::ranges::all_of(key.sha256, [](std::uint8_t b) { return b == 0; });
      if (zero) {
        reporter_.error(key.where, "key `" + key.name + "` of auth `" + auth_.name +
                                       "`: sha256 is not a SHA-256 in hexadecimal",
                        "64 digits, such as `printf %s KEY | sha256sum` prints");
        continue;
      }
      const auto [other, fresh] = seen.emplace(key.sha256, &key);
      if (fresh) continue;
      reporter_.error(key.where,
                      "keys `" + other->second->name + "` and `" + key.name + "` of auth `" +
                          auth_.name + "` are the same key",
                      "the other at " + other->second->where.to_string());
    }
  }

  void jwt(const JwtAuth& jwt) {
    if (jwt.jwks_file.empty() && !jwt.jwks_url) {
      error("auth `" + auth_.name + "`: jwks needs `file` or `url`",
            "such as `jwks: { file: /etc/sluice/jwks.json }`");
    }
    if (jwt.jwks_url) url(*jwt.jwks_url, "jwt.jwks.url");
    if (jwt.algorithms.empty()) {
      error("auth `" + auth_.name + "` allows no algorithm", "RS256, ES256, EdDSA");
    }
  }

  void url(const AuthUrl& url, const std::string& key) {
    if (url.authority.empty()) {
      error("auth `" + auth_.name + "`: " + key + " is not a URL",
            "such as http://127.0.0.1:9191/check");
    } else if (url.upstream.empty() && !address_of(url)) {
      error("auth `" + auth_.name + "`: " + key + " names the host `" + url.authority +
                "`, and no `upstream` says how it is reached",
            "an upstream whose endpoints it is, or an address in the URL");
    } else if (url.upstream.empty() && url.tls) {
      error("auth `" + auth_.name + "`: " + key + " is https, and no `upstream` says whom to trust",
            "an upstream with `tls`");
    }
  }

  const Auth& auth_;
  Reporter& reporter_;
};

}  // namespace

void check_auth(const Config& config, Reporter& reporter) {
  for (const Auth& auth : config.auth)
    AuthCheck(auth, reporter).run();
}

}  // namespace sluice::policy
