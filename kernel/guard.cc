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
#include <memory>
#include <net/if.h>
#include <optional>
#include <set>
#include <utility>

#include "kernel/abi_guard.h"
#include "kernel/guard_attach.h"
#include "kernel/guard_bans.h"
#include "kernel/guard_counters.h"
#include "kernel/guard_events.h"
#include "kernel/guard_maps.h"
#include "kernel/guard_monitor.h"
#include "kernel/guard_patch.h"
#include "kernel/guard_places.h"
#include "kernel/guard_samples.h"
#include "kernel/guard_tables.h"
#include "kernel/interfaces.h"
#include "kernel/message.h"
#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

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

struct Compiled {
  GuardPlan plan;
  std::vector<Protect> protect;  // as given
  std::vector<std::uint16_t> host_ports;
  std::vector<Prefix> vital;
  std::vector<GuardTables::InterfaceGroups> interfaces;
  std::vector<std::uint16_t> counters{};
  std::shared_ptr<const GuardTables> tables{};  // of all that
};

class PinnedGuard final : public Guard {
 public:
  // `maps` stays where it is, for the others point to it.
  PinnedGuard(const PinDirectory& pins, std::unique_ptr<GuardMaps> maps, GuardBans bans,
              GuardAttachment attachment, NetworkChanges changes, NodeNetwork network,
              bool reverted)
      : pins_(pins),
        maps_(std::move(maps)),
        counters_(bpf_map__fd(maps_->program().maps.guard_names),
                  bpf_map__fd(maps_->program().maps.guard_counters),
                  bpf_map__fd(maps_->program().maps.guard_buckets), reverted),
        events_(bpf_map__fd(maps_->program().maps.guard_events), maps_->state()),
        bans_(std::move(bans)),
        attachment_(std::move(attachment)),
        changes_(std::move(changes)),
        network_(std::move(network)) {}

  Result<void> prepare(const GuardPlan& plan, const std::vector<Protect>& protect,
                       const std::vector<std::uint16_t>& host_ports) override;
  Result<void> commit(std::uint64_t generation) override;
  void abandon() override;
  bool revert_at(std::optional<std::chrono::steady_clock::time_point> when) override;
  void protect_named_upstreams(std::vector<Prefix> hosts) override {
    std::ranges::sort(hosts);
    const auto rest = std::ranges::unique(hosts);
    hosts.erase(rest.begin(), rest.end());
    if (hosts.size() > kMaxNamedUpstreams) hosts.resize(kMaxNamedUpstreams);
    named_upstreams_ = std::move(hosts);
  }
  Result<void> tick() override;
  int change_fd() const override { return changes_.fd(); }
  Result<void> ban(const Prefix& source, std::chrono::milliseconds duration,
                   const std::string& reason) override;
  Result<bool> unban(const Prefix& source) override { return bans_.remove(masked(source)); }
  bool spares(const Prefix& source) const override;
  bool is_banned_for(const Prefix& source, std::chrono::milliseconds duration) const override {
    return bans_.lasts(masked(source), duration);
  }
  std::vector<Ban> bans() const override { return bans_.list(); }
  std::vector<RuleCounter> rule_counters() const override { return counters_.read(); }
  std::vector<Sample> samples() const override;
  std::uint64_t generation() const override { return maps_->state()->generation; }
  std::vector<std::string> attached() const override;
  std::vector<std::string> missing_interfaces() const override;
  std::vector<Seen> seen(SeenBy by) const override {
    return read_seen(
        maps_->table(by == SeenBy::service ? LazyTable::seen_services : LazyTable::seen_sources));
  }
  void poll_events(const std::function<void(const DropEvent&)>& receive) override {
    events_.poll([this](std::uint16_t counter) { return counters_.name_of(counter); }, receive);
  }
  std::uint64_t unreported_events() const override {
    return read_tally(tallies_map(), SLUICE_GUARD_NOTE_UNREPORTED).packets;
  }
  std::vector<std::string> remove() override;

