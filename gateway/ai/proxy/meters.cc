#include "gateway/ai/proxy/meters.h"

#include <algorithm>

#include "gateway/clocks.h"
#include "gateway/metrics_page.h"

namespace sluice::gateway::ai {
namespace {

// The conventions' own advice.
constexpr std::array<double, 14> kTokenBounds{
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
constexpr std::array<double, 14> kDurationBounds{0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                                 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
constexpr std::array<double, 14> kFirstBounds{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08,
                                              0.1,   0.25,  0.5,  1,    2.5,  5,    10};
constexpr std::array<double, 14> kEachBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075,
                                             0.1,   0.15,   0.2,   0.3,  0.4,   0.75, 2.5};
constexpr std::array<std::string_view, 5> kLabels{"gen_ai_operation_name", "gen_ai_provider_name",
                                                  "provider", "gen_ai_request_model", "team"};

constexpr std::int64_t kDaySeconds = 24 * 60 * 60;

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs pairs_of(const std::array<std::string, 5>& labels) {
  Pairs pairs;
  for (std::size_t i = 0; i < labels.size(); ++i)
    pairs.emplace_back(kLabels[i], labels[i]);
  return pairs;
}

Pairs with(Pairs pairs, std::string_view name, std::string_view value) {
  pairs.emplace_back(name, value);
  return pairs;
}

void add_usage(Usage& total, const Usage& usage) {
  total.uncached += usage.uncached;
  total.cache_read += usage.cache_read;
  total.cache_write += usage.cache_write;
  total.output += usage.output;
  total.reasoning += usage.reasoning;
}

}  // namespace

template <std::size_t N>
void Meters::Histogram<N>::add(const std::array<double, N>& bounds, double value) {
  const auto bucket = std::ranges::lower_bound(bounds, value) - bounds.begin();
  ++buckets[static_cast<std::size_t>(bucket)];
  sum += value;
}

void Meters::add(const CallRecord& record, std::int64_t unix_seconds) {
  const bool good = record.error.empty();
  // Names that only callers know are not kept; what took something is one that was answered for.
  const bool used = record.usage.input() + record.usage.output > 0;
  const std::string_view model = good || used ? record.model : "(failed)";
  const std::scoped_lock lock(mutex_);
  note_today(record, model, unix_seconds);
  Series& series = series_of({record.operation, record.kind, record.provider, model, record.team});
  auto durations = series.durations.find(record.error);
  if (durations == series.durations.end())
    durations = series.durations.try_emplace(std::string(record.error)).first;
  durations->second.add(kDurationBounds, record.seconds);
  series.fallbacks += record.fallbacks;
  series.cache_misses += record.cache_missed ? 1 : 0;
  if (used) {
    series.input.add(kTokenBounds, static_cast<double>(record.usage.input()));
    series.output.add(kTokenBounds, static_cast<double>(record.usage.output));
    add_usage(series.total, record.usage);
    series.dollars += record.dollars;
  }
  if (record.first_token < 0) return;
  series.first_token.add(kFirstBounds, record.first_token);
  if (good && record.usage.output > 1) {
    series.per_token.add(kEachBounds, (record.seconds - record.first_token) /
                                          static_cast<double>(record.usage.output - 1));
  }
}

void Meters::note_today(const CallRecord& record, std::string_view model,
                        std::int64_t unix_seconds) {
  if (const std::int64_t day = unix_seconds / kDaySeconds; day != day_) {
    day_ = day;
    today_.clear();
  }
  std::pair<std::string, std::string> of(model, record.team);
  if (today_.size() >= kMostSeries && !today_.contains(of)) of = {"(other)", "(other)"};
  Totals& totals = today_[std::move(of)];
  ++totals.requests;
  totals.errors += record.error.empty() ? 0 : 1;
  add_usage(totals.usage, record.usage);
  totals.dollars += record.dollars;
}

std::map<std::string, Meters::Totals> Meters::by_provider() const {
  const std::scoped_lock lock(mutex_);
  std::map<std::string, Totals> out;
  for (const auto& [labels, series] : series_) {
    Totals& totals = out[labels[2]];
    for (const auto& [error, durations] : series.durations) {
      std::uint64_t calls = 0;
      for (const std::uint64_t count : durations.buckets)
        calls += count;
      totals.requests += calls;
      totals.errors += error.empty() ? 0 : calls;
    }
    add_usage(totals.usage, series.total);
    totals.dollars += series.dollars;
  }
  return out;
}

std::map<std::pair<std::string, std::string>, Meters::Totals> Meters::today() const {
  const std::scoped_lock lock(mutex_);
  if (day_ != unix_now() / kDaySeconds) return {};
  return today_;
}

void Meters::add(const HitRecord& record) {
  const std::scoped_lock lock(mutex_);
  ++series_of({record.operation, record.kind, record.provider, record.model, record.team})
        .cache_hits;
}

void Meters::filtered(std::string_view filter, std::string_view direction, std::uint64_t count) {
  const std::scoped_lock lock(mutex_);
  filtered_[{std::string(filter), std::string(direction)}] += count;
}

Meters::Series& Meters::series_of(LabelViews labels) {
  if (const auto known = series_.find(labels); known != series_.end()) return known->second;
  if (series_.size() >= kMostSeries) labels[3] = labels[4] = "(other)";
  Labels kept;
  std::ranges::copy(labels, kept.begin());
  return series_[std::move(kept)];
}

void Meters::keep(const std::vector<std::string>& providers) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(series_, [&](const auto& entry) {
    return std::ranges::find(providers, entry.first[2]) == providers.end();
  });
}

void Meters::collect(MetricsPage& page) const {
  const std::scoped_lock lock(mutex_);
  for (const auto& [of, count] : filtered_) {
    page.sample({"sluice_ai_filter_matches_total",
                 "What a filter has found in requests and answers.",
                 SampleType::counter,
                 {{"filter", of.first}, {"direction", of.second}},
                 static_cast<double>(count)});
  }
  for (const auto& [labels, series] : series_) {
    const Pairs pairs = pairs_of(labels);
    const auto histogram = [&](std::string_view name, std::string_view help, const Pairs& of,
                               const auto& bounds, const auto& from) {
      page.histogram(name, help, of, bounds, from.buckets, from.sum);
    };
    constexpr std::string_view kTokens = "Tokens of a call, by direction.";
    histogram("gen_ai_client_token_usage", kTokens, with(pairs, "gen_ai_token_type", "input"),
              kTokenBounds, series.input);
    histogram("gen_ai_client_token_usage", kTokens, with(pairs, "gen_ai_token_type", "output"),
              kTokenBounds, series.output);
    for (const auto& [error, durations] : series.durations) {
      histogram("gen_ai_server_request_duration",
                "Seconds from a call's first byte to the last of its answer.",
                with(pairs, "error_type", error), kDurationBounds, durations);
    }
    histogram("gen_ai_server_time_to_first_token",
              "Seconds from a call's first byte to the first of a streamed answer.", pairs,
              kFirstBounds, series.first_token);
    histogram("gen_ai_server_time_per_output_token",
              "Seconds for each token of a streamed answer after the first.", pairs, kEachBounds,
              series.per_token);
    const auto tokens = [&](std::string_view type, std::int64_t value) {
      page.sample({"sluice_ai_tokens_total",
                   "Tokens, each counted once but reasoning, which output includes.",
                   SampleType::counter, with(pairs, "type", type), static_cast<double>(value)});
    };
    tokens("input", series.total.uncached);
    tokens("cache_read", series.total.cache_read);
    tokens("cache_write", series.total.cache_write);
    tokens("output", series.total.output);
    tokens("reasoning", series.total.reasoning);
    if (series.dollars > 0) {
      page.sample({"sluice_ai_cost_dollars_total", "What answers have cost, by the file of prices.",
                   SampleType::counter, pairs, series.dollars});
    }
    const auto looked_up = [&](std::string_view result, std::uint64_t value) {
      if (series.cache_hits + series.cache_misses == 0) return;
      page.sample({"sluice_ai_cache_lookups_total",
                   "Requests that an answer was looked up for in the cache, by `result`.",
                   SampleType::counter, with(pairs, "result", result),
                   static_cast<double>(value)});
    };
    looked_up("hit", series.cache_hits);
    looked_up("miss", series.cache_misses);
    page.sample({"sluice_ai_fallbacks_total",
                 "Targets that were asked in vain before this one answered, or failed as the last.",
                 SampleType::counter, pairs, static_cast<double>(series.fallbacks)});
  }
}

}  // namespace sluice::gateway::ai
