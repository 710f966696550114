#include "kernel/steer_samples.h"

#include <set>
#include <string>
#include <string_view>

#include "kernel/prefix_text.h"
#include "kernel/steer_choice.h"
#include "kernel/steer_table.h"

namespace sluice::kernel {
namespace {

void add_of_entry(const Intercept& entry, const std::string& listener,
                  const sluice_steer_counters& counted, std::vector<Sample>& samples) {
  const auto add = [&](const char* metric, std::uint64_t value, const char* help) {
    samples.push_back({metric,
                       {{"listener", listener}, {"way", to_text(entry.way)}},
                       static_cast<double>(value),
                       true,
                       help});
  };
  add("sluice_steer_assigned_total", counted.assigned,
      "Lookups that gave a listener's socket: new connections (twice for IPv6 by forward and "
      "output: nftables asks, too), and what nftables asks about packets that bypass.");
  add("sluice_steer_no_socket_total", counted.no_socket,
      "Connections claimed while no socket could take them.");
  add("sluice_steer_taken_total", counted.taken,
      "Connections that another sk_lookup program had taken before.");
  if (entry.way != WayIn::forward || entry.steering == SteerBy::tproxy) return;
  add("sluice_interception_arrived_total", counted.arrived,
      "New connections that intercept.forward claims, where they come in (TC ingress): beside "
      "sluice_steer_assigned_total, what is caught of them.");
  if (entry.steering != SteerBy::tc) return;
  add("sluice_interception_lapsed_total", counted.lapsed,
      "Connections at steering tc while nobody served: on_exit applied.");
}

void add_of_entries(const SteerFigures& figures, std::vector<Sample>& samples) {
  std::set<std::uint32_t> seen;
  for (const auto& entry : figures.plan.intercepts) {
    const auto& name = figures.plan.listeners[entry.listener].name;
    const auto group = figures.groups.find(name, entry.way);
    if (group && seen.insert(*group).second)
      add_of_entry(entry, name, figures.counters.of(*group), samples);
  }
}

void add_of_interfaces(const SteerFigures& figures, std::vector<Sample>& samples) {
  if (uses(figures.plan, SteerBy::tc))
    samples.push_back({"sluice_steer_tc_interfaces",
                       {},
                       static_cast<double>(figures.tc_interfaces),
                       false,
                       "Interfaces on which steering tc takes connections."});
  samples.push_back({"sluice_steer_unclaimed_total",
                     {},
                     static_cast<double>(figures.counters.of(SLUICE_STEER_UNCLAIMED).lookups),
                     true,
                     "Lookups that no intercept entry claims."});
  samples.push_back({"sluice_steer_cookie_interfaces",
                     {},
                     static_cast<double>(figures.cookie_interfaces),
                     false,
                     "Interfaces on which answers to SYN cookies of forwarded connections are "
                     "brought to their listener."});
}

void add_of_map(const char* name, std::size_t entries, std::size_t capacity,
                std::vector<Sample>& samples) {
  const auto gauge = [&](const char* metric, std::size_t value, const char* help) {
    samples.push_back({metric, {{"map", name}}, static_cast<double>(value), false, help});
  };
  gauge("sluice_kernel_map_entries", entries, "Entries of a kernel map in use.");
  gauge("sluice_kernel_map_capacity", capacity, "Entries that a kernel map can hold.");
}

}  // namespace

std::vector<Sample> steer_samples(const SteerFigures& figures) {
  std::vector<Sample> samples;
  add_of_entries(figures, samples);
  add_of_interfaces(figures, samples);
  add_of_map("steer_sources", figures.sources, kMaxSteerEntries, samples);
  add_of_map("steer_destinations", figures.destinations, kMaxSteerEntries, samples);
  add_of_map("steer_segments", figures.segments, kMaxSteerEntries, samples);
  add_of_map("steer_groups", figures.groups.used(), SLUICE_STEER_MAX_GROUPS, samples);
  return samples;
}

}  // namespace sluice::kernel
