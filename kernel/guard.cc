#include "kernel/guard.h"

#include <algorithm>
#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fnmatch.h>
#include <guard.skel.h>
#include <iterator>
#include <net/if.h>
#include <optional>

#include "kernel/abi_guard.h"
#include "kernel/guard_attach.h"
#include "kernel/guard_bans.h"
#include "kernel/guard_counters.h"
#include "kernel/guard_maps.h"
#include "kernel/guard_tables.h"
#include "kernel/interfaces.h"
#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

constexpr std::uint64_t kEventsFor = 5'000'000'000ULL;  // ns after the last poll

struct Tally {
  std::uint32_t index;
  const char* verdict;  // "" for notes
  const char* reason;
};
constexpr std::array kTallies{
    Tally{SLUICE_GUARD_PASS, "pass", "not_named"},
    Tally{SLUICE_GUARD_PASS_PROTECT, "pass", "protect"},
    Tally{SLUICE_GUARD_PASS_NOT_IP, "pass", "not_ip"},
    Tally{SLUICE_GUARD_PASS_MALFORMED, "pass", "malformed"},
    Tally{SLUICE_GUARD_DROP_RULE, "drop", "rule"},
    Tally{SLUICE_GUARD_DROP_BAN, "drop", "ban"},
    Tally{SLUICE_GUARD_NOTE_FRAGMENT, "", "fragment_no_ports"},
    Tally{SLUICE_GUARD_NOTE_EXTENSIONS, "", "too_many_ext"},
    Tally{SLUICE_GUARD_NOTE_TRUNCATED, "", "truncated"},
};

Prefix masked(Prefix prefix) {
  for (int bit = prefix.length; bit < 128; ++bit)
    prefix.address[bit / 8] &= static_cast<std::uint8_t>(~(0x80U >> bit % 8));
  return prefix;
}

bool is_loopback(const Prefix& source) {
  const Prefix v4{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127}, 104, true};
  const Prefix v6{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, false};
  return covers(v4, source) || covers(v6, source);
}

// Everybody who answers for the network itself: losing one of them loses the node.
std::vector<Prefix> vital_peers(const NodeNetwork& network) {
  std::vector<Prefix> out = read_resolvers();
  for (const DefaultRoute& route : network.default_routes) {
    if (route.has_gateway) out.push_back(route.gateway);
  }
  std::ranges::sort(out);
  const auto rest = std::ranges::unique(out);
  out.erase(rest.begin(), rest.end());
  return out;
}

struct Compiled {
  GuardPlan plan;
  std::vector<Protect> protect;  // as given
  std::vector<std::uint16_t> host_ports;
  std::vector<Prefix> vital;
  std::vector<GuardTables::InterfaceGroups> interfaces;
};

class PinnedGuard final : public Guard {
 public:
  PinnedGuard(const PinDirectory& pins, GuardMaps maps, GuardBans bans, GuardAttachment attachment,
              NetworkChanges changes, NodeNetwork network)
      : pins_(pins),
        maps_(std::move(maps)),
        counters_(bpf_map__fd(maps_.program().maps.guard_names),
                  bpf_map__fd(maps_.program().maps.guard_counters)),
        bans_(std::move(bans)),
        attachment_(std::move(attachment)),
        changes_(std::move(changes)),
        network_(std::move(network)) {}

  Result<void> prepare(const GuardPlan& plan, const std::vector<Protect>& protect,
                       const std::vector<std::uint16_t>& host_ports) override;
  Result<void> commit(std::uint64_t generation) override;
  void abandon() override;
  Result<void> tick() override;
  int change_fd() const override { return changes_.fd(); }
  Result<void> ban(const Prefix& source, std::chrono::milliseconds duration,
                   const std::string& reason) override;
  Result<bool> unban(const Prefix& source) override { return bans_.remove(masked(source)); }
  std::vector<Ban> bans() const override { return bans_.list(); }
  std::vector<RuleCounter> rule_counters() const override { return counters_.read(); }
  std::vector<Sample> samples() const override;
  std::uint64_t generation() const override { return maps_.state()->generation; }
  std::vector<std::string> attached() const override;
  void poll_events(const std::function<void(const DropEvent&)>& receive) override;
  std::vector<std::string> remove() override;

  Result<void> publish_addresses();

 private:
  Result<void> prepare_compiled(Compiled compiled);
  std::vector<std::pair<unsigned, std::uint64_t>> interface_groups(
      const std::vector<GuardTables::InterfaceGroups>& groups) const;
  Result<void> follow_network();
  Result<void> attach_to(const GuardPlan& plan);
  std::optional<Error> refusal(const Prefix& source) const;
  static int on_event(void* context, void* data, std::size_t size);

  struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };

  const PinDirectory& pins_;
  GuardMaps maps_;
  GuardCounters counters_;
  GuardBans bans_;
  GuardAttachment attachment_;
  NetworkChanges changes_;
  NodeNetwork network_;
  std::vector<Prefix> own_addresses_;  // as the program knows them
  std::optional<Compiled> in_force_;   // absent after an adoption, until the first commit
  std::optional<Compiled> prepared_;
  std::unique_ptr<ring_buffer, FreeRing> events_;
  const std::function<void(const DropEvent&)>* receive_ = nullptr;  // while poll_events() runs
};

Result<void> PinnedGuard::prepare(const GuardPlan& plan, const std::vector<Protect>& protect,
                                  const std::vector<std::uint16_t>& host_ports) {
  abandon();
  if (auto network = read_node_network()) network_ = std::move(*network);
  return prepare_compiled({plan, protect, host_ports, vital_peers(network_), {}});
}

Result<void> PinnedGuard::prepare_compiled(Compiled compiled) {
  auto counters = counters_.prepare(compiled.plan.rules);
  if (!counters) return std::unexpected(counters.error());
  std::vector<Protect> protect = compiled.protect;
  for (const Prefix& peer : compiled.vital)
    protect.push_back({peer, {}, {}});
  auto tables = compile_guard(compiled.plan.rules, *counters, protect, compiled.host_ports);
  Result<void> done = tables ? maps_.fill_other_slot(*tables) : std::unexpected(tables.error());
  if (done) done = maps_.set_interfaces(maps_.other_slot(), interface_groups(tables->interfaces));
  if (!done) {
    counters_.abandon();
    return done;
  }
  compiled.interfaces = std::move(tables->interfaces);
  prepared_ = std::move(compiled);
  return {};
}

std::vector<std::pair<unsigned, std::uint64_t>> PinnedGuard::interface_groups(
    const std::vector<GuardTables::InterfaceGroups>& groups) const {
  std::vector<std::pair<unsigned, std::uint64_t>> out;
  for (const Interface& interface : network_.interfaces) {
    std::uint64_t mask = 0;
    for (const auto& group : groups) {
      const bool named = std::ranges::any_of(group.patterns, [&](const std::string& pattern) {
        return fnmatch(pattern.c_str(), interface.name.c_str(), 0) == 0;
      });
      if (named) mask |= group.groups;
    }
    if (mask != 0) out.emplace_back(interface.index, mask);
  }
  return out;
}

Result<void> PinnedGuard::attach_to(const GuardPlan& plan) {
  const auto wanted =
      plan.enabled ? select_interfaces(network_, plan.interfaces) : std::vector<Interface>{};
  return attachment_.attach(wanted, plan.first);
}

Result<void> PinnedGuard::commit(std::uint64_t generation) {
  if (!prepared_) return std::unexpected(Error{"the guard has nothing prepared to commit"});
  // What may fail comes before the switch; where it is attached too early, the rules in force hold.
  if (auto ok = bans_.set_capacity(prepared_->plan.max_bans); !ok) return ok;
  if (auto ok = publish_addresses(); !ok) return ok;
  if (auto ok = attach_to(prepared_->plan); !ok) return ok;
  counters_.commit();
  maps_.switch_slots(generation);
  in_force_ = std::move(prepared_);
  prepared_.reset();
  const auto& plan = in_force_->plan;
  attachment_.detach_others(plan.enabled ? select_interfaces(network_, plan.interfaces)
                                         : std::vector<Interface>{});
  return {};
}

void PinnedGuard::abandon() {
  if (!prepared_) return;
  counters_.abandon();
  prepared_.reset();
}

Result<void> PinnedGuard::publish_addresses() {
  const int map = bpf_map__fd(maps_.program().maps.guard_own);
  std::vector<Prefix> now = network_.addresses;
  std::ranges::sort(now);
  std::vector<Prefix> gone;
  std::ranges::set_difference(own_addresses_, now, std::back_inserter(gone));
  for (const Prefix& address : gone)
    bpf_map_delete_elem(map, address.address.data());
  const std::uint32_t yes = 1;
  for (const Prefix& address : now) {
    if (bpf_map_update_elem(map, address.address.data(), &yes, BPF_ANY) != 0) {
      return std::unexpected(Error{message("cannot note the node's own address {}: {}",
                                           to_text(address), std::strerror(errno))});
    }
  }
  own_addresses_ = std::move(now);
  return {};
}

