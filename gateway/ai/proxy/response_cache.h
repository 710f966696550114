// Whole answers to requests that were asked before, word for word. The key has everything that an
// answer depends on and everybody whom it is for; nothing is ever "similar".
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ai/endpoint.h"

namespace sluice::gateway::ai {

using CacheKey = std::array<std::uint8_t, 32>;

struct CacheQuestion {
  std::string_view tenant;    // the virtual key's id; "": nobody has one
  std::string_view route;     // its name: what it does with answers may be its own
  std::string_view provider;  // its name, and …
  std::string_view address;   // … where it is asked: a policy may change that
  std::string_view model;     // as the provider calls it
  const Endpoint* endpoint = nullptr;
  std::string_view api_fields;  // versions and betas that the caller asks for
  std::string_view query;       // the caller's, without its key
  std::string_view body;   // whole, as it came
};

// Nullopt: the body is no JSON, so that it cannot be known again. The order of an object's members
// and space between them do not matter; every value does, also one that is not there.
std::optional<CacheKey> cache_key(const CacheQuestion& question);

struct CachedAnswer {
  std::string content_type;
  std::string body;
  std::chrono::steady_clock::time_point made;
};
using CachedAnswerPtr = std::shared_ptr<const CachedAnswer>;

// Any thread; one short lock. What was not asked for longest goes first.
class ResponseCache {
 public:
  using Clock = std::chrono::steady_clock;

  void configure(std::size_t max_memory, Clock::duration ttl);  // 0: nothing is kept
  CachedAnswerPtr find(const CacheKey& key, Clock::time_point now);
  // One that is larger than most_of_one() is not kept.
  void put(const CacheKey& key, CachedAnswer answer);
  std::size_t most_of_one() const;

  struct Stats {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
    std::uint64_t evictions = 0;
  };
  Stats stats() const;

 private:
  struct Entry {
    CacheKey key{};
    CachedAnswerPtr answer;
  };
  using Entries = std::list<Entry>;  // the one that was asked for last is the first
  void remove(Entries::iterator entry);
  void shrink();

  mutable std::mutex mutex_;
  std::size_t max_memory_ = 0;
  Clock::duration ttl_{};
  Entries entries_;
  std::map<CacheKey, Entries::iterator> places_;
  std::size_t bytes_ = 0;
  std::uint64_t evictions_ = 0;
};

}  // namespace sluice::gateway::ai