  Result<void> publish_addresses();

 private:
  bool end_trial_if_over();
  void end_trial(bool reverted);
  Result<void> prepare_compiled(Compiled compiled);
  std::expected<GuardTables, Refused> tables_of(const Compiled& compiled,
                                                const std::vector<std::uint16_t>& counters,
                                                const std::vector<Protect>& protect) const;
  std::vector<std::pair<unsigned, std::uint64_t>> interface_groups(
      const std::vector<GuardTables::InterfaceGroups>& groups) const;
  Result<void> follow_network();
  Result<void> tell_interfaces(std::uint32_t slot, const Compiled& compiled);
  std::vector<Prefix> vital_peers() const;
  GuardSites sites_of(const GuardPlan& plan) const;
  std::optional<Error> refusal(const Prefix& source) const;
  std::string interface_name(unsigned index) const;
  int tallies_map() const { return bpf_map__fd(maps_->program().maps.guard_tallies); }

  const PinDirectory& pins_;
  std::unique_ptr<GuardMaps> maps_;
  GuardCounters counters_;
  GuardEvents events_;
  GuardBans bans_;
  GuardAttachment attachment_;
  NetworkChanges changes_;
  NodeNetwork network_;
  std::vector<Prefix> named_upstreams_;
  std::optional<Compiled> in_force_;  // absent after an adoption, until the first commit
  std::optional<Compiled> prepared_;
  bool release_other_slot_ = false;  // at the next tick: nobody reads it by then
  bool on_trial_ = false;            // the other slot may come back
  bool went_back_ = false;           // from a trial, and no other plan has been prepared since
  std::optional<Compiled> before_;   // while on trial: what the other slot holds
  std::uint64_t generation_before_ = 0;
};

Result<void> PinnedGuard::prepare(const GuardPlan& plan, const std::vector<Protect>& protect,
                                  const std::vector<std::uint16_t>& host_ports) {
  abandon();
  went_back_ = false;
  if (auto network = read_node_network()) network_ = std::move(*network);
  return prepare_compiled({plan, protect, host_ports, vital_peers(), {}});
}

std::vector<Prefix> PinnedGuard::vital_peers() const {
  std::vector<Prefix> out = network_peers(network_);
  std::ranges::copy(named_upstreams_, std::back_inserter(out));
  std::ranges::sort(out);
  const auto rest = std::ranges::unique(out);
  out.erase(rest.begin(), rest.end());
  return out;
}