Result<void> PinnedGuard::follow_network() {
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  network_ = std::move(*network);
  if (auto ok = publish_addresses(); !ok) return ok;
  if (!in_force_) return {};
  return maps_.set_interfaces(maps_.slot_in_force(), interface_groups(in_force_->interfaces));
}

Result<void> PinnedGuard::tick() {
  bans_.sweep();
  if (!pins_.exists()) return {};  // `cleanup` took it away: nothing is repaired
  Result<void> followed;
  if (changes_.changed()) followed = follow_network();
  attachment_.forget_severed();
  if (!in_force_) return followed;
  const auto attached = attach_to(in_force_->plan);
  const auto& plan = in_force_->plan;
  attachment_.detach_others(plan.enabled ? select_interfaces(network_, plan.interfaces)
                                         : std::vector<Interface>{});
  if (followed && !prepared_ && vital_peers(network_) != in_force_->vital) {
    Compiled again = *in_force_;
    again.vital = vital_peers(network_);
    followed = prepare_compiled(std::move(again));
    if (followed) followed = commit(generation());
  }
  return followed ? attached : followed;
}

std::optional<Error> PinnedGuard::refusal(const Prefix& source) const {
  const auto refuse = [&](const std::string& why) {
    return Error{to_text(source) + " is not banned: " + why};
  };
  if (own_length(source) == 0) return refuse("it is every address of its IP version");
  if (is_loopback(source)) return refuse("it is this node's loopback");
  for (const Prefix& own : network_.addresses) {
    if (covers(own, source)) return refuse("it is this node's own address");
  }
  const auto& plan = prepared_ ? prepared_ : in_force_;
  if (!plan) return std::nullopt;
  for (const Protect& entry : plan->protect) {
    // An entry for some ports or interfaces keeps those open in the kernel; the rest of that source
    // may be banned.
    if (!entry.to_ports.empty() || !entry.interfaces.empty() || !covers(entry.peer, source))
      continue;
    return refuse(message("protect names {}", to_text(entry.peer)));
  }
  for (const Prefix& peer : plan->vital) {
    if (covers(peer, source)) return refuse("it is this node's default gateway or resolver");
  }
  return std::nullopt;
}

Result<void> PinnedGuard::ban(const Prefix& given, std::chrono::milliseconds duration,
                              const std::string& reason) {
  const Prefix source = masked(given);
  if (auto why = refusal(source)) {
    ++maps_.state()->refused_bans;
    return std::unexpected(*why);
  }
  return bans_.add(source, duration, reason);
}

std::vector<std::string> PinnedGuard::attached() const {
  std::vector<std::string> out;
  for (const auto& [index, link] : attachment_.links()) {
    const auto found = std::ranges::find(network_.interfaces, index, &Interface::index);
    out.push_back(found == network_.interfaces.end() ? message("#{}", index) : found->name);
  }
  return out;
}

std::vector<Sample> PinnedGuard::samples() const {
  std::vector<Sample> out;
  const auto add = [&](std::string name, std::vector<std::pair<std::string, std::string>> labels,
                       double value, bool counter, const char* help) {
    out.push_back({std::move(name), std::move(labels), value, counter, help});
  };
  const int tallies = bpf_map__fd(maps_.program().maps.guard_tallies);
  for (const Tally& tally : kTallies) {
    const sluice_guard_count count = read_count(tallies, tally.index);
    const auto packets = static_cast<double>(count.packets);
    if (*tally.verdict == 0) {
      add("sluice_guard_notes_total", {{"note", tally.reason}}, packets, true,
          "Packets (segments) that were judged without ports or protocol, by what was odd about "
          "them");
      continue;
    }
    add("sluice_guard_packets_total", {{"verdict", tally.verdict}, {"reason", tally.reason}},
        packets, true, "Packets (segments) that the guard has judged");
    add("sluice_guard_bytes_total", {{"verdict", tally.verdict}, {"reason", tally.reason}},
        static_cast<double>(count.bytes), true,
        "Bytes that the guard has judged, with link headers, before segmentation");
  }
  for (const RuleCounter& rule : rule_counters()) {
    const char* action = rule.action == GuardAction::drop ? "drop" : "count";
    add("sluice_guard_rule_packets_total", {{"rule", rule.rule}, {"action", action}},
        static_cast<double>(rule.packets), true,
        "Packets (segments) that the rule has matched and protect did not spare");
    add("sluice_guard_rule_bytes_total", {{"rule", rule.rule}, {"action", action}},
        static_cast<double>(rule.bytes), true,
        "Bytes that the rule has matched and protect did not spare");
  }
  add("sluice_guard_bans", {}, static_cast<double>(bans_.size()), false,
      "Bans in the kernel's table");
  add("sluice_guard_bans_capacity", {}, bans_.capacity(), false,
      "Bans that the policy allows (bans.max)");
  add("sluice_guard_bans_refused_total", {}, static_cast<double>(maps_.state()->refused_bans), true,
      "Bans refused: the source is protected, the table full, or a ninth prefix length");
  add("sluice_guard_generation", {}, static_cast<double>(generation()), false,
      "Generation of the rules in force");
  for (const std::string& name : attached()) {
    add("sluice_guard_attached", {{"interface", name}}, 1, false,
        "Interfaces that the guard hangs on");
  }
  return out;
}

