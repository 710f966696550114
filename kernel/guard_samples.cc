#include "kernel/guard_samples.h"

#include <array>

#include "kernel/guard_counters.h"
#include "kernel/guard_events.h"

namespace sluice::kernel {
namespace {

struct Tally {
  std::uint32_t index;
  const char* name;
};
constexpr std::array kPasses{
    Tally{SLUICE_GUARD_PASS, "not_named"},
    Tally{SLUICE_GUARD_PASS_PROTECT, "protect"},
    Tally{SLUICE_GUARD_PASS_NOT_IP, "not_ip"},
    Tally{SLUICE_GUARD_PASS_MALFORMED, "malformed"},
};
constexpr std::array kNotes{
    Tally{SLUICE_GUARD_NOTE_FRAGMENT, "fragment_no_ports"},
    Tally{SLUICE_GUARD_NOTE_EXTENSIONS, "too_many_ext"},
    Tally{SLUICE_GUARD_NOTE_TRUNCATED, "truncated"},
    Tally{SLUICE_GUARD_NOTE_AUDIT, "would_drop"},
    Tally{SLUICE_GUARD_NOTE_UNREPORTED, "drop_not_reported"},
};

const char* name_of(GuardAction action) {
  switch (action) {
    case GuardAction::count:
      return "count";
    case GuardAction::limit:
      return "limit";
    case GuardAction::drop:
      break;
  }
  return "drop";
}

class Page {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;
  void counter(std::string name, Labels labels, double value, const char* help) {
    samples_.push_back({std::move(name), std::move(labels), value, true, help});
  }
  void gauge(std::string name, Labels labels, double value, const char* help) {
    samples_.push_back({std::move(name), std::move(labels), value, false, help});
  }
  std::vector<Sample> take() { return std::move(samples_); }

 private:
  std::vector<Sample> samples_;
};

void add_verdict(Page& page, const char* verdict, const char* reason,
                 const sluice_guard_count& count) {
  page.counter("sluice_guard_packets_total", {{"verdict", verdict}, {"reason", reason}},
               static_cast<double>(count.packets), "Packets (segments) that the guard has judged");
  page.counter("sluice_guard_bytes_total", {{"verdict", verdict}, {"reason", reason}},
               static_cast<double>(count.bytes),
               "Bytes that the guard has judged, with link headers, before segmentation");
}

void add_verdicts(Page& page, int tallies) {
  for (const Tally& pass : kPasses)
    add_verdict(page, "pass", pass.name, read_tally(tallies, pass.index));
  for (std::uint32_t reason = SLUICE_GUARD_FIRST_DROP; reason < SLUICE_GUARD_REASONS; ++reason)
    add_verdict(page, "drop", drop_reason(reason), read_tally(tallies, reason));
  for (const Tally& note : kNotes) {
    page.counter("sluice_guard_notes_total", {{"note", note.name}},
                 static_cast<double>(read_tally(tallies, note.index).packets),
                 "Packets (segments) with something to note besides their verdict: what they were "
                 "judged without, what only an audit would have dropped");
  }
}

void add_rules(Page& page, const std::vector<RuleCounter>& rules) {
  for (const RuleCounter& rule : rules) {
    const Page::Labels labels{{"rule", rule.rule}, {"action", name_of(rule.action)}};
    page.counter("sluice_guard_rule_packets_total", labels, static_cast<double>(rule.packets),
                 "Packets (segments) that the rule has matched and protect did not spare");
    page.counter("sluice_guard_rule_bytes_total", labels, static_cast<double>(rule.bytes),
                 "Bytes that the rule has matched and protect did not spare");
    page.counter("sluice_guard_rule_dropped_packets_total", labels,
                 static_cast<double>(rule.dropped), "Packets (segments) that the rule has dropped");
    page.counter("sluice_guard_rule_would_drop_packets_total", labels,
                 static_cast<double>(rule.would_drop),
                 "Packets (segments) that the rule would have dropped, did it not audit");
  }
}

void add_maps(Page& page, const GuardNumbers& numbers) {
  const auto failures = [&](const char* map, double count) {
    page.counter("sluice_kernel_map_insert_failures_total", {{"map", map}}, count,
                 "Entries that a map of the kernel did not take");
  };
  std::vector<MapUse> maps = numbers.maps;
  maps.push_back({"guard_bans", static_cast<double>(numbers.bans), numbers.bans_capacity, {}});
  maps.push_back({"guard_events", numbers.events_waiting, GuardEvents::kCapacity, {}});
  for (const MapUse& map : maps) {
    page.gauge("sluice_kernel_map_entries", {{"map", map.map}}, map.entries,
               "Entries of a map of the kernel");
    if (map.failures) failures(map.map.c_str(), *map.failures);
    if (map.capacity == 0) continue;  // as many as there is memory for
    page.gauge("sluice_kernel_map_capacity", {{"map", map.map}}, map.capacity,
               "Entries that a map of the kernel takes");
  }
  const auto tally = [&](std::uint32_t index) {
    return static_cast<double>(read_tally(numbers.tallies_map, index).packets);
  };
  failures("guard_bans", numbers.bans_not_inserted);
  failures("guard_events", tally(SLUICE_GUARD_NOTE_LOST));
  failures("guard_syn_sources", tally(SLUICE_GUARD_NOTE_NO_SOURCE));
  failures("guard_syn_services", tally(SLUICE_GUARD_NOTE_NO_SERVICE));
  failures("guard_monitor_services", tally(SLUICE_GUARD_NOTE_NO_MONITOR_SERVICE));
  failures("guard_monitor_sources", tally(SLUICE_GUARD_NOTE_NO_MONITOR_SOURCE));
}

}  // namespace

std::vector<Sample> guard_samples(const GuardNumbers& numbers) {
  Page page;
  add_verdicts(page, numbers.tallies_map);
  add_rules(page, numbers.rules);
  add_maps(page, numbers);
  page.gauge("sluice_guard_bans", {}, static_cast<double>(numbers.bans),
             "Bans in the kernel's table");
  page.gauge("sluice_guard_bans_capacity", {}, numbers.bans_capacity,
             "Bans that the policy allows (bans.max)");
  page.counter("sluice_guard_bans_refused_total", {}, numbers.bans_refused,
               "Bans refused: the source is protected, the table full, or a ninth prefix length");
  page.gauge("sluice_guard_generation", {}, static_cast<double>(numbers.generation),
             "Generation of the rules in force");
  for (const auto& [interface, entry] : numbers.attached) {
    page.gauge("sluice_guard_attached", {{"interface", interface}, {"entry", entry}}, 1,
               "Where the guard hangs");
  }
  return page.take();
}

}  // namespace sluice::kernel
