#include "gateway/metrics.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <functional>
#include <prometheus/text_serializer.h>
#include <sstream>
#include <utility>

#include "gateway/metrics_state.h"
#include "gateway/metrics_sum.h"

namespace sluice::gateway {

namespace {

constexpr std::string_view kNoRoute = "(none)";

}  // namespace

MetricsState::MetricsState(MetricsOptions given) : options(std::move(given)) {
  for (std::uint32_t i = 0; i < options.workers; ++i)
    workers.push_back(std::make_unique<WorkerMetrics>());
}

bool MetricsState::reserve() {
  for (const auto& worker : workers) {
    if (!worker->listeners_.reserve(listeners.size()) || !worker->routes_.reserve(routes.size()) ||
        !worker->upstreams_.reserve(upstreams.size()) ||
        !worker->endpoints_.reserve(endpoints.size()) || !worker->limits_.reserve(limits.size()) ||
        !worker->auths_.reserve(auths.size())) {
      return false;
    }
  }
  return true;
}

void MetricsState::abandon() {
  for (SlotDirectory* d : directories())
    d->abandon();
}

std::array<SlotDirectory*, 6> MetricsState::directories() {
  return {&listeners, &routes, &upstreams, &endpoints, &limits, &auths};
}

MetricSlots MetricsState::take_slots(const MetricsLayout& layout) {
  MetricSlots slots;
  for (const std::string& name : layout.listeners) {
    slots.listeners.push_back(ListenerSlot{listeners.take({name})});
    slots.default_routes.push_back(RouteSlot{routes.take({name, std::string(kNoRoute)})});
  }
  for (const auto& route : layout.routes) {
    const std::string& listener = layout.listeners.at(route.listener);
    slots.routes.push_back(RouteSlot{routes.take({listener, route.name})});
  }
  for (const auto& upstream : layout.upstreams) {
    slots.upstreams.push_back(UpstreamSlot{upstreams.take({upstream.name})});
    auto& of_upstream = slots.endpoints.emplace_back();
    for (const std::string& endpoint : upstream.endpoints)
      of_upstream.push_back(EndpointSlot{endpoints.take({upstream.name, endpoint})});
  }
  for (const std::string& name : layout.limits)
    slots.limits.push_back(LimitSlot{limits.take({name})});
  for (const std::string& name : layout.auths)
    slots.auths.push_back(AuthSlot{auths.take({name})});
  return slots;
}

std::uint64_t MetricsState::oldest_alive() {
  std::erase_if(generations, [](const auto& entry) { return entry.second.expired(); });
  return generations.empty() ? listeners.generation() : generations.front().first;
}

// The directories publish together, so one generation number serves all.
void MetricsState::free_unused() {
  const std::uint64_t oldest = oldest_alive();
  const auto reset = [this, oldest](SlotDirectory& directory, auto slot, auto table) {
    for (const std::uint32_t freed : directory.collect(oldest)) {
      for (const auto& worker : workers)
        table(*worker).at(decltype(slot){freed}).reset();
    }
  };
  reset(
      listeners, ListenerSlot{}, [](WorkerMetrics & w) -> auto& { return w.listeners_; });
  reset(
      routes, RouteSlot{}, [](WorkerMetrics & w) -> auto& { return w.routes_; });
  reset(
      upstreams, UpstreamSlot{}, [](WorkerMetrics & w) -> auto& { return w.upstreams_; });
  reset(
      limits, LimitSlot{}, [](WorkerMetrics & w) -> auto& { return w.limits_; });
  reset(
      auths, AuthSlot{}, [](WorkerMetrics & w) -> auto& { return w.auths_; });
  reset(
      endpoints, EndpointSlot{}, [](WorkerMetrics & w) -> auto& { return w.endpoints_; });
}

Metrics::Metrics(MetricsOptions options)
    : state_(std::make_unique<MetricsState>(std::move(options))) {}
Metrics::~Metrics() = default;

WorkerMetrics& Metrics::worker(std::uint32_t index) {
  return *state_->workers.at(index);
}

std::shared_ptr<const MetricSlots> Metrics::begin_generation(const MetricsLayout& layout) {
  MetricsState& s = *state_;
  s.free_unused();
  auto slots = std::make_shared<const MetricSlots>(s.take_slots(layout));
  if (!s.reserve()) {
    s.abandon();
    return nullptr;
  }
  for (SlotDirectory* d : s.directories())
    d->publish();
  s.generations.emplace_back(s.listeners.generation(), slots);
  return slots;
}

void Metrics::reload_ended(bool successful) {
  ++(successful ? state_->reloads_done : state_->reloads_refused);
  state_->last_reload_successful = successful;
  if (successful) state_->last_reload_time = static_cast<double>(std::time(nullptr));
}

void Metrics::set_policy_generation(const std::string& layer, std::uint64_t generation) {
  state_->policy_generations[layer] = generation;
}

void Metrics::add_source(std::function<std::vector<MetricSample>()> source) {
  state_->sources.push_back(std::move(source));
}

void Metrics::add_collector(std::function<void(MetricsPage&)> collector) {
  state_->collectors.push_back(std::move(collector));
}

std::string Metrics::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, state_->collect());
  return std::move(out).str();
}

std::vector<RouteTotals> Metrics::routes(std::size_t most) const {
  constexpr std::size_t kServerErrors = 5;  // the class of 5xx
  std::vector<RouteTotals> all;
  for (const auto& [key, slot] : state_->routes.shown()) {
    const CounterSum<RouteCounters> sum(
        state_->workers, RouteSlot{slot}, [](auto& worker) -> auto& { return worker.routes_; });
    RouteTotals totals{.listener = key[0], .name = key[1]};
    for (std::size_t i = 0; i < kStatusClasses; ++i)
      totals.requests += sum(&RouteCounters::requests, i);
    totals.errors = sum(&RouteCounters::requests, kServerErrors);
    totals.seconds = static_cast<double>(sum(&RouteCounters::duration).sum_ns) / 1e9;
    all.push_back(std::move(totals));
  }
  std::ranges::stable_sort(all, std::ranges::greater(), &RouteTotals::requests);
  if (all.size() > most) all.resize(most);
  return all;
}

}  // namespace sluice::gateway
