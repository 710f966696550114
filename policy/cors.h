// CORS as the Fetch standard has it (section 3.2), with the Gateway API's HTTPCORSFilter semantics:
// an origin that is not allowed gets an answer without these fields, and its browser refuses.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/config/route_actions.h"

namespace sluice::policy {

// Compiled; immutable.
class CorsPolicy {
 public:
  explicit CorsPolicy(const Cors& config);

  // `origin`: the Origin field's value.
  bool allows_origin(std::string_view origin) const noexcept;

  // Field lines with CRLF, appended: for an answer to an allowed origin; for one to any other only
  // Vary where the answer depends on it.
  void answer(std::string_view origin, std::string& out) const;
  // For a preflight's. `method`, `headers`: Access-Control-Request-Method and -Headers.
  void preflight(std::string_view origin, std::string_view method, std::string_view headers,
                 std::string& out) const;

 private:
  struct Pattern {
    std::string scheme;  // "https://"
    std::string suffix;  // ".example.com", with its port
  };
  bool any_origin() const { return any_origin_; }
  void origin_lines(std::string_view origin, std::string& out) const;

  std::vector<std::string> exact_;
  std::vector<Pattern> patterns_;
  bool any_origin_ = false;
  bool any_method_ = false;
  bool any_header_ = false;
  bool credentials_ = false;
  std::string methods_;
  std::string headers_;
  std::string expose_;
  std::string max_age_;
};

// For check(): "*", or scheme://host with an optional `*.` and port.
bool is_origin_pattern(std::string_view text);

}  // namespace sluice::policy
