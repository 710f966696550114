#include "kernel/steering.h"

#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/bpf.h>
#include <optional>
#include <set>

#include "kernel/message.h"
#include "kernel/prefix_text.h"
#include "kernel/steer_choice.h"
#include "kernel/steer_cookies.h"
#include "kernel/steer_counters.h"
#include "kernel/steer_exits.h"
#include "kernel/steer_groups.h"
#include "kernel/steer_samples.h"
#include "kernel/steer_slots.h"
#include "kernel/steer_state.h"
#include "kernel/steer_table.h"
#include "kernel/steer_tc.h"
#include "kernel/uninterrupted.h"
#include "steer.skel.h"

namespace sluice::kernel {
namespace {

constexpr const char* kLinkPin = "steer_link";

struct SkeletonDeleter {
  void operator()(steer_bpf* skeleton) const { steer_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<steer_bpf, SkeletonDeleter>;

// libbpf pins a map that is new and takes a pinned one that fits.
Skeleton load_program(const PinDirectory& pins) {
  Skeleton skeleton(steer_bpf__open());
  if (!skeleton) return nullptr;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    if (bpf_map__set_pin_path(map, pins.path(bpf_map__name(map)).c_str()) != 0) return nullptr;
  }
  const Uninterrupted loading;
  if (steer_bpf__load(skeleton.get()) != 0) return nullptr;
  return skeleton;
}

void remove_map_pins(const PinDirectory& pins) {
  for (const char* map :
       {"steer_sources", "steer_dests", "steer_segments", "steer_state", "steer_sockets",
        "steer_counters", "steer_groups", "steer_ports", "steer_ifaces", "steer_mark",
        "steer_exits", "steer_own", "express_groups", "express_guests"}) {
    pins.remove(map);
  }
}

struct Compiled {
  Plan plan;  // what steering needs of it: no guard
  NodeView node;
  SteerGroups groups;
  std::vector<std::uint16_t> used_groups;
  std::vector<OwnedSocket> sockets;
  std::uint32_t slot = 0;
  std::vector<SteerTable::Exit> exits;  // of steering tc
  std::size_t sources = 0, destinations = 0, segments = 0;
  bool by_tc() const { return uses(plan, SteerBy::tc); }
};

// Those of way forward that nftables turns, and sk_lookup gives their socket.
bool forwards_by_lookup(const Plan& plan) {
  return std::ranges::any_of(plan.intercepts, [](const Intercept& entry) {
    return entry.way == WayIn::forward && entry.steering == SteerBy::sk_lookup;
  });
}

// Interfaces come and go with every container.
bool same_for(const Plan& plan, const NodeView& before, const NodeView& now) {
  const bool by_interface =
      std::any_of(plan.protect.begin(), plan.protect.end(),
                  [](const Protect& protect) { return !protect.interfaces.empty(); });
  return before.addresses == now.addresses &&
         (!by_interface || before.interfaces == now.interfaces);
}

class SteeringImpl final : public Steering {
 public:
  SteeringImpl(const PinDirectory& pins, Skeleton skeleton, bool tcx)
      : pins_(pins),
        skeleton_(std::move(skeleton)),
        state_(bpf_map__fd(skeleton_->maps.steer_state)),
        counters_(bpf_map__fd(skeleton_->maps.steer_counters)),
        exits_(bpf_map__fd(skeleton_->maps.steer_exits)),
        taking_(pins, bpf_program__fd(skeleton_->progs.sluice_take), tcx),
        cookies_(pins) {}

  Result<void> start() {
    if (!state_.valid())
      return std::unexpected(Error{"steering: cannot map steer_state into memory"});
    sluice_steer_mark mark{};
    const __u32 zero = 0;
    bpf_map_lookup_elem(fd(skeleton_->maps.steer_mark), &zero, &mark);
    judges_ = mark.judges != 0;  // since an earlier keeper, whose on_exit holds until the next plan
    return adopt_link();
  }

  Result<void> prepare(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                       const NodeView& node) override {
    auto compiled = compile(plan, sockets, node);
    if (!compiled) return std::unexpected(compiled.error());
    prepared_ = std::move(*compiled);
    return {};
  }

