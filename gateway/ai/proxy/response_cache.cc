#include "gateway/ai/proxy/response_cache.h"

#include <algorithm>
#include <openssl/evp.h>

#include <boost/json/parse.hpp>

#include "gateway/ai/canonical.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::size_t kOverhead = 512;  // bytes of an entry besides its answer
constexpr std::size_t kShareOfOne = 8;  // of all memory
constexpr std::size_t kMostOfOne = 4UL << 20;

std::size_t size_of(const CachedAnswer& answer) {
  return answer.body.size() + answer.content_type.size() + kOverhead;
}

// Each part with its length before it, so that no two questions are one text.
void add(std::string& out, std::string_view part) {
  out.append(std::to_string(part.size())).append(":").append(part);
}

}  // namespace

std::optional<CacheKey> cache_key(const CacheQuestion& question) {
  boost::system::error_code error;
  const json::parse_options deep{.max_depth = 72};  // as what was asked (vendor_body.cc)
  const json::value body = json::parse(question.body, error, {}, deep);
  if (error) return std::nullopt;
  const Endpoint& endpoint = *question.endpoint;
  std::string text;
  for (const std::string_view part :
       {question.tenant, question.route, question.provider, question.address, question.model,
        kShapeWords[static_cast<std::size_t>(endpoint.shape)], endpoint.version, endpoint.path,
        question.api_fields, question.query})
    add(text, part);
  add(text, canonical_json(body));
  CacheKey key{};
  EVP_Digest(text.data(), text.size(), key.data(), nullptr, EVP_sha256(), nullptr);
  return key;
}

void ResponseCache::configure(std::size_t max_memory, Clock::duration ttl) {
  const std::scoped_lock lock(mutex_);
  max_memory_ = max_memory;
  ttl_ = ttl;
  shrink();
}

CachedAnswerPtr ResponseCache::find(const CacheKey& key, Clock::time_point now) {
  const std::scoped_lock lock(mutex_);
  const auto place = places_.find(key);
  if (place == places_.end()) return nullptr;
  const auto entry = place->second;
  if (now - entry->answer->made >= ttl_) {
    remove(entry);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->answer;
}

void ResponseCache::put(const CacheKey& key, CachedAnswer answer) {
  auto kept = std::make_shared<const CachedAnswer>(std::move(answer));
  const std::scoped_lock lock(mutex_);
  if (kept->body.size() > std::min(max_memory_ / kShareOfOne, kMostOfOne)) return;
  if (const auto place = places_.find(key); place != places_.end()) remove(place->second);
  bytes_ += size_of(*kept);
  entries_.push_front({key, std::move(kept)});
  places_[key] = entries_.begin();
  shrink();
}

std::size_t ResponseCache::most_of_one() const {
  const std::scoped_lock lock(mutex_);
  return std::min(max_memory_ / kShareOfOne, kMostOfOne);
}

ResponseCache::Stats ResponseCache::stats() const {
  const std::scoped_lock lock(mutex_);
  return {.entries = entries_.size(), .bytes = bytes_, .evictions = evictions_};
}

void ResponseCache::remove(Entries::iterator entry) {
  bytes_ -= size_of(*entry->answer);
  places_.erase(entry->key);
  entries_.erase(entry);
}

void ResponseCache::shrink() {
  while (bytes_ > max_memory_) {
    remove(std::prev(entries_.end()));
    ++evictions_;
  }
}

}  // namespace sluice::gateway::ai
