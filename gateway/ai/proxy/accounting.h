// What a call has cost, and where that is written down.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/proxy/meters.h"
#include "gateway/ai/proxy/scope.h"
#include "gateway/http/stream.h"

namespace sluice::gateway::ai {

std::string_view provider_word(policy::AiKind kind);  // gen_ai.provider.name
// In millionths of a dollar. What an estimate is made of is plain input and output.
std::int64_t cost_of(const Usage& usage, const policy::Price& price);
// "": the answer was whole.
std::string error_word(http::Ending ending, int status);

struct Money {
  std::int64_t micros = 0;
  bool known = false;  // there is a price
};
// On the metrics page and in the ledger.
void record_call(const Catalog& catalog, const CallRecord& record, const CallFacts& facts,
                 const Money& cost);

// What filters have found. `direction`: "request", "answer".
void record_findings(const Catalog& catalog, const TextFilter& filter, const Findings& findings,
                     std::string_view direction);
// An answer of the cache.
void record_hit(const Catalog& catalog, const Endpoint& endpoint, const Provider& provider,
                std::string_view model, const CallFacts& facts);

}  // namespace sluice::gateway::ai
