// What a pick costs, by policy and number of endpoints; and what a change of them costs.
#include "policy/balancing.h"

#include <benchmark/benchmark.h>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::policy {
namespace {

// xorshift64*, as the workers have it.
struct Random {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  std::uint64_t operator()() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
  }
};

std::vector<EndpointView> views(std::int64_t count, bool weighted) {
  std::vector<EndpointView> made(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < made.size(); ++i)
    made[i].weight = weighted ? static_cast<std::uint32_t>(1 + i % 7) : 1;
  return made;
}

std::vector<std::string> names(std::int64_t count) {
  std::vector<std::string> made;
  for (std::int64_t i = 0; i < count; ++i)
    made.push_back("10.0." + std::to_string(i / 256) + "." + std::to_string(i % 256) + ":8080");
  return made;
}

MaglevTable table_of(const std::vector<std::string>& endpoints) {
  std::vector<MaglevTable::Entry> entries;
  for (std::uint32_t i = 0; i < endpoints.size(); ++i)
    entries.push_back({endpoints[i], 1, i});
  return MaglevTable(entries);
}

void pick_by(benchmark::State& state, LbPolicy policy, bool weighted) {
  const auto endpoints = views(state.range(0), weighted);
  Candidates candidates;
  candidates.build(endpoints, {});
  const std::vector<MaglevTable> tables{table_of(names(state.range(0)))};
  std::vector<std::uint32_t> active(endpoints.size(), 1);
  BalancerState balancer;
  Random random;
  for (auto _ : state) {
    const std::uint64_t word = random();
    benchmark::DoNotOptimize(
        pick(candidates, {.policy = policy, .random = word, .hash = word, .tables = tables},
             balancer, [&](std::uint32_t i) { return static_cast<double>(active[i]); }));
  }
}

void round_robin(benchmark::State& state) {
  pick_by(state, LbPolicy::round_robin, false);
}
void weighted_round_robin(benchmark::State& state) {
  pick_by(state, LbPolicy::round_robin, true);
}
void least_request(benchmark::State& state) {
  pick_by(state, LbPolicy::least_request, false);
}
void weighted_least_request(benchmark::State& state) {
  pick_by(state, LbPolicy::least_request, true);
}
void weighted_random(benchmark::State& state) {
  pick_by(state, LbPolicy::random, true);
}
void maglev(benchmark::State& state) {
  pick_by(state, LbPolicy::maglev, false);
}

void peak_ewma(benchmark::State& state) {
  const auto endpoints = views(state.range(0), false);
  Candidates candidates;
  candidates.build(endpoints, {});
  std::vector<PeakEwma> latencies(endpoints.size());
  for (auto& one : latencies)
    one.observe(1e6, 1);
  BalancerState balancer;
  Random random;
  std::int64_t now = 2;
  for (auto _ : state) {
    benchmark::DoNotOptimize(pick(candidates, {.policy = LbPolicy::peak_ewma, .random = random()},
                                  balancer,
                                  [&](std::uint32_t i) { return latencies[i].cost(1, now); }));
    now += 1000;
  }
}

void hash_of_a_value(benchmark::State& state) {
  const std::string value(static_cast<std::size_t>(state.range(0)), 'u');
  for (auto _ : state)
    benchmark::DoNotOptimize(balancing_hash(value));
}

// After a change of health, weights or endpoints: once, on each worker.
void build_candidates(benchmark::State& state) {
  const auto endpoints = views(state.range(0), true);
  Candidates candidates;
  for (auto _ : state) {
    candidates.build(endpoints, {});
    benchmark::DoNotOptimize(candidates.levels().data());
  }
}

// After a change of endpoints: once, on the control thread.
void build_maglev(benchmark::State& state) {
  const auto endpoints = names(state.range(0));
  for (auto _ : state)
    benchmark::DoNotOptimize(table_of(endpoints).empty());
}

BENCHMARK(round_robin)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(weighted_round_robin)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(least_request)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(weighted_least_request)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(weighted_random)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(peak_ewma)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(maglev)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(hash_of_a_value)->Arg(16)->Arg(256);
BENCHMARK(build_candidates)->Arg(3)->Arg(100)->Arg(1000);
BENCHMARK(build_maglev)->Arg(3)->Arg(100)->Arg(1000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice::policy

BENCHMARK_MAIN();
