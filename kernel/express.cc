#include "kernel/express.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <set>
#include <sys/socket.h>

#include "express.skel.h"
#include "kernel/abi_express.h"
#include "kernel/cgroup_mount.h"
#include "kernel/express_probe.h"
#include "kernel/message.h"
#include "kernel/uninterrupted.h"

namespace sluice::kernel {
namespace {

constexpr unsigned kSweep = 30;  // ticks
constexpr const char* kLinkPin = "express_link";
// But for express_guests, which is steering's too, whether or not there is a lane.
constexpr const char* kMaps[] = {"express_state",  "express_sockets", "express_ends",
                                 "express_flows",  "express_offers",  "express_binds",
                                 "express_counts", "express_ports",   "express_recent"};

struct SkeletonDeleter {
  void operator()(express_bpf* skeleton) const { express_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<express_bpf, SkeletonDeleter>;

Skeleton load_programs(const PinDirectory& pins) {
  Skeleton skeleton(express_bpf__open());
  if (!skeleton) return nullptr;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    if (bpf_map__set_pin_path(map, pins.path(bpf_map__name(map)).c_str()) != 0) return nullptr;
  }
  const Uninterrupted loading;
  if (express_bpf__load(skeleton.get()) != 0) return nullptr;
  return skeleton;
}

__u64 netns_cookie() {
  const Descriptor any(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  __u64 cookie = 0;
  socklen_t length = sizeof cookie;
  if (!any || ::getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) return 0;
  return cookie;
}

sluice_express_service service_of(const Listener& listener) {
  sluice_express_service service{};
  std::memcpy(service.address, listener.bind_address->address.data(), sizeof service.address);
  service.port = listener.bind_port;
  return service;
}

struct Less {
  bool operator()(const sluice_express_service& a, const sluice_express_service& b) const {
    return std::memcmp(&a, &b, sizeof a) < 0;
  }
};

std::vector<sluice_express_counters> one_for_each_processor() {
  return std::vector<sluice_express_counters>(
      static_cast<std::size_t>(std::max(1, libbpf_num_possible_cpus())));
}

Prefix host(const __u32 (&address)[4]) {
  Prefix out{.length = 128};
  std::memcpy(out.address.data(), address, sizeof address);
  out.v4 = address[0] == 0 && address[1] == 0 && address[2] == htonl(0xffff);
  return out;
}

__u32 admitted(const Plan& plan) {
  __u32 out = 0;
  if (plan.express_upstreams) out |= SLUICE_EXPRESS_UPSTREAMS;
  const auto express = [&](const Intercept& entry) {
    return plan.listeners[entry.listener].express;
  };
  if (std::ranges::any_of(plan.intercepts, express)) out |= SLUICE_EXPRESS_GUESTS;
  for (const Listener& listener : plan.listeners)
    if (listener.express && listener.bind_address) out |= SLUICE_EXPRESS_BINDS;
  return out;
}

class ExpressImpl final : public Express {
 public:
  explicit ExpressImpl(const PinDirectory& pins) : pins_(pins) {
    const __u32 zero = 0;
    if (pins_.get(kLinkPin) && attach().empty())
      bpf_map_lookup_elem(fd(skeleton_->maps.express_state), &zero, &in_force_);
  }

  void prepare(const Plan& plan) override;
  void abandon() override;
  void follow(const Plan& plan) override;
  void tick() override {
    if (!skeleton_) return;
    if (++ticks_ % kSweep == 0) {
      sweep();
      try_again();
    }
    if (!asked_ && !prepared_ && empty()) remove();
  }
  std::string unavailable() const override { return asked_ ? why_not_ : std::string(); }
  std::vector<Sample> samples() const override;
  std::vector<ExpressConnection> connections(std::size_t most) const override;
  void remove() override;

 private:
  int fd(const bpf_map* map) const { return bpf_map__fd(map); }
  std::string attach();
  std::string hang_at_root();
  std::string probe(const Plan& plan);
  void try_it(const Plan& plan);
  void admit(const sluice_express_state& state);
  void write_binds(const Plan& plan);
  sluice_express_counters counted(__u32 kind) const;
  bool empty() const;
  std::uint64_t open_of(__u32 kind, const sluice_express_counters& sum) const;
  void try_again();
  bool has_end(__u64 flow) const;
  void sweep();

  const PinDirectory& pins_;
  Skeleton skeleton_;
  Descriptor link_;
  unsigned ticks_ = 0;
  std::array<std::uint64_t, 2> swept_{};  // by kind: of those that entered
  sluice_express_state in_force_{};
  bool asked_ = false;
  bool prepared_ = false;
  bool tried_ = false;
  bool outside_ = false;  // the connection that was tried did not enter
  Plan plan_;             // as it was tried with, while it did not
  std::string why_not_;
};

std::string refusal(const char* what) {
  return message("{}: {}", what, std::strerror(errno));
}

// Others' programs at the root go on (links are always "multi").
std::string ExpressImpl::hang_at_root() {
  const int program = bpf_program__fd(skeleton_->progs.sluice_express_enter);
  link_ = pins_.get(kLinkPin);
  if (link_ && bpf_link_update(link_.get(), program, nullptr) == 0) return {};
  const std::string mount = cgroup2_root();
  if (mount.empty())
    return "no mount of the root of cgroup2 is seen; a container sees its own control groups "
           "alone: "
           "mount the host's /sys/fs/cgroup into it";
  const Descriptor root(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return message("cgroup2 at {}: {}", mount, std::strerror(errno));
  link_ = Descriptor(bpf_link_create(program, root.get(), BPF_CGROUP_SOCK_OPS, nullptr));
  if (!link_) return message("sockops at {}: {}", mount, std::strerror(errno));
  if (auto ok = pins_.pin(link_.get(), kLinkPin); !ok) return ok.error().message;
  return {};
}

// Empty, or why not.
std::string ExpressImpl::attach() {
  if (skeleton_) return {};
  skeleton_ = load_programs(pins_);
  if (!skeleton_) return refusal("the kernel refuses its programs");
  if (bpf_prog_attach(bpf_program__fd(skeleton_->progs.sluice_express_send),
                      fd(skeleton_->maps.express_sockets), BPF_SK_MSG_VERDICT, 0) != 0)
    return refusal("sk_msg");
  return hang_at_root();
}

sluice_express_state state_of(const Plan& plan, __u32 admits) {
  sluice_express_state state{};
  state.netns = netns_cookie();
  if (uses_marks(plan)) {
    state.mark = plan.marks.gateway();
    state.mask = plan.marks.mask;
  }
  state.admits = admits;
  return state;
}

void ExpressImpl::admit(const sluice_express_state& state) {
  const __u32 zero = 0;
  bpf_map_update_elem(fd(skeleton_->maps.express_state), &zero, &state, BPF_ANY);
}

void ExpressImpl::write_binds(const Plan& plan) {
  std::set<sluice_express_service, Less> wanted, gone;
  for (const Listener& listener : plan.listeners)
    if (listener.express && listener.bind_address) wanted.insert(service_of(listener));
  const int map = fd(skeleton_->maps.express_binds);
  sluice_express_service key{};
  for (const sluice_express_service* from = nullptr; bpf_map_get_next_key(map, from, &key) == 0;
       from = &key)
    if (!wanted.contains(key)) gone.insert(key);
  const int ports = fd(skeleton_->maps.express_ports);
  const auto mark = [&](const sluice_express_service& service, __u8 bound) {
    bpf_map_update_elem(ports, &service.port, &bound, BPF_ANY);
  };
  const __u32 one = 1;
  for (const auto& old : gone) {
    bpf_map_delete_elem(map, &old);
    mark(old, 0);
  }
  for (const auto& service : wanted) {
    bpf_map_update_elem(map, &service, &one, BPF_ANY);
    mark(service, 1);
  }
}

// With an upstream of its own, which nobody shall find counted.
std::string ExpressImpl::probe(const Plan& plan) {
  const auto before = counted(0).entered;
  admit(state_of(plan, SLUICE_EXPRESS_UPSTREAMS));
  std::string why = probe_express(uses_marks(plan) ? plan.marks.gateway() : 0);
  outside_ = why.empty() && counted(0).entered == before;
  if (outside_)
    why =
        "a connection of its own, tried over lo, did not enter (is the root of cgroup2 what is "
        "mounted here?)";
  if (before == 0) {
    const __u32 upstreams = 0;
    const auto none = one_for_each_processor();
    bpf_map_update_elem(fd(skeleton_->maps.express_counts), &upstreams, none.data(), BPF_ANY);
  }
  return why;
}

// Once: what the kernel refused it refuses again.
void ExpressImpl::try_it(const Plan& plan) {
  if (std::exchange(tried_, true)) return;
  why_not_ = attach();
  if (why_not_.empty()) why_not_ = probe(plan);
}

void ExpressImpl::prepare(const Plan& plan) {
  if (!asks_for_express(plan)) return;
  prepared_ = true;
  try_it(plan);
  if (!skeleton_) return;
  const __u32 more = plan.express_upstreams && why_not_.empty() ? SLUICE_EXPRESS_UPSTREAMS : 0;
  admit(state_of(plan, in_force_.admits | more));
}

void ExpressImpl::abandon() {
  if (std::exchange(prepared_, false) && skeleton_) admit(in_force_);
}

void ExpressImpl::follow(const Plan& plan) {
  prepared_ = false;
  asked_ = asks_for_express(plan);
  if (asked_) try_it(plan);
  if (!skeleton_) return;
  plan_ = outside_ ? plan : Plan{};
  in_force_ = state_of(plan, why_not_.empty() ? admitted(plan) : 0);
  admit(in_force_);
  write_binds(plan);
}

sluice_express_counters ExpressImpl::counted(__u32 kind) const {
  sluice_express_counters sum{};
  auto each = one_for_each_processor();
  if (!skeleton_ ||
      bpf_map_lookup_elem(fd(skeleton_->maps.express_counts), &kind, each.data()) != 0)
    return sum;
  for (const auto& one : each) {
    sum.entered += one.entered;
    sum.ended += one.ended;
    sum.to_gateway += one.to_gateway;
    sum.from_gateway += one.from_gateway;
    sum.tcp_to_gateway += one.tcp_to_gateway;
    sum.tcp_from_gateway += one.tcp_from_gateway;
    sum.refused += one.refused;
    for (std::size_t reason = 0; reason < std::size(sum.left); ++reason)
      sum.left[reason] += one.left[reason];
  }
  return sum;
}

// Of connections that entered, or made an offer.
bool ExpressImpl::empty() const {
  __u64 any = 0;
  return bpf_map_get_next_key(fd(skeleton_->maps.express_flows), nullptr, &any) != 0;
}

std::uint64_t ExpressImpl::open_of(__u32 kind, const sluice_express_counters& sum) const {
  return sum.entered - std::min(sum.entered, sum.ended + swept_[kind]);
}

// A predecessor's programs, which go on until it has ended, were there first.
void ExpressImpl::try_again() {
  if (!asked_ || !outside_) return;
  tried_ = false;
  follow(Plan(plan_));
}

bool ExpressImpl::has_end(__u64 flow) const {
  __u64 cookie = 0;
  for (const __u32 side : {0U, 1U}) {
    const sluice_express_end end{.flow = flow, .side = side, .reserved = 0};
    if (bpf_map_lookup_elem(fd(skeleton_->maps.express_sockets), &end, &cookie) == 0) return true;
  }
  return false;
}

// Somebody else's sockops program can take away the callback by which ours hears of an end.
void ExpressImpl::sweep() {
  const int map = fd(skeleton_->maps.express_flows);
  std::vector<__u64> gone;
  __u64 key = 0;
  for (const __u64* from = nullptr; bpf_map_get_next_key(map, from, &key) == 0; from = &key)
    if (!has_end(key)) gone.push_back(key);
  for (const __u64 old : gone) {
    sluice_express_flow flow{};
    const bool counted =
        bpf_map_lookup_elem(map, &old, &flow) == 0 && flow.joined == SLUICE_EXPRESS_JOINED;
    if (bpf_map_delete_elem(map, &old) == 0 && counted) ++swept_[flow.gateway & 1];
  }
}

struct Reason {
  sluice_express_left left;
  const char* name;
};
constexpr std::array<Reason, 5> kReasons{{{SLUICE_EXPRESS_REMOTE, "remote"},
                                          {SLUICE_EXPRESS_BURST, "burst"},
                                          {SLUICE_EXPRESS_TLS, "tls"},
                                          {SLUICE_EXPRESS_GONE, "peer_closed"},
                                          {SLUICE_EXPRESS_ASKED, "gateway"}}};

const char* reason_of(__u32 left) {
  for (const Reason& one : kReasons)
    if (one.left == left) return one.name;
  return "";
}

std::vector<Sample> ExpressImpl::samples() const {
  std::vector<Sample> out;
  if (!skeleton_) return out;
  using Labels = std::vector<std::pair<std::string, std::string>>;
  const auto add = [&](const char* name, Labels labels, std::uint64_t value, bool counter,
                       const char* help) {
    out.push_back({name, std::move(labels), static_cast<double>(value), counter, help});
  };
  constexpr const char* kBytes =
      "Bytes of connections that entered the express lane, by the way they went.";
  for (const __u32 kind : {0U, 1U}) {
    const char* const peer = kind == 0 ? "upstream" : "client";
    const auto sum = counted(kind);
    add("sluice_express_connections", {{"peer", peer}}, open_of(kind, sum), false,
        "Open connections that entered the express lane.");
    add("sluice_express_connections_total", {{"peer", peer}}, sum.entered, true,
        "Connections that entered the express lane.");
    add("sluice_express_refused_total", {{"peer", peer}}, sum.refused, true,
        "Connections that could not enter: no room, or another program has the socket.");
    const auto bytes = [&](const char* direction, const char* way, std::uint64_t value) {
      add("sluice_express_bytes_total", {{"peer", peer}, {"direction", direction}, {"way", way}},
          value, true, kBytes);
    };
    bytes("received", "express", sum.to_gateway);
    bytes("sent", "express", sum.from_gateway);
    bytes("received", "tcp", sum.tcp_to_gateway);
    bytes("sent", "tcp", sum.tcp_from_gateway);
    for (const Reason& one : kReasons)
      add("sluice_express_left_total", {{"peer", peer}, {"reason", one.name}}, sum.left[one.left],
          true, "Directions of connections that left the express lane for TCP, for good.");
  }
  return out;
}

std::vector<ExpressConnection> ExpressImpl::connections(std::size_t most) const {
  std::vector<ExpressConnection> out;
  if (!skeleton_) return out;
  const int map = fd(skeleton_->maps.express_flows);
  __u64 key = 0;
  for (const __u64* from = nullptr; out.size() < most && bpf_map_get_next_key(map, from, &key) == 0;
       from = &key) {
    sluice_express_flow flow{};
    if (bpf_map_lookup_elem(map, &key, &flow) != 0 || flow.joined != SLUICE_EXPRESS_JOINED)
      continue;
    const bool gateway_connected = flow.gateway == SLUICE_EXPRESS_ACTIVE;
    const auto& sent = flow.from[flow.gateway & 1];
    const auto& received = flow.from[(flow.gateway & 1) ^ 1];
    ExpressConnection one{.to_upstream = gateway_connected};
    one.from = host(flow.ends.local);
    one.to = host(flow.ends.remote);
    one.from_port = flow.ends.local_port;
    one.to_port = flow.ends.remote_port;
    one.sent = {.express = sent.sent, .tcp = sent.tcp, .left = reason_of(sent.left)};
    one.received = {
        .express = received.sent, .tcp = received.tcp, .left = reason_of(received.left)};
    out.push_back(std::move(one));
  }
  return out;
}

void ExpressImpl::remove() {
  pins_.remove(kLinkPin);
  link_.reset();
  skeleton_.reset();
  swept_ = {};
  in_force_ = {};
  tried_ = false;
  for (const char* map : kMaps)
    pins_.remove(map);
}

}  // namespace

bool asks_for_express(const Plan& plan) {
  return plan.express_upstreams ||
         std::ranges::any_of(plan.listeners, [](const Listener& one) { return one.express; });
}

std::unique_ptr<Express> Express::open(const PinDirectory& pins) {
  return std::make_unique<ExpressImpl>(pins);
}

}  // namespace sluice::kernel