  Result<void> commit() override;
  void revert() override;
  void settle() override;
  void abandon() override { prepared_.reset(); }

  Result<bool> follow(const NodeView& node) override {
    follow_cookies(node);
    if (!active_ || prepared_ || active_->used_groups.empty() ||
        same_for(active_->plan, active_->node, node)) {
      return false;
    }
    auto compiled = compile(active_->plan, active_->sockets, node);
    if (!compiled) return std::unexpected(compiled.error());
    if (served_) exits_.renew(compiled->slot, compiled->exits);
    state_.flip(compiled->plan.generation);
    active_ = std::move(*compiled);
    return true;
  }

  Result<void> tick(bool gateway_alive, const NodeView& node) override;
  void keep_leases() override;
  void stop_intercepting() override {
    judges_ = false;
    write_mark();
  }
  std::vector<Arrivals> arrivals() const override;

  std::uint64_t generation() const override { return state_.generation(); }
  std::vector<Sample> samples() const override;

  void remove() override {
    cookies_.follow({}, -1, false);
    taking_.remove();
    detach();
    remove_map_pins(pins_);
  }

 private:
  static int fd(const bpf_map* map) { return bpf_map__fd(map); }
  int program() const { return bpf_program__fd(skeleton_->progs.sluice_steer); }

  void follow_cookies(const NodeView& node);
  void write_mark();
  void write_own(const NodeView& node);
  Result<void> begin_to_take();
  Result<void> adopt_link();
  Result<void> attach();
  void detach();
  void restore_previous();
  Result<Compiled> compile(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                           const NodeView& node);
  Result<void> assign_groups(Compiled& compiled) const;
  Result<void> put_sockets(const Compiled& compiled);
  void write_express(const Compiled& compiled);
  void drop_unused_sockets();
  void guard_ports(const Compiled& compiled);
  void release_ports();

