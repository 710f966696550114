// The typed form of `ai`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/auth.h"
#include "policy/config/common.h"
#include "policy/config/limits.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class AiKind : std::uint8_t { openai, azure, anthropic, gemini, mistral, compatible };

enum class AiCallerKey : std::uint8_t { replace, pass };

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
  AiCallerKey caller_key = AiCallerKey::replace;  // that a caught caller has of its own
  std::string api_version;                        // Azure's older form of paths; "": the newer one
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
  std::vector<std::string> cgroups;  // in place of `from`; paths below the cgroup2 root
  std::string key;  // the virtual key whose limits and models are theirs, by its name
  Location where;
};

enum class AiUntranslatable : std::uint8_t { refuse, drop };
enum class AiKeys : std::uint8_t { required, none };  // virtual keys

// Which calls something is for: those that every list names. An empty one names them all; a `*` at
// the end stands for anything.
struct AiScope {
  std::vector<std::string> keys;  // by their names
  std::vector<std::string> teams;
  std::vector<std::string> models;  // as callers call them
  std::vector<std::string> routes;
};

// Of the calendar, UTC; a week begins on Monday.
enum class AiPeriod : std::uint8_t { hour, day, week, month };
enum class AiEach : std::uint8_t { all, key, team, owner, model, route };
enum class AiUnpriced : std::uint8_t { deny, pass };  // where a budget is for the call

struct AiBudget {
  std::string name;
  std::int64_t micros = 0;  // millionths of a US dollar, for each period
  AiPeriod period = AiPeriod::month;
  AiEach each = AiEach::all;  // who or what has one of its own
  AiScope scope;
  Location where;
};

// What is kept of calls, for `sluice usage` and for budgets.
struct AiUsage {
  std::string file;  // "" in the file: usage.db in the gateway's directory
  Duration keep = 400 * 24h;
};

struct AiCache {
  Duration ttl = 10min;
  std::uint64_t max_memory = 64UL << 20;
  AiScope scope;
};

enum class AiFilterAction : std::uint8_t { redact, refuse };
enum class AiDirection : std::uint8_t { both, request, answer };

// What must not go through.
struct AiFilter {
  std::string name;
  std::vector<std::uint8_t> find;  // indices of the schema's words
  std::string pattern;             // RE2's; "": none
  AiFilterAction action = AiFilterAction::redact;
  AiDirection direction = AiDirection::both;
  AiScope scope;
  Location where;
};

// Requests and answers as they were, for those who must.
struct AiAudit {
  std::string path;
  std::uint64_t max_body = 64UL << 10;    // bytes of each that a line has
  std::uint64_t max_memory = 16UL << 20;  // of lines that wait to be written
  AiScope scope;
};

// Packets to providers' addresses that go around the gateway.
enum class AiBypassAction : std::uint8_t { count, reject };
struct AiBypass {
  AiBypassAction action = AiBypassAction::count;
  std::vector<std::string> hosts;  // beside the providers', in normal form
  Location where;
};

struct AiConfig {
  std::vector<AiProvider> providers;
  std::vector<AiModel> models;  // none: `PROVIDER/MODEL`, or any model of the only provider
  AiUntranslatable untranslatable = AiUntranslatable::refuse;
  AiKeys keys = AiKeys::required;
  std::vector<AiIdentity> identities;  // the first one that names the caller counts
  std::string key_file;                // "" in the file: keys.json in the state directory
  std::string prices;                  // a file; "": costs are not counted
  Location prices_where;
  std::vector<AiBudget> budgets;
  LimitScope scope = LimitScope::per_node;  // of keys' limits, and of budgets
  AiUnpriced unpriced = AiUnpriced::deny;
  AiUsage usage;
  std::optional<AiCache> cache;
  std::vector<AiFilter> filters;
  std::optional<AiAudit> audit;
  std::optional<AiBypass> bypass;  // none: nobody looks
  Location where;
};

}  // namespace sluice::policy
