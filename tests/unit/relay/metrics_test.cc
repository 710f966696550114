#include "gateway/metrics.h"

#include <cstdio>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "gateway/metrics_slots.h"

namespace sluice::gateway {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr WayIn kForward{2};

const std::vector<std::string> kConnectErrors{"refused", "timed_out", "unreachable",
                                              "out_of_ports"};

MetricsLayout layout() {
  MetricsLayout made;
  made.listeners = {"web", "raw"};
  made.routes = {{"api", 0}, {"files", 0}};
  made.upstreams = {{"pool", {"10.0.0.1:80", "10.0.0.2:80"}}, {"direct", {"original_destination"}}};
  made.limits = {"per-client"};
  return made;
}

// What promtool has to say of a page; empty when it accepts it.
std::string promtool(const std::string& page) {
  const std::string file = ::testing::TempDir() + "page." + std::to_string(::getpid());
  std::ofstream(file) << page;
  const std::string command = PROMTOOL " check metrics < " + file + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  std::string said;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    said.append(buffer, n);
  const int status = ::pclose(pipe);
  std::remove(file.c_str());
  return status == 0 ? said : said + "exit " + std::to_string(status);
}

TEST(MetricsTest, CountsOfAllWorkersAreAdded) {
  Metrics metrics(
      {.workers = 2, .parse_errors = {"none", "bare_lf"}, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  ASSERT_TRUE(slots);
  for (std::uint32_t i = 0; i < 2; ++i) {
    WorkerMetrics& worker = metrics.worker(i);
    worker.connection_opened(slots->listeners[0], kForward);
    worker.request_begun(slots->listeners[0]);
    worker.request_ended(slots->listeners[0], slots->routes[0], 204, 3ms);
    worker.client_bytes(slots->listeners[0], 10, 100);
    worker.parse_error(slots->listeners[0], 1);
    worker.upstream_connect_failed(slots->endpoints[0][1], 0);
    worker.limit_verdict(slots->limits[0], LimitOutcome::rejected);
  }
  metrics.worker(1).connection_closed(slots->listeners[0], kForward);
  metrics.worker(1).request_begun(slots->listeners[0]);
  metrics.worker(1).request_ended(slots->listeners[0], slots->default_routes[0], 0, 61s);
  const std::string page = metrics.text();
  for (
      const char* line : {
          R"_(sluice_connections_total{listener="web",way="forward"} 2)_",
          R"_(sluice_connections_active{listener="web",way="forward"} 1)_",
          R"_(sluice_connections_total{listener="web",way="bind"} 0)_",
          R"_(sluice_requests_total{listener="web",route="api",code="2xx"} 2)_",
          R"_(sluice_requests_total{listener="web",route="(none)",code="none"} 1)_",
          R"_(sluice_client_received_bytes_total{listener="web"} 20)_",
          R"_(sluice_client_sent_bytes_total{listener="web"} 200)_",
          R"_(sluice_parse_errors_total{listener="web",reason="bare_lf"} 2)_",
          R"_(sluice_upstream_connect_failures_total{upstream="pool",endpoint="10.0.0.2:80",reason="refused"} 2)_",
          R"_(sluice_limit_verdicts_total{limit="per-client",verdict="rejected"} 2)_",
      }) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
}

TEST(MetricsTest, HistogramBucketsAreCumulativeAndInSeconds) {
  Metrics metrics({.workers = 2, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  const auto observe = [&](std::uint32_t worker, std::chrono::nanoseconds duration) {
    metrics.worker(worker).request_begun(slots->listeners[0]);
    metrics.worker(worker).request_ended(slots->listeners[0], slots->routes[1], 200, duration);
  };
  observe(0, 100us);
  observe(1, 250us);  // a bound belongs to its bucket
  observe(0, 251us);
  observe(1, 2s);
  observe(0, 100s);
  const std::string page = metrics.text();
  const std::string series =
      R"(sluice_request_duration_seconds_bucket{listener="web",route="files",le=")";
  EXPECT_THAT(page, HasSubstr(series + "0.00025\"} 2\n"));
  EXPECT_THAT(page, HasSubstr(series + "0.0005\"} 3\n"));
  EXPECT_THAT(page, HasSubstr(series + "1\"} 3\n"));
  EXPECT_THAT(page, HasSubstr(series + "2.5\"} 4\n"));
  EXPECT_THAT(page, HasSubstr(series + "60\"} 4\n"));
  EXPECT_THAT(page, HasSubstr(series + "+Inf\"} 5\n"));
  EXPECT_THAT(
      page,
      HasSubstr("sluice_request_duration_seconds_count{listener=\"web\",route=\"files\"} 5\n"));
  EXPECT_THAT(
      page,
      HasSubstr("sluice_request_duration_seconds_sum{listener=\"web\",route=\"files\"} 102.0006"));
}

TEST(MetricsTest, KeptObjectsGoOnCountingRemovedOnesGo) {
  Metrics metrics({.workers = 1, .connect_errors = kConnectErrors});
  auto first = metrics.begin_generation(layout());
  metrics.worker(0).upstream_connect_failed(first->endpoints[0][0], 0);
  metrics.worker(0).upstream_connect_failed(first->endpoints[0][1], 0);

  MetricsLayout changed = layout();
  changed.upstreams = {{"pool", {"10.0.0.9:80", "10.0.0.2:80"}}};
  const auto second = metrics.begin_generation(changed);
  // A request of the old policy is still under way, and may not count into the new endpoint's
  // series.
  EXPECT_NE(second->endpoints[0][0], first->endpoints[0][0]);
  metrics.worker(0).upstream_connect_failed(first->endpoints[0][0], 0);
  metrics.worker(0).upstream_connect_failed(second->endpoints[0][1], 0);
  const std::string page = metrics.text();
  EXPECT_THAT(page, Not(HasSubstr("10.0.0.1:80")));
  EXPECT_THAT(page, Not(HasSubstr("original_destination")));
  EXPECT_THAT(
      page,
      HasSubstr(
          R"(connect_failures_total{upstream="pool",endpoint="10.0.0.9:80",reason="refused"} 0)"));
  EXPECT_THAT(
      page,
      HasSubstr(
          R"(connect_failures_total{upstream="pool",endpoint="10.0.0.2:80",reason="refused"} 2)"));

  // Nobody counts under the first policy any more: its slots start again at nothing, for others.
  const EndpointSlot gone = first->endpoints[0][0];
  first.reset();
  changed.upstreams = {{"pool", {"10.0.0.9:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"}}};
  const auto third = metrics.begin_generation(changed);
  EXPECT_TRUE(third->endpoints[0][2] == gone || third->endpoints[0][3] == gone);
  EXPECT_THAT(
      metrics.text(),
      HasSubstr(
          R"(connect_failures_total{upstream="pool",endpoint="10.0.0.3:80",reason="refused"} 0)"));
}

TEST(MetricsTest, ManyReloadsUseNoMoreSlots) {
  SlotDirectory directory;
  for (int i = 0; i < 1000; ++i) {
    directory.collect(directory.generation());
    directory.take({"kept"});
    directory.take({"changing " + std::to_string(i)});
    directory.publish();
  }
  EXPECT_LE(directory.size(), 4U);
}

TEST(MetricsTest, TooManyObjectsAreRefusedAndTheOldStay) {
  Metrics metrics({.workers = 1, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  metrics.worker(0).retried(slots->upstreams[0]);
  MetricsLayout huge = layout();
  for (int i = 0; i < 70'000; ++i)
    huge.routes.push_back({"r" + std::to_string(i), 0});
  EXPECT_EQ(metrics.begin_generation(huge), nullptr);
  EXPECT_THAT(metrics.text(), HasSubstr(R"(sluice_upstream_retries_total{upstream="pool"} 1)"));
}

TEST(MetricsTest, PromtoolAcceptsThePage) {
  Metrics metrics(
      {.workers = 2, .parse_errors = {"none", "bare_lf"}, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  metrics.worker(0).parse_error(slots->listeners[1], 1);
  metrics.reload_ended(true);
  metrics.reload_ended(false);
  metrics.set_policy_generation("gateway", 3);
  metrics.set_policy_generation("guard", 3);
  metrics.add_source(process_samples);
  metrics.add_source([] {
    return std::vector<MetricSample>{
        {"sluice_guard_packets_total",
         "Packets that a rule named.",
         SampleType::counter,
         {{"rule", "odd \"name\"\\\n"}},
         12},
        {"sluice_guard_packets_total",
         "Packets that a rule named.",
         SampleType::counter,
         {{"rule", "other"}},
         5e9},
        {"0bad", "Not a name.", SampleType::gauge, {}, 1},
        {"sluice_connections_total", "Another type.", SampleType::gauge, {}, 1},
    };
  });
  const std::string page = metrics.text();
  EXPECT_EQ(promtool(page), "");
  EXPECT_THAT(page, HasSubstr(R"(sluice_guard_packets_total{rule="odd \"name\"\\\n"} 12)"));
  EXPECT_THAT(page, HasSubstr(R"(sluice_guard_packets_total{rule="other"} 5000000000)"));
  EXPECT_THAT(page, HasSubstr("sluice_reloads_total{result=\"refused\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("sluice_config_last_reload_successful 0\n"));
  EXPECT_THAT(page, HasSubstr("process_open_fds "));
  EXPECT_THAT(page, Not(HasSubstr("0bad")));
}

TEST(MetricsTest, WhatWasNeverObservedHasNoHistogram) {
  Metrics metrics({.workers = 1, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  EXPECT_THAT(metrics.text(), Not(HasSubstr("_bucket")));
  metrics.worker(0).upstream_connected(slots->endpoints[0][0], 70us);
  const std::string page = metrics.text();
  EXPECT_THAT(page, HasSubstr(R"(endpoint="10.0.0.1:80",le="0.0001"} 1)"));
  EXPECT_THAT(page, Not(HasSubstr(R"(endpoint="10.0.0.2:80",le=)")));
}

TEST(MetricsTest, ASlowNetworkIsToldFromASlowOrigin) {
  Metrics metrics({.workers = 1, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  metrics.worker(0).upstream_network(slots->endpoints[0][0], {.round_trip = 40ms, .retransmits = 3},
                                     42ms);
  const std::string page = metrics.text();
  const std::string of = R"({upstream="pool",endpoint="10.0.0.1:80"} )";
  EXPECT_THAT(page, HasSubstr("sluice_upstream_tcp_round_trip_seconds_sum" + of + "0.04\n"));
  EXPECT_THAT(page, HasSubstr("sluice_upstream_origin_duration_seconds_sum" + of + "0.002\n"));
  EXPECT_THAT(page, HasSubstr("sluice_upstream_tcp_retransmits_total" + of + "3\n"));
}

TEST(MetricsTest, FailuresAreCountedByReason) {
  Metrics metrics({.workers = 1, .connect_errors = kConnectErrors});
  const auto slots = metrics.begin_generation(layout());
  metrics.worker(0).upstream_failed(slots->endpoints[0][0], UpstreamFailure::cut_short);
  metrics.worker(0).upstream_connect_failed(slots->endpoints[0][0], 3);
  const std::string page = metrics.text();
  const std::string of = R"(endpoint="10.0.0.1:80",reason=)";
  EXPECT_THAT(page, HasSubstr(of + "\"cut_short\"} 1\n"));
  EXPECT_THAT(page, HasSubstr(of + "\"stalled\"} 0\n"));
  EXPECT_THAT(page, HasSubstr(of + "\"out_of_ports\"} 1\n"));
  EXPECT_THAT(page, Not(HasSubstr(R"(endpoint="10.0.0.2:80",reason="out_of_ports")")))
      << "this node's own reasons are left out until they come";
}

TEST(MetricsTest, PromtoolWouldObject) {
  EXPECT_NE(promtool("# TYPE broken counter\nbroken{ 1\n"), "");
}

TEST(MetricsTest, ProcessSamplesAreThisProcess) {
  const int before = ::dup(0);
  const auto value = [](const std::string& name) {
    for (const auto& sample : process_samples()) {
      if (sample.name == name) return sample.value;
    }
    return -1.0;
  };
  const double with = value("process_open_fds");
  ::close(before);
  EXPECT_EQ(value("process_open_fds"), with - 1);
  EXPECT_GT(value("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(value("process_start_time_seconds"), 1.6e9);
}

}  // namespace
}  // namespace sluice::gateway