// steady_clock is CLOCK_MONOTONIC here (libstdc++ on Linux).
std::uint64_t nanoseconds(std::chrono::steady_clock::time_point time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

bool PinnedGuard::revert_at(std::optional<std::chrono::steady_clock::time_point> when) {
  if (when && prepared_ && prepared_->plan.revert_at) {
    prepared_->plan.revert_at = when;
    return true;
  }
  end_trial_if_over();
  if (!on_trial_) return !went_back_;
  if (when) {
    maps_->revert_at(nanoseconds(*when));
    end_trial_if_over();
  } else {
    end_trial(false);
  }
  return !went_back_;
}

bool PinnedGuard::end_trial_if_over() {
  if (!on_trial_ || !maps_->has_reverted()) return false;
  end_trial(true);
  return true;
}

void PinnedGuard::end_trial(bool reverted) {
  maps_->settle_reversal(reverted);
  counters_.end_trial(reverted);
  if (reverted) {
    went_back_ = true;
    in_force_ = std::move(before_);
    maps_->state()->generation = generation_before_;
  }
  before_.reset();
  on_trial_ = false;
  release_other_slot_ = true;
}

Result<void> PinnedGuard::prepare_compiled(Compiled compiled) {
  end_trial_if_over();
  if (on_trial_)
    return std::unexpected(Error{"the guard's rules are on trial; confirm them, or roll back"});
  auto counters = counters_.prepare(compiled.plan.rules);
  if (!counters) return std::unexpected(counters.error());
  std::vector<Protect> protect = compiled.protect;
  for (const Prefix& peer : compiled.vital)
    protect.push_back({peer, {}, {}});
  const GuardPlan& plan = compiled.plan;
  const bool egress = std::ranges::any_of(
      plan.rules, [](const GuardRule& rule) { return rule.direction != GuardDirection::ingress; });
  auto tables = tables_of(compiled, *counters, protect);
  if (!tables) maps_->note_failure(tables.error().table);
  Result<void> done = tables ? attachment_.load_for(plan.hook, egress)
                             : Result<void>(std::unexpected(tables.error().error));
  if (done) done = maps_->fill_other_slot(*tables);
  const std::uint32_t slot = maps_->other_slot();
  if (done) done = maps_->set_interfaces(slot, interface_groups(tables->interfaces));
  if (done) done = maps_->set_places(slot, find_places(plan, network_).entries);
  if (!done) {
    counters_.abandon();
    return done;
  }
  compiled.interfaces = tables->interfaces;
  compiled.counters = std::move(*counters);
  compiled.tables = std::make_shared<const GuardTables>(std::move(*tables));
  prepared_ = std::move(compiled);
  return {};
}

// Mended where only sets have changed in a few places; else from every prefix.
std::expected<GuardTables, Refused> PinnedGuard::tables_of(
    const Compiled& compiled, const std::vector<std::uint16_t>& counters,
    const std::vector<Protect>& protect) const {
  if (in_force_ && in_force_->tables && in_force_->counters == counters &&
      in_force_->protect == compiled.protect && in_force_->vital == compiled.vital &&
      in_force_->host_ports == compiled.host_ports) {
    GuardTables mended = *in_force_->tables;
    if (patch_guard(in_force_->plan, compiled.plan, mended)) return mended;
  }
  return compile_guard(compiled.plan, counters, protect, compiled.host_ports);
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

GuardSites PinnedGuard::sites_of(const GuardPlan& plan) const {
  GuardPlaces places = find_places(plan, network_);
  return {std::move(places.ingress), std::move(places.egress), plan.hook, plan.first};
}

Result<void> PinnedGuard::commit(std::uint64_t generation) {
  if (!prepared_) return std::unexpected(Error{"the guard has nothing prepared to commit"});
  // What may fail comes before the switch; where it is attached too early, the rules in force hold.
  if (auto ok = bans_.set_capacity(prepared_->plan.max_bans); !ok) return ok;
  if (auto ok = publish_addresses(); !ok) return ok;
  const GuardSites sites = sites_of(prepared_->plan);
  if (auto ok = attachment_.attach(sites, true); !ok) return ok;
  const auto revert_at = std::exchange(prepared_->plan.revert_at, std::nullopt);
  on_trial_ = revert_at.has_value() && in_force_.has_value();
  counters_.commit(on_trial_);
  generation_before_ = this->generation();
  maps_->switch_slots(generation, on_trial_ ? nanoseconds(*revert_at) : 0);
  if (on_trial_) before_ = std::move(in_force_);
  in_force_ = std::move(prepared_);
  prepared_.reset();
  attachment_.detach_others(sites);
  release_other_slot_ = !on_trial_;
  return {};
}

void PinnedGuard::abandon() {
  if (!prepared_) return;
  counters_.abandon();
  prepared_.reset();
}

Result<void> PinnedGuard::publish_addresses() {
  const int map = bpf_map__fd(maps_->program().maps.guard_own);
  // Of the map's own keys: the keeper before may have left some.
  using Key = decltype(Prefix::address);
  std::set<Key> gone;
  Key key{};
  for (const Key* at = nullptr; bpf_map_get_next_key(map, at, &key) == 0; at = &key)
    gone.insert(key);
  for (const Prefix& address : network_.addresses)
    gone.erase(address.address);
  for (const Key& address : gone)
    bpf_map_delete_elem(map, address.data());
  const std::uint32_t yes = 1;
  for (const Prefix& address : network_.addresses) {
    if (bpf_map_update_elem(map, address.address.data(), &yes, BPF_ANY) != 0) {
      maps_->note_failure("guard_own_addresses");
      return std::unexpected(Error{message("cannot note the node's own address {}: {}",
                                           to_text(address), std::strerror(errno))});
    }
  }
  return {};
}

Result<void> PinnedGuard::follow_network() {
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  network_ = std::move(*network);
  if (auto ok = publish_addresses(); !ok) return ok;
  std::uint32_t slot = maps_->slot_in_force();
  if (end_trial_if_over()) slot = maps_->slot_in_force();
  if (in_force_) {
    if (auto ok = tell_interfaces(slot, *in_force_); !ok) return ok;
  }
  // What waits for its commit, or for the end of a trial, knows new interfaces from its first
  // packet on.
  const auto& other = prepared_ ? prepared_ : before_;
  return other ? tell_interfaces(slot ^ 1U, *other) : Result<void>{};
}

Result<void> PinnedGuard::tell_interfaces(std::uint32_t slot, const Compiled& compiled) {
  if (auto ok = maps_->set_interfaces(slot, interface_groups(compiled.interfaces)); !ok) return ok;
  return maps_->set_places(slot, find_places(compiled.plan, network_).entries);
}

Result<void> PinnedGuard::tick() {
  bans_.sweep();
  if (!pins_.exists()) return {};  // `cleanup` took it away: nothing is repaired
  Result<void> followed;
  if (changes_.changed()) followed = follow_network();
  attachment_.forget_severed();
  end_trial_if_over();
  if (!in_force_) return followed;
  const GuardSites sites = sites_of(in_force_->plan);
  const auto attached = attachment_.attach(sites, false);
  attachment_.detach_others(sites);
  if (release_other_slot_ && !prepared_) {
    release_other_slot_ = false;
    if (auto ok = maps_->empty_other_slot(); !ok) return ok;
  }
  // A trial keeps both slots: a new default gateway waits for its end.
  if (followed && !prepared_ && !on_trial_ && vital_peers() != in_force_->vital) {
    Compiled again = *in_force_;
    again.vital = vital_peers();
    followed = prepare_compiled(std::move(again));
    if (followed) followed = commit(generation());
  }
  return followed ? attached : followed;
}

bool PinnedGuard::spares(const Prefix& given) const {
  const Prefix source = masked(given);
  if (!in_force_) return maps_->spares(source).value_or(false);
  return std::ranges::any_of(in_force_->protect,
                             [&](const Protect& entry) {
                               return entry.to_ports.empty() && entry.interfaces.empty() &&
                                      covers(entry.peer, source);
                             }) ||
         std::ranges::any_of(in_force_->vital,
                             [&](const Prefix& peer) { return covers(peer, source); });
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
  if (!plan) {  // nobody knows the policy here, and the kernel has what came of it
    return maps_->spares(source).value_or(false)
               ? std::optional(refuse("the policy that was in force last protects it"))
               : std::nullopt;
  }
  for (const Protect& entry : plan->protect) {
    // An entry for some ports or interfaces keeps those open in the kernel; the rest of that source
    // may be banned.
    if (!entry.to_ports.empty() || !entry.interfaces.empty() || !covers(entry.peer, source))
      continue;
    return refuse(message("protect names {}", to_text(entry.peer)));
  }
  // They speak for many others, and nothing else in the kernel spares them.
  for (const Prefix& one : plan->plan.never_banned) {
    if (covers(one, source)) return refuse("it is one of trusted_proxies");
    if (covers(source, one))
      return refuse(message("{}, one of trusted_proxies, is in it", to_text(one)));
  }
  for (const Prefix& peer : plan->vital) {
    if (covers(peer, source))
      return refuse("it is this node's default gateway or resolver, or an upstream of the policy");
  }
  return std::nullopt;
}

Result<void> PinnedGuard::ban(const Prefix& given, std::chrono::milliseconds duration,
                              const std::string& reason) {
  const Prefix source = masked(given);
  if (auto why = refusal(source)) {
    ++maps_->state()->refused_bans;
    return std::unexpected(*why);
  }
  return bans_.add(source, duration, reason);
}

std::string PinnedGuard::interface_name(unsigned index) const {
  const auto found = std::ranges::find(network_.interfaces, index, &Interface::index);
  return found == network_.interfaces.end() ? message("#{}", index) : found->name;
}

std::vector<std::string> PinnedGuard::attached() const {
  std::vector<std::string> out;
  for (const auto& [index, entry] : attachment_.list()) {
    std::string name = interface_name(index);
    if (std::ranges::find(out, name) == out.end()) out.push_back(std::move(name));
  }
  return out;
}

std::vector<std::string> PinnedGuard::missing_interfaces() const {
  if (!in_force_ || !in_force_->plan.enabled) return {};
  return kernel::missing_interfaces(network_, named_interfaces(in_force_->plan));
}

std::vector<Sample> PinnedGuard::samples() const {
  GuardNumbers numbers{.tallies_map = tallies_map(),
                       .rules = rule_counters(),
                       .maps = maps_->use(),
                       .events_waiting = events_.waiting(),
                       .bans = bans_.size(),
                       .bans_capacity = static_cast<double>(bans_.capacity()),
                       .bans_refused = static_cast<double>(maps_->state()->refused_bans),
                       .bans_not_inserted = static_cast<double>(bans_.not_inserted()),
                       .generation = generation(),
                       .attached = {}};
  for (const auto& [index, entry] : attachment_.list())
    numbers.attached.emplace_back(interface_name(index), GuardAttachment::entry_name(entry));
  return guard_samples(numbers);
}

std::vector<std::string> PinnedGuard::remove() {
  std::vector<std::string> removed = attachment_.remove();
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, maps_->program().obj) {
    if (pins_.remove(bpf_map__name(map)))
      removed.push_back("pin " + pins_.path(bpf_map__name(map)));
  }
  std::vector<const char*> tables{"guard_bans"};
  for (const LazyTable& kind : kLazyTables)
    tables.push_back(kind.pin);
  for (const char* table : tables) {
    if (pins_.remove(table)) removed.push_back("pin " + pins_.path(table));
  }
  return removed;
}

}  // namespace

