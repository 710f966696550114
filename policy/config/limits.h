// The typed form of `limits` and `bans`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

class PodOwners;

enum class LimitKey { client_ip, route, method, host, destination, identity, header, claim };

// One part of what is counted apart.
struct LimitKeyPart {
  LimitKey kind = LimitKey::client_ip;
  std::string name;  // of a header field, lower case; of a claim

  LimitKeyPart() = default;
  LimitKeyPart(LimitKey part) : kind(part) {}  // NOLINT: a word of the file is a part
  LimitKeyPart(LimitKey part, std::string of) : kind(part), name(std::move(of)) {}
  bool operator==(const LimitKeyPart&) const = default;
};

enum class LimitUnit {
  requests,     // a rate of requests (plain TCP: of connections), on routes
  connections,  // a rate of new connections, on listeners, before TLS
  concurrency,  // so many at a time: requests on routes, open connections on listeners
  tokens,       // a rate of what language models read and write, on routes with `ai`
};
enum class LimitAction { reject, delay, count };
enum class LimitScope { per_node, cluster };

struct Limit {
  std::string name;
  std::vector<LimitKeyPart> key{LimitKey::client_ip};
  AddressMatch from = {};  // whose requests count; empty: everybody's
  LimitUnit unit = LimitUnit::requests;
  LimitAction action = LimitAction::reject;
  LimitScope scope = LimitScope::per_node;
  std::uint64_t rate_count = 0;  // `rate: 100/s`: 100 per 1 s; 0 with concurrency
  Duration rate_period = 1s;
  std::uint64_t burst = 0;  // left out in the file: the rate's count
  std::uint32_t max = 0;    // concurrency
  Duration max_delay = 1s;  // action delay
  std::uint8_t ipv4_prefix = 32;
  std::uint8_t ipv6_prefix = 64;
  std::uint32_t max_keys = 65536;
  // Not of the file: whose the addresses are that are counted apart. Null: no pod is named.
  std::shared_ptr<const PodOwners> pods = nullptr;
  Location where;
};

// A limit as a route uses it.
struct LimitUse {
  std::string name;
  std::uint32_t cost = 1;  // what one request takes of it
};

enum class BanMode { enforce, audit };
enum class BanAction {
  drop,   // the source's packets, in the kernel
  route,  // its requests and connections go to `upstream`, so that they can be watched
};
// What calls for a ban besides limits.
enum class BanEvent { access_denied, http2_abuse, malformed_request, auth_failure, tls_handshake };

struct BanRule {
  std::string limit;              // when: { limit | event, route, count, within }
  std::optional<BanEvent> event;  // instead of a limit
  std::string route;              // with an event: only on the route of this name
  std::uint32_t count = 50;
  Duration within = 10s;
  Duration duration = 5min;  // for
  double grow = 1.0;         // each further ban of the same source lasts so many times longer …
  Duration up_to = 24h;      // … but never longer than this
  std::optional<std::uint8_t> ipv6_prefix;  // none: the limit's; events: 64
  BanAction action = BanAction::drop;
  std::string upstream;  // action route
  BanMode mode = BanMode::enforce;
  Location where;
};

struct BansConfig {
  std::uint32_t max = 100000;
  std::uint64_t rate_count = 1000;  // new bans: so many per …
  Duration rate_period = 1s;
  std::vector<BanRule> rules;
};

}  // namespace sluice::policy
