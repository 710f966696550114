// What a route does besides forwarding, compiled: read by all workers, never changed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config/routes.h"
#include "policy/cors.h"
#include "policy/field_template.h"

namespace sluice::policy {

struct CompiledChanges {
  struct Line {
    std::string name;  // lower case
    FieldTemplate value;
  };
  std::vector<std::string> drop;  // lower case: removed, and replaced
  std::vector<Line> lines;        // in the order in which they go out

  CompiledChanges() = default;
  explicit CompiledChanges(const FieldChanges& changes);
  bool empty() const { return drop.empty() && lines.empty(); }
};

struct CompiledActions {
  CompiledChanges request;
  CompiledChanges response;
  std::optional<CorsPolicy> cors;
  bool mirrors = false;

  // None where the route has nothing of the kind, so that such routes cost one comparison.
  static std::unique_ptr<const CompiledActions> compile(const Route& route);
};

// The path that goes on instead of `path`, which `match` has matched; appended to `out`. Paths
// that do not begin with '/' ("*") stay. As the Gateway API's ReplacePrefixMatch: whole segments,
// never empty.
void change_path(const PathChange& change, const PathMatch& match, std::string_view path,
                 std::string& out);

// What no policy may set: it frames messages or belongs to one hop, and is the gateway's own
// business. `lower_name` in lower case.
bool is_reserved_field(std::string_view lower_name);

}  // namespace sluice::policy
