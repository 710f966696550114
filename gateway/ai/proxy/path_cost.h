// What a call can cost whom a budget or a limit is for, as far as its path says so.
#pragma once

#include <cstdint>

#include "gateway/ai/endpoint.h"

namespace sluice::gateway::ai {

enum class PathCost : std::uint8_t {
  unknown,  // anything, and by any model: files of requests, jobs, keys that are handed out
  unsaid,   // of the model that the request names, but the answer does not say how much
  said,     // of the model that the request names, and the answer has its usage
  free,     // the vendors ask nothing for it
};

PathCost path_cost(const Endpoint& endpoint);

// Tokens that one answer is reckoned with where the request does not bound it.
std::uint64_t usual_answer(const Endpoint& endpoint);

}  // namespace sluice::gateway::ai
