// Limits: verdicts a second and core, and the memory of a million keys.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <random>

#include "policy/limits.h"

namespace {

using namespace sluice::policy;

constexpr std::uint64_t kSecond = 1'000'000'000;

Limit limit_of(std::uint32_t max_keys) {
  Limit limit;
  limit.name = "a";
  limit.rate_count = 100;
  limit.burst = 200;
  limit.max_keys = max_keys;
  return limit;
}

RequestView from(std::uint32_t client) {
  RequestView view;
  view.client = IpAddress::v4(client);
  view.host = "api.example.com";
  view.method = "GET";
  return view;
}

// `keys` clients in random order, each known after the first round.
void rate(benchmark::State& state) {
  const auto keys = static_cast<std::uint32_t>(state.range(0));
  static LimitStore* store = nullptr;
  static std::vector<LimitHandle> handles;
  if (state.thread_index() == 0) {
    delete store;
    store = new LimitStore(HashKey{1, 2});
    handles = store->resolve({limit_of(2 * keys)});
  }
  std::mt19937 random(static_cast<unsigned>(state.thread_index()));
  std::uint64_t now = kSecond;
  for (auto _ : state) {
    const RequestView view = from(0x0a000000U + random() % keys);
    now += 100;
    const LimitKeys key = handles[0].keys(view, 1);
    benchmark::DoNotOptimize(handles[0].admit(key, now));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(rate)->Arg(1)->Arg(1000)->Arg(1'000'000)->Threads(1)->Threads(2)->UseRealTime();

void concurrency(benchmark::State& state) {
  const auto keys = static_cast<std::uint32_t>(state.range(0));
  Limit limit = limit_of(2 * keys);
  limit.unit = LimitUnit::concurrency;
  limit.max = 10;
  LimitStore store(HashKey{1, 2});
  const LimitHandle handle = store.resolve({limit})[0];
  std::mt19937 random(1);
  for (auto _ : state) {
    const RequestView view = from(0x0a000000U + random() % keys);
    benchmark::DoNotOptimize(handle.acquire(handle.keys(view, 1)));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(concurrency)->Arg(1)->Arg(1000)->Arg(1'000'000);

void leased(benchmark::State& state) {
  ClusterTable table("a", GcraParameters::of(limit_of(1)), OnLoss::share, 65536);
  table.found();
  std::mt19937_64 random(1);
  for (auto _ : state)
    benchmark::DoNotOptimize(table.admit({1 + random() % 1000 * 0x9e3779b97f4a7c15, 7}, kSecond, 1));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(leased);

// By parts of the key: what each adds.
void key(benchmark::State& state, std::vector<LimitKeyPart> parts) {
  Limit limit = limit_of(64);
  limit.key = std::move(parts);
  const LimitKeyHasher hasher(limit, HashKey{1, 2});
  const RequestView view = from(0x0a000001);
  for (auto _ : state)
    benchmark::DoNotOptimize(hasher.of(view, 1));
}
BENCHMARK_CAPTURE(key, client_ip, {LimitKey::client_ip});
BENCHMARK_CAPTURE(key, client_ip_route_host_method,
                  {LimitKey::client_ip, LimitKey::route, LimitKey::host, LimitKey::method});

// A million keys that are all live: bytes a key, and how many of them had no place of their own.
void million_keys(benchmark::State& state) {
  constexpr std::uint32_t kKeys = 1'000'000;
  for (auto _ : state) {
    const auto before = mallinfo2();
    LimitTable table(GcraParameters::of(limit_of(0)), kKeys);  // as with max_keys: 1000000
    const auto after = mallinfo2();
    std::mt19937_64 random(1);
    for (std::uint32_t i = 0; i < kKeys; ++i)
      table.admit({random(), random()}, kSecond);
    const double bytes = static_cast<double>(after.uordblks + after.hblkhd) -
                         static_cast<double>(before.uordblks + before.hblkhd);
    state.counters["bytes_per_key"] = bytes / kKeys;
    state.counters["MiB"] = bytes / (1 << 20);
    state.counters["shared"] = static_cast<double>(table.stats(kSecond).overflow);
  }
}
BENCHMARK(million_keys)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace

BENCHMARK_MAIN();
