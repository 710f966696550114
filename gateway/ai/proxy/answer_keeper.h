// What one call has to do with the cache of answers.
#pragma once

#include <string_view>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/proxy/recording.h"
#include "gateway/ai/proxy/scope.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::ai {

class AnswerKeeper {
 public:
  struct Visit {
    const Catalog& catalog;
    const Endpoint& endpoint;
    const Provider& provider;
    std::string_view model;  // as the provider calls it
    const VirtualKey* key = nullptr;
    CallFacts facts;
    std::string_view api_fields;
    std::string_view query;
    std::string_view body;
    std::string_view cache_control;  // the caller may do without, in the words of RFC 9111
  };

  // Null: there is no answer, or it may not be taken.
  CachedAnswerPtr look(const Visit& visit);
  // A whole answer of a provider that has worked, and nothing else; the first one that is said.
  // `head`: null where it was written anew, as JSON.
  void keep(const Visit& visit, const http1::ResponseHead* head, Recording& heard);

  bool missed() const { return missed_; }
  std::size_t wants() const { return cache_ != nullptr ? cache_->most_of_one() : 0; }

 private:
  ResponseCache* cache_ = nullptr;  // null: such answers are not kept
  bool missed_ = false;
};

}  // namespace sluice::gateway::ai