Result<std::unique_ptr<Guard>> Guard::open(const PinDirectory& pins, GuardAttach attach) {
  auto changes = NetworkChanges::subscribe();  // before the dump, so that nothing falls in between
  if (!changes) return std::unexpected(changes.error());
  auto network = read_node_network();
  if (!network) return std::unexpected(network.error());
  auto opened = GuardMaps::open(pins);
  if (!opened) return std::unexpected(opened.error());
  auto maps = std::make_unique<GuardMaps>(std::move(*opened));
  auto bans = GuardBans::open(pins, bpf_map__fd(maps->program().maps.guard_ban_table),
                              maps->state(), maps->ban_gate());
  if (!bans) return std::unexpected(bans.error());
  auto attachment = GuardAttachment::open(pins, attach, *maps);
  if (!attachment) return std::unexpected(attachment.error());
  // A trial whose keeper died ends as it would have: with the rules before.
  const bool reverted = maps->revert_armed();
  if (reverted) maps->settle_reversal(true);
  auto guard =
      std::make_unique<PinnedGuard>(pins, std::move(maps), std::move(*bans), std::move(*attachment),
                                    std::move(*changes), std::move(*network), reverted);
  if (auto ok = guard->publish_addresses(); !ok) return std::unexpected(ok.error());
  return guard;
}

std::vector<std::string> Guard::cleanup(const std::string& pin_root) {
  std::vector<std::string> removed = detach_pinned_guard(pin_directory_path(pin_root));
  std::ranges::move(remove_pins(pin_root, "guard_"), std::back_inserter(removed));
  return removed;
}

}  // namespace sluice::kernel
