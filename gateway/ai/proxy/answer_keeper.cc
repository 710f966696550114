#include "gateway/ai/proxy/answer_keeper.h"

#include <string>
#include <utility>

#include "gateway/ai/proxy/vendor_request.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kJson = "application/json";

// Where it is asked, and what is taken out of its answers: another policy may say otherwise.
std::optional<CacheKey> key_of(const AnswerKeeper::Visit& visit) {
  const std::string query = without_key(visit.query);
  const std::string address =
      visit.provider.address + "\n" + visit.catalog.filters_text(visit.facts);
  return cache_key(
      {.tenant = visit.key != nullptr ? std::string_view(visit.key->id) : std::string_view(),
       .route = visit.facts.route,
       .provider = visit.provider.name,
       .address = address,
       .model = visit.model,
       .endpoint = &visit.endpoint,
       .api_fields = visit.api_fields,
       .query = query,
       .body = visit.body});
}

}  // namespace

CachedAnswerPtr AnswerKeeper::look(const Visit& visit) {
  const Operation operation = visit.endpoint.operation;
  const bool asks = operation == Operation::chat || operation == Operation::embeddings;
  const auto says = [&](std::string_view word) {
    return visit.cache_control.find(word) != std::string_view::npos;
  };
  cache_ = asks && !says("no-store") ? visit.catalog.cache_for(visit.facts) : nullptr;
  if (cache_ == nullptr || says("no-cache")) return nullptr;
  const auto key = key_of(visit);
  CachedAnswerPtr found = key ? cache_->find(*key, ResponseCache::Clock::now()) : nullptr;
  missed_ = found == nullptr;
  return found;
}

void AnswerKeeper::keep(const Visit& visit, const http1::ResponseHead* head, Recording& heard) {
  using http1::KnownField;
  if (cache_ == nullptr || !heard.whole() || heard.size() == 0) return;
  if (head != nullptr && head->fields().has(KnownField::content_encoding)) return;
  std::string_view type =
      head != nullptr ? head->fields().first(KnownField::content_type) : std::string_view();
  if (type.empty()) type = kJson;
  if (const auto key = key_of(visit)) {
    std::exchange(cache_, nullptr)
        ->put(*key, {.content_type = std::string(type),
                     .body = heard.text(),
                     .made = ResponseCache::Clock::now()});
  }
}

}  // namespace sluice::gateway::ai
