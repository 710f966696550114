// What calls of language models took, for the metrics page, after OpenTelemetry's conventions for
// generative AI.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/ai/conversation.h"

namespace sluice::gateway {
class MetricsPage;
}

namespace sluice::gateway::ai {

// One call that has ended.
struct CallRecord {
  std::string_view operation = {};  // "chat"
  std::string_view kind = {};       // gen_ai.provider.name: "anthropic"
  std::string_view provider = {};   // the policy's name
  std::string_view model = {};      // that was asked for, as the provider calls it
  std::string_view team = {};       // of the virtual key; "": none
  std::string_view error = {};      // "": the answer was whole; a status, or what happened
  Usage usage = {};
  double dollars = 0;  // by the prices; 0: nobody knows
  double seconds = 0;
  double first_token = -1;      // of streams; negative: there was none
  std::uint64_t fallbacks = 0;  // targets that were asked before
  bool cache_missed = false;    // it was looked up in vain
};

// One that an answer of the cache was there for.
struct HitRecord {
  std::string_view operation = {};
  std::string_view kind = {};
  std::string_view provider = {};
  std::string_view model = {};
  std::string_view team = {};
};

// Any thread; one short lock a call. Series are bounded: models that nobody has answered for are
// not named, and beyond kMostSeries all that is new is one.
class Meters {
 public:
  static constexpr std::size_t kMostSeries = 2000;

  void add(const CallRecord& record, std::int64_t unix_seconds);
  void add(const HitRecord& record);
  // A filter of the policy has found something, so often. `direction`: "request", "answer".
  void filtered(std::string_view filter, std::string_view direction, std::uint64_t count);
  // Series of other providers go.
  void keep(const std::vector<std::string>& providers);
  void collect(MetricsPage& page) const;

  struct Totals {
    std::uint64_t requests = 0;
    std::uint64_t errors = 0;
    Usage usage;
    double dollars = 0;
  };
  // Since the gateway began.
  std::map<std::string, Totals> by_provider() const;
  // By model and team, since midnight (UTC) or since the gateway began.
  std::map<std::pair<std::string, std::string>, Totals> today() const;

 private:
  template <std::size_t N>
  struct Histogram {
    std::array<std::uint64_t, N + 1> buckets{};
    double sum = 0;
    void add(const std::array<double, N>& bounds, double value);
  };
  using Labels = std::array<std::string, 5>;  // operation, kind, provider, model, team
  using LabelViews = std::array<std::string_view, 5>;
  struct LabelOrder {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return views(a) < views(b);
    }
    static const LabelViews& views(const LabelViews& labels) { return labels; }
    static LabelViews views(const Labels& labels) {
      return {labels[0], labels[1], labels[2], labels[3], labels[4]};
    }
  };
  struct Series {
    Histogram<14> input, output;  // tokens
    Histogram<14> first_token, per_token;
    std::map<std::string, Histogram<14>, std::less<>> durations;  // by error
    Usage total;
    double dollars = 0;
    std::uint64_t fallbacks = 0;
    std::uint64_t cache_hits = 0;
    std::uint64_t cache_misses = 0;
  };
  // With the lock.
  Series& series_of(LabelViews labels);
  void note_today(const CallRecord& record, std::string_view model, std::int64_t unix_seconds);

  mutable std::mutex mutex_;
  std::map<Labels, Series, LabelOrder> series_;
  std::map<std::pair<std::string, std::string>, std::uint64_t> filtered_;  // by filter, direction
  std::int64_t day_ = 0;  // of today_, from 1970 on
  std::map<std::pair<std::string, std::string>, Totals> today_;
};

}  // namespace sluice::gateway::ai
