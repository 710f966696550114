// The typed form of `routes` and `default_route`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "policy/address.h"
#include "policy/config/access.h"
#include "policy/config/common.h"
#include "policy/config/limits.h"
#include "policy/config/matches.h"
#include "policy/config/route_actions.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct PathMatch {
  enum class Kind { any, prefix, exact, regex };
  Kind kind = Kind::any;
  std::string value;  // prefix: matches whole segments, as the Gateway API's PathPrefix; regex: the
                      // whole path
};

struct WeightedUpstream {
  std::string name;
  std::uint32_t weight = 1;
};

struct Route {
  std::string name;  // given, or "listener host path", unique
  std::string listener;
  std::string host;  // as normalise_host() makes it; "" any; "*.example.com" one or more labels
  PathMatch path;
  std::vector<std::string> methods;  // empty: any, as for all that follow
  std::vector<ValueMatch> headers;   // every one must match
  std::vector<ValueMatch> query;     // every one must match
  std::vector<Prefix> to;            // original destination
  std::vector<PortRange> to_ports;
  std::vector<WeightedUpstream> upstreams;
  bool ai = false;  // served by `ai`: it has no upstreams of its own
  AccessRules access;
  std::vector<LimitUse> limits;
  std::vector<std::string> auth;
  Duration timeout = 0s;  // whole request; 0: none
  RouteActions actions;
  Location where;
};

// What a caught connection gets that no route claims: an HTTP status, or an upstream by name.
using DefaultAction = std::variant<int, std::string>;

struct DefaultRoute {
  DefaultAction local = 404;
  DefaultAction forward =
      502;  // document.cc makes it an original_destination upstream unless told otherwise
  DefaultAction output = 502;
  Location where;
};

}  // namespace sluice::policy
