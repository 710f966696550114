// What went wrong with a call, before it is said in the caller's own shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::gateway::ai {

enum class ProblemKind : std::uint8_t {
  invalid_request,  // 400
  authentication,   // 401
  permission,       // 403
  not_found,        // 404
  too_large,        // 413
  rate_limit,       // 429
  budget,           // 429; Anthropic's 402: no money is left for it
  internal,         // 500
  upstream,         // 502: the vendor answered with nonsense, or broke off; worth another try
  overloaded,       // 503; Anthropic's 529
  timeout,          // 504
  not_supported,    // 501
};

struct Problem {
  ProblemKind kind = ProblemKind::internal;
  std::string message;
  std::string field = {};  // the path in the request: "messages[2].content[0]"; "": none

  static Problem invalid(std::string field, std::string message) {
    return {ProblemKind::invalid_request, std::move(message), std::move(field)};
  }
  static Problem upstream(std::string message) {
    return {ProblemKind::upstream, std::move(message)};
  }
  // Nothing that another shape has a word for: an error, never a plain end.
  static Problem unknown_stop(std::string_view native) {
    return upstream("the model stopped for \"" + std::string(native) + "\", which is unknown");
  }
};

int http_status(ProblemKind kind);
// Of an answer that is not 200; 529 is Anthropic's "overloaded".
ProblemKind problem_kind(int http_status);
// The message with the field before it: "tools[0].type: …".
std::string describe(const Problem& problem);

}  // namespace sluice::gateway::ai
