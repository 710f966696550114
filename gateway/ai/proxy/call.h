// One call of an LLM API on its way through the gateway.
#pragma once

#include <memory>
#include <string_view>

#include "gateway/http/mediator.h"
#include "gateway/refcounted.h"
#include "gateway/worker_config.h"
#include "policy/address.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::ai {

// The request as it came. All of it outlives the call.
struct Asker {
  const http1::RequestHead* head = nullptr;
  std::string_view path;   // normalised
  std::string_view route;  // its name
  policy::IpAddress client;
  bool claimed = false;  // by a proxy: it stands for no identity
  // The listener by which it was caught on its way out of this node; "": it was not.
  std::string_view left_by = {};
  // The vendor's host that it called and was caught on its way to, by TLS that was ended here; "":
  // the gateway's own.
  std::string_view called = {};
};

// For a route that says `ai: true`. `worker` outlives it.
std::unique_ptr<http::Mediator> make_call(Worker& worker, const RefPtr<WorkerConfig>& config,
                                          const Asker& asker);

}  // namespace sluice::gateway::ai
