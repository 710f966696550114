// Who may call, compiled from a policy; and what outlives policies: the issuers' keys.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/auth/api_keys.h"
#include "gateway/auth/jwt.h"
#include "gateway/tls/material.h"
#include "policy/carried_state.h"
#include "policy/snapshot.h"

namespace sluice::gateway::auth {

// One entry of `auth`: exactly one of the three.
struct AuthEntry {
  std::uint64_t id = 0;  // of this entry in this policy, never used again
  policy::Auth config;
  std::optional<ApiKeyTable> api_keys;
  std::optional<JwtVerifier> jwt;
  std::shared_ptr<KeySource> keys;    // of jwt
  std::uint32_t upstream = 0;         // of external, and of a JWKS by url
};

// Immutable; any thread. Indexed as Config::auth.
class AuthSet {
 public:
  explicit AuthSet(std::vector<AuthEntry> entries) : entries_(std::move(entries)) {}
  const AuthEntry& at(std::size_t index) const { return entries_[index]; }
  const std::vector<AuthEntry>& entries() const { return entries_; }

 private:
  std::vector<AuthEntry> entries_;
};

// Control thread.
class AuthRegistry {
 public:
  explicit AuthRegistry(policy::HashKey secret) : secret_(secret) {}

  // Files of keys are `material`'s (may be null); one that cannot be used is logged, and the last
  // good set of it stays in force.
  std::shared_ptr<const AuthSet> apply(const policy::Snapshot& snapshot,
                                       const tls::Material* material);
  // Takes the files that have changed since.
  void refresh(const tls::Material* material);

  // What issuers' URLs said, for the gateway after this one; and of the one before, before the
  // first policy: in force until the issuer answers.
  std::vector<policy::CarriedKeys> keys() const;
  void take_over(std::vector<policy::CarriedKeys> keys);

 private:
  struct File {
    std::weak_ptr<KeySource> source;
    tls::SecretPtr taken;  // or refused; null: none yet
  };
  std::shared_ptr<KeySource> source_of(const policy::JwtAuth& config,
                                       const tls::Material* material);
  std::shared_ptr<KeySource> known_before(const std::string& place);
  static void take(const std::string& path, File& file, const tls::SecretPtr& bytes);

  policy::HashKey secret_;
  std::uint64_t next_id_ = 1;
  std::map<std::string, std::weak_ptr<KeySource>> urls_;
  std::map<std::string, std::string> carried_;  // until the first policy
  std::map<std::string, File> files_;
};

}  // namespace sluice::gateway::auth
