#include "gateway/ai/proxy/accounting.h"

#include <algorithm>
#include <cmath>

#include "gateway/ai/proxy/calendar.h"
#include "gateway/clocks.h"

namespace sluice::gateway::ai {
namespace {

// Names that only callers know are not kept: nobody has answered for them.
UsageName usage_name(std::string_view day, const CallRecord& record, const CallFacts& facts,
                     bool answered) {
  return {.day = day,
          .key = facts.key,
          .team = facts.team,
          .provider = record.provider,
          .model = answered ? record.model : "(failed)"};
}

}  // namespace

std::string_view provider_word(policy::AiKind kind) {
  switch (kind) {
    case policy::AiKind::azure:
      return "azure.ai.openai";
    case policy::AiKind::anthropic:
      return "anthropic";
    case policy::AiKind::gemini:
      return "gcp.gemini";
    case policy::AiKind::mistral:
      return "mistral_ai";
    case policy::AiKind::openai:
    case policy::AiKind::compatible:
      break;
  }
  return "openai";
}

std::int64_t cost_of(const Usage& usage, const policy::Price& price) {
  const auto micros = [](std::int64_t tokens, double each) {
    return static_cast<double>(tokens) * each;
  };
  constexpr double kMost = 1e15;  // a billion dollars: sums of such costs stay numbers
  const double cost =
      micros(usage.uncached, price.input) + micros(usage.cache_read, price.cached_input) +
      micros(usage.cache_write, price.cache_write) + micros(usage.output, price.output);
  return std::llround(std::min(cost, kMost));
}

std::string error_word(http::Ending ending, int status) {
  if (ending == http::Ending::gone) return "cancelled";
  if (ending == http::Ending::cut_short) return "cut_short";
  return status >= 400 ? std::to_string(status) : "";
}

void record_call(const Catalog& catalog, const CallRecord& record, const CallFacts& facts,
                 const Money& cost) {
  const std::int64_t now = unix_now();
  catalog.meters().add(record, now);
  const bool good = record.error.empty();
  const bool used = record.usage.input() + record.usage.output > 0;
  const std::string day = day_text(now);
  catalog.ledger().add(usage_name(day, record, facts, good || used),
                       {.owner = std::string(facts.owner),
                        .requests = 1,
                        .errors = good ? 0 : 1,
                        .unpriced = used && !cost.known ? 1 : 0,
                        .input = record.usage.uncached,
                        .cache_read = record.usage.cache_read,
                        .cache_write = record.usage.cache_write,
                        .output = record.usage.output,
                        .reasoning = record.usage.reasoning,
                        .micros = cost.micros});
}

void record_findings(const Catalog& catalog, const TextFilter& filter, const Findings& findings,
                     std::string_view direction) {
  for (const Findings::Hit& hit : findings.hits)
    catalog.meters().filtered(filter.rule(hit.rule).name, direction, hit.count);
}

void record_hit(const Catalog& catalog, const Endpoint& endpoint, const Provider& provider,
                std::string_view model, const CallFacts& facts) {
  catalog.meters().add(HitRecord{.operation = to_string(endpoint.operation),
                                 .kind = provider_word(provider.kind),
                                 .provider = provider.name,
                                 .model = model,
                                 .team = facts.team});
  const CallRecord record{.provider = provider.name, .model = model};
  const std::string day = day_text(unix_now());
  catalog.ledger().add(usage_name(day, record, facts, true),
                       {.owner = std::string(facts.owner), .requests = 1, .cache_hits = 1});
}

}  // namespace sluice::gateway::ai