int PinnedGuard::on_event(void* context, void* data, std::size_t size) {
  if (size < sizeof(sluice_guard_event)) return 0;
  const auto* self = static_cast<const PinnedGuard*>(context);
  sluice_guard_event event{};
  std::memcpy(&event, data, sizeof(event));
  const auto address = [&](const __u8* bytes) {
    Prefix prefix{{}, 128, event.version == 4};
    std::memcpy(prefix.address.data(), bytes, 16);
    return prefix;
  };
  const auto port = [](std::uint32_t number) {
    return number == SLUICE_GUARD_NO_PORT ? -1 : static_cast<int>(number);
  };
  DropEvent out;
  out.when = std::chrono::nanoseconds(event.when);
  out.reason = event.reason == SLUICE_GUARD_DROP_BAN ? "ban" : "rule";
  if (event.counter != SLUICE_GUARD_NO_RULE) out.rule = self->counters_.name_of(event.counter);
  out.from = address(event.from);
  out.to = address(event.to);
  out.protocol = event.protocol == SLUICE_GUARD_NO_PROTOCOL ? -1 : event.protocol;
  out.from_port = port(event.from_port);
  out.to_port = port(event.to_port);
  out.interface_index = event.interface_index;
  (*self->receive_)(out);
  return 0;
}

void PinnedGuard::poll_events(const std::function<void(const DropEvent&)>& receive) {
  if (!events_) {
    events_.reset(
        ring_buffer__new(bpf_map__fd(maps_.program().maps.guard_events), on_event, this, nullptr));
    if (!events_) return;
  }
  std::atomic_ref(maps_.state()->events_until)
      .store(monotonic_ns() + kEventsFor, std::memory_order_relaxed);
  receive_ = &receive;
  ring_buffer__consume(events_.get());
  receive_ = nullptr;
}

std::vector<std::string> PinnedGuard::remove() {
  std::vector<std::string> removed = attachment_.remove();
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, maps_.program().obj) {
    if (pins_.remove(bpf_map__name(map)))
      removed.push_back("pin " + pins_.path(bpf_map__name(map)));
  }
  if (pins_.remove("guard_bans")) removed.push_back("pin " + pins_.path("guard_bans"));
  return removed;
}

}  // namespace

Result<std::unique_ptr<Guard>> Guard::open(const PinDirectory& pins, GuardAttach attach) {
  auto changes = NetworkChanges::subscribe();  // before the dump, so that nothing falls in between
  if (!changes) return std::unexpected(changes.error());
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  auto maps = GuardMaps::open(pins);
  if (!maps) return std::unexpected(maps.error());
  auto bans =
      GuardBans::open(pins, bpf_map__fd(maps->program().maps.guard_ban_table), maps->state());
  if (!bans) return std::unexpected(bans.error());
  auto attachment = GuardAttachment::open(pins, attach, maps->program_fd());
  if (!attachment) return std::unexpected(attachment.error());
  auto guard = std::make_unique<PinnedGuard>(pins, std::move(*maps), std::move(*bans),
                                             std::move(*attachment), std::move(*changes),
                                             std::move(*network));
  if (auto ok = guard->publish_addresses(); !ok) return std::unexpected(ok.error());
  return guard;
}

std::vector<std::string> Guard::cleanup(const std::string& pin_root) {
  std::vector<std::string> removed = detach_pinned_guard(pin_directory_path(pin_root));
  std::ranges::move(remove_pins(pin_root, "guard_"), std::back_inserter(removed));
  return removed;
}

}  // namespace sluice::kernel
