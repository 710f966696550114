// What a route does to a request and its answer besides forwarding them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/config/common.h"
#include "policy/config/compression.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct FieldChange {
  std::string name;   // lower case
  std::string value;  // with variables (field_template.h)
  Location where;
};

// On the header fields of a message: first `remove` and what `set` replaces, then `set`, then `add`.
struct FieldChanges {
  std::vector<FieldChange> set;
  std::vector<FieldChange> add;
  std::vector<std::string> remove;  // lower case
  Location where;
  bool empty() const { return set.empty() && add.empty() && remove.empty(); }
};

// A new path: instead of the route's prefix, or of the whole path.
struct PathChange {
  enum class Kind { none, prefix, full };
  Kind kind = Kind::none;
  std::string value;
};

struct Rewrite {
  std::string host;  // "": as it came; may have a port
  PathChange path;
  Location where;
};

struct Redirect {
  std::uint32_t status = 302;
  std::string scheme;      // "": as it came
  std::string host;        // "": as it came
  std::uint16_t port = 0;  // 0: as it came, or the scheme's own where that was given
  PathChange path;
  Location where;
};

struct DirectResponse {
  std::uint32_t status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
  Location where;
};

// The Fetch standard's CORS protocol, with the Gateway API's HTTPCORSFilter for semantics.
struct Cors {
  std::vector<std::string> allow_origins;  // "*", "https://a.example", "https://*.a.example"
  std::vector<std::string> allow_methods;  // "*": any
  std::vector<std::string> allow_headers;  // "*": any
  std::vector<std::string> expose_headers;
  bool allow_credentials = false;
  Duration max_age = 5s;
  Location where;
};

// A copy for another upstream, whose answers nobody gets.
struct Mirror {
  std::string upstream;
  std::uint32_t percent = 100;
};

struct RouteActions {
  FieldChanges request_headers;
  FieldChanges response_headers;
  std::optional<Rewrite> rewrite;
  std::optional<Redirect> redirect;
  std::optional<DirectResponse> direct_response;
  std::optional<Cors> cors;
  std::optional<Mirror> mirror;
  std::optional<Compression> compression;
  std::optional<std::uint64_t> max_body;           // bytes of payload
  std::optional<std::uint64_t> max_response_body;  // the same of the answer

  // The gateway answers itself.
  bool answers() const { return redirect.has_value() || direct_response.has_value(); }
};

}  // namespace sluice::policy
