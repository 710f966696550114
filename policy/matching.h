// Conditions on a request that routes and access rules share, compiled.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config/matches.h"
#include "policy/regex.h"
#include "policy/request.h"

namespace sluice::policy {

// The value of the first parameter of that name in a query string, percent-decoded into `buffer`
// ('+' is a space). nullopt: absent, or longer than the buffer.
std::optional<std::string_view> query_parameter(std::string_view query, std::string_view name,
                                                std::span<char> buffer);

// One header field or query parameter.
class ValueMatcher {
 public:
  explicit ValueMatcher(const ValueMatch& match);

  const std::string& name() const { return match_.name; }
  bool matches(std::optional<std::string_view> value) const noexcept;
  std::string to_string() const;  // "x-canary = 1", as reasons show it

 private:
  ValueMatch match_;
  std::optional<Regex> regex_;
};

// Method, header fields, query, original destination: every part that is named must match.
class RequestMatcher {
 public:
  enum class Part { none, method, header, query, destination };

  struct Conditions {
    const std::vector<std::string>& methods;
    const std::vector<ValueMatch>& headers;
    const std::vector<ValueMatch>& query;
    const std::vector<Prefix>& to;
    const std::vector<PortRange>& to_ports;
  };

  RequestMatcher() = default;
  explicit RequestMatcher(const Conditions& conditions);

  bool empty() const { return empty_; }
  // The first part that does not match.
  Part mismatch(const RequestView& request) const noexcept;
  bool matches(const RequestView& request) const noexcept {
    return empty_ || mismatch(request) == Part::none;
  }
  // What of a request only HTTP knows.
  bool names_http() const { return !methods_.empty() || !headers_.empty() || !query_.empty(); }
  bool names_destination() const { return !to_.empty() || !to_ports_.empty(); }
  // Why `part` did not match, in words: "method is POST, not GET".
  std::string reason(Part part, const RequestView& request) const;

 private:
  bool matches_methods(const RequestView& request) const noexcept;
  const ValueMatcher* mismatching_header(const RequestView& request) const noexcept;
  const ValueMatcher* mismatching_parameter(const RequestView& request) const noexcept;
  bool matches_destination(const RequestView& request) const noexcept;

  bool empty_ = true;
  std::vector<std::string> methods_;
  std::vector<ValueMatcher> headers_;
  std::vector<ValueMatcher> query_;
  std::vector<Prefix> to_;
  std::vector<PortRange> to_ports_;
};

}  // namespace sluice::policy
