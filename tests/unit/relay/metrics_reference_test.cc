// docs/metrics.md lists what the page shows, no more and no less.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>

#include "gateway/metrics.h"
#include "gateway/metrics_catalog.h"
#include "gateway/metrics_page.h"
#include "gateway/metrics_sources.h"
#include "gateway/upstream/cluster.h"

namespace sluice::gateway {
namespace {

constexpr std::string_view kBegin = "<!-- the gateway's own: held against the code by a test -->\n";
constexpr std::string_view kEnd = "<!-- end -->\n";

std::string_view kind_name(MetricKind kind) {
  switch (kind) {
    case MetricKind::counter:
      return "counter";
    case MetricKind::gauge:
      return "gauge";
    case MetricKind::histogram:
      return "histogram";
  }
  return "";
}

std::string row(const MetricInfo& info) {
  std::string labels;
  for (const std::string_view label : info.labels) {
    if (label.empty()) break;
    labels += (labels.empty() ? "`" : ", `") + std::string(label) + "`";
  }
  return "| `" + std::string(info.name) + "` | " + std::string(kind_name(info.kind)) + " | " +
         labels + " | " + std::string(info.help) + " |\n";
}

std::string table() {
  std::string text = "| name | type | labels | meaning |\n|---|---|---|---|\n";
  for (const MetricInfo* info : metric::kCatalogue)
    text += row(*info);
  return text;
}

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// After a change: SLUICE_UPDATE_DOCS=1 build/ci/unit_relay --gtest_filter='MetricsReference*'
TEST(MetricsReferenceTest, ThePageInDocsIsWhatTheCodeSays) {
  const std::string path = SLUICE_SOURCE_DIR "/docs/metrics.md";
  const std::string page = read(path);
  const auto begin = page.find(kBegin);
  const auto end = page.find(kEnd);
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  const std::string before = page.substr(0, begin + kBegin.size());
  if (std::getenv("SLUICE_UPDATE_DOCS") != nullptr)  // NOLINT: one thread
    std::ofstream(path) << before << table() << page.substr(end);
  EXPECT_EQ(page.substr(before.size(), end - before.size()), table());
}

std::set<std::string> families(const std::string& page) {
  std::set<std::string> names;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# TYPE sluice_")) continue;
    names.insert(line.substr(7, line.find(' ', 7) - 7));
  }
  return names;
}

TEST(MetricsReferenceTest, EveryFamilyOfAFullPageIsInTheCatalogue) {
  Metrics metrics({.workers = 1, .parse_errors = {"a"}, .connect_errors = {"refused"}});
  MetricsLayout layout;
  layout.listeners = {"web"};
  layout.routes = {{"all", 0}};
  layout.upstreams = {{"pool", {"10.0.0.1:80"}}};
  layout.limits = {"few"};
  layout.auths = {"partners"};
  const auto slots = metrics.begin_generation(layout);
  metrics.set_policy_generation("gateway", 1);
  WorkerMetrics& worker = metrics.worker(0);
  worker.parse_error(slots->listeners[0], 0);
  worker.request_ended(slots->listeners[0], slots->routes[0], 200, {});
  worker.mirrored(slots->routes[0], MirrorResult::sent);
  worker.call_ended(slots->routes[0], 14);
  worker.proxy_header_refused(slots->listeners[0]);
  worker.tls_handshake(slots->listeners[0], true, false);
  worker.tls_failed(slots->listeners[0], 0);
  worker.authority_judged(slots->listeners[0], 0);
  worker.upstream_parse_error(slots->upstreams[0], 0);
  worker.upstream_connected(slots->endpoints[0][0], {});
  worker.upstream_first_byte(slots->endpoints[0][0], {});
  worker.upstream_network(slots->endpoints[0][0], {}, {});
  const std::set<std::string> shown = families(metrics.text());
  std::set<std::string> listed;
  for (const MetricInfo* info : metric::kCatalogue)
    listed.insert(std::string(info->name));
  EXPECT_TRUE(std::ranges::includes(listed, shown)) << ::testing::PrintToString(shown);
  // The rest comes from metrics_sources.cc.
  EXPECT_EQ(listed.size() - shown.size(), 6U) << ::testing::PrintToString(shown);
}

TEST(MetricsReferenceTest, NamesFollowPrometheusConventions) {
  for (const MetricInfo* info : metric::kCatalogue) {
    EXPECT_TRUE(info->name.starts_with("sluice_")) << info->name;
    EXPECT_EQ(info->kind == MetricKind::counter, info->name.ends_with("_total")) << info->name;
    EXPECT_EQ(info->kind == MetricKind::histogram,
              info->name.ends_with("_seconds") && !info->name.ends_with("timestamp_seconds"))
        << info->name;
    EXPECT_TRUE(info->help.ends_with(".")) << info->name;
  }
}

}  // namespace
}  // namespace sluice::gateway
