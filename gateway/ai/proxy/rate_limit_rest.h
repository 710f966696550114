// How long a vendor wants to be left alone by a key that it has refused for its rate (429).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include <boost/json/value.hpp>

#include "gateway/http1/head.h"

namespace sluice::gateway::ai {

// By `retry-after-ms`, Retry-After, or the resets of those limits that have nothing left
// (`x-ratelimit-…`, `anthropic-ratelimit-…`). Nullopt: it does not say. `now`: Unix time.
std::optional<std::chrono::milliseconds> rest_said(const http1::ResponseHead& response,
                                                   std::int64_t now);
// By the RetryInfo of Gemini's errors.
std::optional<std::chrono::milliseconds> rest_said(const boost::json::value& error);

}  // namespace sluice::gateway::ai
