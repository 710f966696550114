// The caller's side of virtual keys: where SDKs put them, and what they read of their limits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/ai/proxy/key_state.h"
#include "gateway/ai/shape.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::ai {

// Authorization: Bearer, x-api-key, api-key, x-goog-api-key or ?key=; "": none.
std::string_view shown_key(const http1::RequestHead& caller);

// x-ratelimit-… as OpenAI has them; to Anthropic's callers anthropic-ratelimit-…
std::string rate_lines(Shape shape, const KeyRate& requests, const KeyRate& tokens,
                       std::int64_t unix_seconds);
// The same of money, in US dollars. `ends`: of the period, Unix time.
void append_budget_lines(Shape shape, std::int64_t limit, std::int64_t left, std::int64_t ends,
                         std::int64_t unix_seconds, std::string& out);

}  // namespace sluice::gateway::ai
