// The typed form of `ai`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policy/config/auth.h"
#include "policy/config/common.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class AiKind : std::uint8_t { openai, azure, anthropic, gemini, mistral, compatible };

struct AiTimeouts {
  Duration connect = 5s;
  Duration first_token = 5min;  // from the request's end to the first byte for the caller
  Duration idle = 60s;          // between two pieces of an answer
};

// Who answers: a vendor, or a server that speaks as one.
struct AiProvider {
  std::string name;
  AiKind kind = AiKind::openai;
  std::string base_url;           // as written; "": the vendor's own
  AuthUrl url;                    // what it comes to; `upstream` as there
  std::vector<std::string> keys;  // `file:PATH` or `${NAME}`; empty: the service asks for none
  std::string api_version;        // Azure's older form of paths; "": the newer one
  AiTimeouts timeouts;
  Location where;
};

// Who is asked for a model, and under which name.
struct AiTarget {
  std::string provider;
  std::string model;  // "": as the caller says
  std::uint32_t weight = 1;
};

struct AiModel {
  std::string name;                // what a caller asks for; a `*` at its end stands for anything
  std::vector<AiTarget> targets;   // one by weight, then the others
  std::vector<AiTarget> fallback;  // after those, in this order
  Location where;
};

// Callers that show no key, and are known by where they call from.
struct AiIdentity {
  AddressMatch from;
  std::string key;  // the virtual key whose limits and models are theirs, by its name
  Location where;
};

enum class AiUntranslatable : std::uint8_t { refuse, drop };
enum class AiKeys : std::uint8_t { required, none };  // virtual keys

struct AiConfig {
  std::vector<AiProvider> providers;
  std::vector<AiModel> models;  // none: `PROVIDER/MODEL`, or any model of the only provider
  AiUntranslatable untranslatable = AiUntranslatable::refuse;
  AiKeys keys = AiKeys::required;
  std::vector<AiIdentity> identities;      // the first one that names the caller counts
  std::string key_file;                    // "" in the file: keys.json in the state directory
  std::string prices;    // a file; "": costs are not counted
  Location where;
};

}  // namespace sluice::policy
