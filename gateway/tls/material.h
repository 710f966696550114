// The bytes behind a policy's file names: certificates, keys, authorities, vendors' API keys, and
// the keys of session tickets. Whoever reads the files (the keeper, or the one process that there is) makes it; the
// gateway gets it and opens no file.
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/tls/secret.h"

namespace sluice::gateway::tls {

// A certificate chain and its key, known to belong together.
struct KeyPair {
  SecretPtr cert;
  SecretPtr key;  // the same object where both are in one file
};

// The names that a policy gives to a pair.
struct PairName {
  std::string cert;
  std::string key;  // "": in the same file
  auto operator<=>(const PairName&) const = default;
};

// What begins the name of a secret that is a file as a whole, behind which is its path.
inline constexpr std::string_view kWholeFile = "whole:";

// Immutable once it is handed over.
struct Material {
  std::map<PairName, KeyPair> pairs;
  std::map<std::string, SecretPtr, std::less<>> authorities;  // by path, or kSystemCa
  std::map<std::string, SecretPtr, std::less<>> secrets;      // by what the policy says of them
  std::vector<SecretPtr> ticket_keys;                         // the first one makes tickets

  const KeyPair* find(const std::string& cert, const std::string& key) const;
  SecretPtr authority(std::string_view path) const;  // or null
  SecretPtr secret(std::string_view reference) const;  // or null
};
using MaterialPtr = std::shared_ptr<const Material>;

// For the way to the gateway, over memory that both share.
Secret serialize(const Material& material);
std::expected<MaterialPtr, std::string> deserialize(std::string_view bytes);

}  // namespace sluice::gateway::tls
