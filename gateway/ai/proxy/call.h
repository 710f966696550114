// One call of an LLM API on its way through the gateway.
#pragma once

#include <memory>
#include <string_view>

#include "gateway/http/mediator.h"
#include "gateway/refcounted.h"
#include "gateway/worker_config.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::ai {

// For a route that says `ai: true`. `caller` and `worker` outlive it; `path`: normalised; `client`:
// the address that the caller has, and not one that was claimed for it; else the unspecified one.
std::unique_ptr<http::Mediator> make_call(Worker& worker, const RefPtr<WorkerConfig>& config,
                                          const http1::RequestHead& caller, std::string_view path,
                                          const policy::IpAddress& client);

}  // namespace sluice::gateway::ai
