#include "gateway/ai/problem.h"

#include <array>
#include <utility>

namespace sluice::gateway::ai {
namespace {

constexpr std::array<std::pair<ProblemKind, int>, 12> kStatuses{{
    {ProblemKind::invalid_request, 400},
    {ProblemKind::authentication, 401},
    {ProblemKind::permission, 403},
    {ProblemKind::not_found, 404},
    {ProblemKind::too_large, 413},
    {ProblemKind::rate_limit, 429},
    {ProblemKind::budget, 429},
    {ProblemKind::internal, 500},
    {ProblemKind::not_supported, 501},
    {ProblemKind::upstream, 502},
    {ProblemKind::overloaded, 503},
    {ProblemKind::timeout, 504},
}};
constexpr int kAnthropicOverloaded = 529;
constexpr int kAnthropicBilling = 402;

}  // namespace

int http_status(ProblemKind kind) {
  for (const auto& [known, status] : kStatuses)
    if (known == kind) return status;
  return 500;
}

ProblemKind problem_kind(int http_status) {
  if (http_status == kAnthropicOverloaded) return ProblemKind::overloaded;
  if (http_status == kAnthropicBilling) return ProblemKind::budget;
  for (const auto& [kind, status] : kStatuses)
    if (status == http_status) return kind;
  return http_status >= 400 && http_status < 500 ? ProblemKind::invalid_request
                                                 : ProblemKind::internal;
}

std::string describe(const Problem& problem) {
  return problem.field.empty() ? problem.message : problem.field + ": " + problem.message;
}

}  // namespace sluice::gateway::ai