  const PinDirectory& pins_;
  Skeleton skeleton_;
  SteerState state_;
  Descriptor link_;
  SteerCounters counters_;
  SteerExits exits_;
  SteerTc taking_;
  SteerCookies cookies_;
  bool served_ = false;  // somebody serves, as of the last commit or tick
  bool judges_ = false;  // the program of steering tc decides about new connections
  std::optional<Compiled> active_;
  std::optional<Compiled> prepared_;
  std::optional<Compiled> previous_;  // between commit() and settle() or revert()
  std::uint64_t previous_generation_ = 0;
  bool attached_by_commit_ = false;
  bool took_by_commit_ = false;  // likewise, the program of steering tc
};

Result<void> SteeringImpl::commit() {
  if (!prepared_) return std::unexpected(Error{"steering: nothing is prepared"});
  previous_ = std::exchange(active_, std::nullopt);
  previous_generation_ = state_.generation();
  active_ = std::move(*prepared_);
  prepared_.reset();
  attached_by_commit_ = !link_ && !active_->used_groups.empty();
  auto ok = put_sockets(*active_);
  if (ok) {
    active_->groups.write(fd(skeleton_->maps.steer_groups));
    if (attached_by_commit_) ok = attach();
  }
  if (ok) ok = begin_to_take();
  if (ok) {
    served_ = true;
    exits_.renew(active_->slot, active_->exits);
    state_.flip(active_->plan.generation);
    return {};
  }
  restore_previous();
  return ok;
}

void SteeringImpl::write_mark() {
  if (!active_) return;
  const Marks& marks = active_->plan.marks;
  const sluice_steer_mark mark{.value = marks.intercepted(),
                               .mask = marks.mask,
                               .judges = judges_ && active_->by_tc(),
                               .reserved = 0};
  const __u32 zero = 0;
  bpf_map_update_elem(fd(skeleton_->maps.steer_mark), &zero, &mark, BPF_ANY);
}

// More than the map holds are told by their sockets, at the price of a mark that changes nothing.
void SteeringImpl::write_own(const NodeView& node) {
  using Key = std::array<std::uint8_t, 16>;
  const int map = fd(skeleton_->maps.steer_own);
  std::set<Key> wanted, gone;
  for (const auto& address : node.addresses)
    wanted.insert(address.address);
  Key key{};
  for (const Key* from = nullptr; bpf_map_get_next_key(map, from, &key) == 0; from = &key) {
    if (wanted.erase(key) == 0) gone.insert(key);
  }
  for (const Key& old : gone)
    bpf_map_delete_elem(map, &old);
  const __u32 own = 1;
  for (const Key& added : wanted)
    bpf_map_update_elem(map, &added, &own, BPF_ANY);
}

// Its program hangs before the tables switch, and until settle() judges no new connection: what it
// took would have no route yet.
Result<void> SteeringImpl::begin_to_take() {
  took_by_commit_ = active_->by_tc() && taking_.attached() == 0;
  if (!active_->by_tc()) return {};
  judges_ = judges_ && taking_.attached() > 0;
  write_mark();
  write_own(active_->node);
  return taking_.follow(active_->node, active_->plan.tc_interfaces);
}

Result<void> SteeringImpl::tick(bool gateway_alive, const NodeView& node) {
  served_ = gateway_alive;
  if (!active_ || !active_->by_tc()) return {};
  if (served_) exits_.renew(active_->slot, active_->exits);
  write_own(node);
  return taking_.follow(node, active_->plan.tc_interfaces);
}

void SteeringImpl::keep_leases() {
  if (active_ && active_->by_tc() && judges_) exits_.renew(active_->slot, active_->exits);
}

void SteeringImpl::follow_cookies(const NodeView& node) {
  const bool wanted = active_ && forwards_by_lookup(active_->plan);
  if (wanted) write_mark();
  cookies_.follow(node, bpf_program__fd(skeleton_->progs.sluice_cookie), wanted);
}

// Without a predecessor of our own the slot that an adopted link reads is another process' and
// full.
void SteeringImpl::revert() {
  state_.flip(previous_generation_);
  restore_previous();
}

void SteeringImpl::restore_previous() {
  if (attached_by_commit_) detach();
  active_ = std::exchange(previous_, std::nullopt);
  if (!active_) {
    if (took_by_commit_) taking_.leave();
    return;
  }
  put_sockets(*active_);
  settle();
}

void SteeringImpl::settle() {
  previous_.reset();
  drop_unused_sockets();
  release_ports();
  if (active_->used_groups.empty()) detach();
  judges_ = active_->by_tc();
  write_mark();
  if (!judges_) taking_.leave();
  follow_cookies(active_->node);
}

Result<void> SteeringImpl::adopt_link() {
  Descriptor link = pins_.get(kLinkPin);
  if (!link) return {};
  bpf_link_info info{};
  __u32 length = sizeof(info);
  const bool known = bpf_obj_get_info_by_fd(link.get(), &info, &length) == 0;
  // A namespace that died leaves a severed link (inode 0) behind, and another may have got its
  // number since.
  if (!known || info.netns.netns_ino != pins_.netns_inode()) {
    pins_.remove(kLinkPin);
    return {};
  }
  if (bpf_link_update(link.get(), program(), nullptr) != 0) {
    return std::unexpected(
        Error{message("steering: cannot put the program into the pinned link {}: {}",
                      pins_.path(kLinkPin), std::strerror(errno))});
  }
  link_ = std::move(link);
  return {};
}

Result<void> SteeringImpl::attach() {
  if (link_) return {};
  Descriptor netns(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  Descriptor link(netns ? bpf_link_create(program(), netns.get(), BPF_SK_LOOKUP, nullptr) : -1);
  if (!link) {
    const char* hint = errno == E2BIG ? " (64 programs are attached already)" : "";
    return std::unexpected(
        Error{message("steering: cannot attach sk_lookup to the network namespace: {}{}",
                      std::strerror(errno), hint)});
  }
  if (auto ok = pins_.pin(link.get(), kLinkPin); !ok) return ok;
  link_ = std::move(link);
  return {};
}

void SteeringImpl::detach() {
  pins_.remove(kLinkPin);
  link_.reset();
}

Result<void> SteeringImpl::assign_groups(Compiled& compiled) const {
  for (const auto& intercept : compiled.plan.intercepts) {
    if (intercept.steering == SteerBy::tproxy) continue;
    const auto& name = compiled.plan.listeners[intercept.listener].name;
    const auto group = compiled.groups.assign(name, intercept.way);
    if (!group) {
      return std::unexpected(
          Error{message("steering: more than {} listeners and ways; {} has no place",
                        SLUICE_STEER_MAX_GROUPS, name)});
    }
    compiled.used_groups.push_back(*group);
  }
  return {};
}

Result<Compiled> SteeringImpl::compile(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                                       const NodeView& node) {
  if (plan.workers < 1 || plan.workers > SLUICE_STEER_MAX_WORKERS) {
    return std::unexpected(Error{
        message("workers: {} is not between 1 and {}", plan.workers, SLUICE_STEER_MAX_WORKERS)});
  }
  Compiled compiled{.plan = plan,
                    .node = node,
                    .groups = SteerGroups::read(fd(skeleton_->maps.steer_groups)),
                    .used_groups = {},
                    .sockets = sockets,
                    .exits = {}};
  compiled.plan.guard = {};
  if (auto ok = assign_groups(compiled); !ok) return std::unexpected(ok.error());
  const auto group_of = [&](std::uint32_t listener, WayIn way) {
    return compiled.groups.find(plan.listeners[listener].name, way).value_or(0);
  };
  auto table = compile_steer_table(compiled.plan, node, group_of);
  if (!table) return std::unexpected(table.error());
  compiled.sources = table->sources.size();
  compiled.destinations = table->destinations.size();
  compiled.segments = table->segments.size();
  const SteerMaps maps{fd(skeleton_->maps.steer_sources), fd(skeleton_->maps.steer_dests),
                       fd(skeleton_->maps.steer_segments), fd(skeleton_->maps.steer_ifaces)};
  compiled.slot = state_.other_slot();
  compiled.exits = table->exits;
  if (auto ok = fill_steer_slot(maps, compiled.slot, *table); !ok)
    return std::unexpected(ok.error());
  exits_.fill(compiled.slot, compiled.exits);
  return compiled;
}

// Both plans' ports while the sockets of both are open.
void SteeringImpl::guard_ports(const Compiled& compiled) {
  for (const auto& socket : compiled.sockets) {
    if (socket.way == WayIn::bind) continue;
    const __u32 port = port_of(socket.fd->get());
    const __u32 use = socket.by_tproxy ? SLUICE_STEER_PORT_TPROXY : SLUICE_STEER_PORT_STEERED;
    bpf_map_update_elem(fd(skeleton_->maps.steer_ports), &port, &use, BPF_ANY);
  }
}

void SteeringImpl::release_ports() {
  std::set<__u32> used, gone;
  for (const auto& socket : active_->sockets) {
    if (socket.way != WayIn::bind) used.insert(port_of(socket.fd->get()));
  }
  const int map = fd(skeleton_->maps.steer_ports);
  __u32 port = 0;
  for (const __u32* from = nullptr; bpf_map_get_next_key(map, from, &port) == 0; from = &port) {
    if (!used.contains(port)) gone.insert(port);
  }
  for (const __u32 key : gone)
    bpf_map_delete_elem(map, &key);
}

void SteeringImpl::write_express(const Compiled& compiled) {
  for (const auto& intercept : compiled.plan.intercepts) {
    const Listener& listener = compiled.plan.listeners[intercept.listener];
    const auto group = compiled.groups.find(listener.name, intercept.way);
    if (!group) continue;
    const __u32 key = *group;
    const __u32 wanted = listener.express ? 1 : 0;
    bpf_map_update_elem(fd(skeleton_->maps.express_groups), &key, &wanted, BPF_ANY);
  }
}

Result<void> SteeringImpl::put_sockets(const Compiled& compiled) {
  guard_ports(compiled);
  write_express(compiled);
  const SteerGroups known = SteerGroups::read(fd(skeleton_->maps.steer_groups));
  for (const auto& socket : compiled.sockets) {
    if (socket.way == WayIn::bind || socket.by_tproxy) continue;
    const auto& name = compiled.plan.listeners[socket.listener].name;
    const auto group = compiled.groups.find(name, socket.way);
    if (!group) continue;
    if (!known.find(name, socket.way) && socket.worker == 0) counters_.clear(*group);
    const __u32 index = *group * SLUICE_STEER_MAX_WORKERS + socket.worker;
    const __u64 value = static_cast<__u64>(socket.fd->get());
    if (bpf_map_update_elem(fd(skeleton_->maps.steer_sockets), &index, &value, BPF_ANY) != 0) {
      return std::unexpected(
          Error{message("steering: the kernel refuses the socket of listener {}, way {}: {}", name,
                        to_text(socket.way), std::strerror(errno))});
    }
  }
  return {};
}

void SteeringImpl::drop_unused_sockets() {
  const auto drop = [&](std::uint32_t group, std::uint32_t from) {
    for (__u32 worker = from; worker < SLUICE_STEER_MAX_WORKERS; worker++) {
      const __u32 index = group * SLUICE_STEER_MAX_WORKERS + worker;
      bpf_map_delete_elem(fd(skeleton_->maps.steer_sockets), &index);
    }
  };
  for (const auto group : active_->groups.keep_only(active_->used_groups))
    drop(group, 0);
  for (const auto group : active_->used_groups)
    drop(group, active_->plan.workers);
  active_->groups.write(fd(skeleton_->maps.steer_groups));
}

std::vector<Steering::Arrivals> SteeringImpl::arrivals() const {
  std::vector<Arrivals> out;
  if (!active_) return out;
  std::set<std::uint32_t> seen;
  for (const auto& intercept : active_->plan.intercepts) {
    if (intercept.way != WayIn::forward || intercept.steering != SteerBy::sk_lookup ||
        !seen.insert(intercept.listener).second)
      continue;
    const auto& name = active_->plan.listeners[intercept.listener].name;
    const auto group = active_->groups.find(name, intercept.way);
    if (!group) continue;
    const auto counted = counters_.of(*group);
    out.push_back({name, counted.arrived, counted.lookups});
  }
  return out;
}

std::vector<Sample> SteeringImpl::samples() const {
  if (!active_) return {};
  return steer_samples({.plan = active_->plan,
                        .groups = active_->groups,
                        .counters = counters_,
                        .sources = active_->sources,
                        .destinations = active_->destinations,
                        .segments = active_->segments,
                        .tc_interfaces = taking_.attached(),
                        .cookie_interfaces = cookies_.attached()});
}

class NoSteering final : public Steering {
 public:
  Result<void> prepare(const Plan& plan, const std::vector<OwnedSocket>&,
                       const NodeView&) override {
    if (!uses(plan, SteerBy::sk_lookup) && !uses(plan, SteerBy::tc)) return {};
    return std::unexpected(Error{"steering: this kernel has no sk_lookup"});
  }
  Result<void> commit() override { return {}; }
  void revert() override {}
  void settle() override {}
  void abandon() override {}
  Result<bool> follow(const NodeView&) override { return false; }
  Result<void> tick(bool, const NodeView&) override { return {}; }
  void keep_leases() override {}
  void stop_intercepting() override {}
  std::vector<Arrivals> arrivals() const override { return {}; }
  std::uint64_t generation() const override { return 0; }
  std::vector<Sample> samples() const override { return {}; }
  void remove() override {}
};

}  // namespace

std::unique_ptr<Steering> Steering::none() {
  return std::make_unique<NoSteering>();
}

Result<std::unique_ptr<Steering>> Steering::open(const PinDirectory& pins, bool tcx) {
  Skeleton skeleton = load_program(pins);
  if (!skeleton && errno == EINVAL) {
    // Pinned maps of another shape under our version: made by a build that was never released.
    // Nothing of value.
    remove_map_pins(pins);
    skeleton = load_program(pins);
  }
  if (!skeleton) {
    return std::unexpected(
        Error{message("steering: cannot load the sk_lookup program: {} (needs Linux 5.17 or "
                      "later, CAP_BPF and CAP_NET_ADMIN)",
                      std::strerror(errno))});
  }
  auto steering = std::make_unique<SteeringImpl>(pins, std::move(skeleton), tcx);
  if (auto ok = steering->start(); !ok) return std::unexpected(ok.error());
  return steering;
}

}  // namespace sluice::kernel
