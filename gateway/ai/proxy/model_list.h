// The answer to "which models are there", out of the policy's table.
#pragma once

#include <string_view>
#include <vector>

#include "gateway/ai/endpoint.h"
#include "gateway/http/mediator.h"

namespace sluice::gateway::ai {

// All of `names`, or the one that the path names, in the caller's shape.
http::Mediator::Answer model_list(const Endpoint& endpoint,
                                  const std::vector<std::string_view>& names);

}  // namespace sluice::gateway::ai
