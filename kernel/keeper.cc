#include "kernel/keeper.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <optional>
#include <set>
#include <sys/socket.h>
#include <utility>

#include "kernel/builtin_protect.h"
#include "kernel/bypass_signs.h"
#include "kernel/bypass_watch.h"
#include "kernel/change_monitor.h"
#include "kernel/closed_connections.h"
#include "kernel/express.h"
#include "kernel/guard.h"
#include "kernel/interception.h"
#include "kernel/interfaces.h"
#include "kernel/lock_out.h"
#include "kernel/message.h"
#include "kernel/named_upstreams.h"
#include "kernel/node_view.h"
#include "kernel/open_connections.h"
#include "kernel/pins.h"
#include "kernel/prefix_text.h"
#include "kernel/sock_diag.h"
#include "kernel/sockets.h"
#include "kernel/spared.h"
#include "kernel/spared_sockets.h"
#include "kernel/steer_choice.h"
#include "kernel/steer_tc.h"
#include "kernel/steering.h"
#include "kernel/trial.h"
#include "kernel/vendor_traffic.h"

namespace sluice::kernel {
namespace {

// The table of bans is the successor's, too.
const Error kRetired{"another sluice has taken over"};

// What the gateway wrote before it ended is acknowledged by our routes alone.
constexpr std::chrono::seconds kLastAnswers{1};

// After a reload: connections that drain, and then the minute of their TIME_WAIT.
constexpr std::chrono::minutes kFormerPlan{2};
constexpr std::size_t kFormerPlans = 8;  // each is a look at the kernel's table, every second

class KeeperImpl final : public Keeper {
 public:
  KeeperImpl(const KeeperOptions& options, PinDirectory pins, ChangeMonitor monitor)
      : pin_root_(options.pin_root),
        abi_version_(abi_version_of(options)),
        pins_(std::move(pins)),
        monitor_(std::move(monitor)),
        interception_(Interception::create()),
        beside_(options.beside) {}

  ~KeeperImpl() override {
    // A clean end: what was proxied has drained. Without it (a crash, a hand-over) all stays for
    // the successor.
    if (!stopped_) return;
    wait_for_last_answers(plan_, kLastAnswers);
    interception_->remove();
    steering_->remove();
    express_->remove();
    static_cast<void>(kernel::end_closed_connections(plan_, TcpSockets::closed));
  }

  static std::uint32_t abi_version_of(const KeeperOptions& options) {
    return options.abi_version == 0 ? SLUICE_ABI_VERSION : options.abi_version;
  }

  Result<void> start(const KeeperOptions& options);

  Result<void> prepare(const Plan& plan) override {
    // A gateway may have them already.
    const auto made = prepared_ ? prepared_->sockets : std::vector<OwnedSocket>{};
    abandon();
    auto result = prepare_parts(plan, made);
    if (!result) abandon();
    return result;
  }

  Result<void> commit() override;

  void abandon() override {
    guard_->abandon();
    steering_->abandon();
    interception_->abandon();
    express_->abandon();
    prepared_.reset();
  }

  std::vector<ListeningSocket> sockets() const override {
    std::vector<ListeningSocket> result;
    for (const auto& socket : prepared_ ? prepared_->sockets : sockets_) {
      result.push_back({socket.listener, socket.way, socket.worker, socket.fd->get()});
    }
    return result;
  }

  void tick(bool gateway_alive) override;
  void keep_leases() override;
  void remove_other_versions() override;
  std::vector<int> change_fds() const override {
    auto fds = monitor_.fds();
    fds.push_back(guard_->change_fd());
    return fds;
  }

  Result<void> ban(const Prefix& source, std::chrono::seconds duration,
                   const std::string& reason) override;
  Result<std::size_t> end_banned_connections() override {
    const auto sources = std::exchange(condemned_, {});
    if (sources.empty()) return 0;
    const auto node = read_node_network();
    if (!node) return std::unexpected(node.error());
    return destroy_tcp_sockets_of(
        sources, [&](const TcpSocket& socket) { return spared(socket, plan_, node->addresses); });
  }
  Result<std::size_t> end_closed_connections() override {
    return kernel::end_closed_connections(plan_, TcpSockets::time_wait);
  }
  Result<bool> unban(const Prefix& source) override {
    if (retired_) return std::unexpected(kRetired);
    std::erase(condemned_, source);
    return guard_->unban(source);
  }
  bool is_banned_for(const Prefix& source, std::chrono::seconds duration) const override {
    return guard_->is_banned_for(source, duration);
  }
  std::vector<Ban> bans() const override { return guard_->bans(); }
  std::vector<RuleCounter> rule_counters() const override { return guard_->rule_counters(); }
  void poll_drops(const std::function<void(const DropEvent&)>& receive) override {
    guard_->poll_events(receive);
  }
  std::uint64_t unreported_drops() const override { return guard_->unreported_events(); }
  std::vector<Seen> seen(SeenBy by) const override { return guard_->seen(by); }
  std::vector<Sample> samples() const override;
  std::vector<ExpressConnection> express_connections(std::size_t most) const override {
    return express_->connections(most);
  }
  std::uint64_t generation() const override { return generation_; }
  std::vector<std::string> warnings() const override;
  std::vector<std::string> problems() const override;

  Guard& guard() const { return *guard_; }
  VendorTraffic& vendors() const { return *vendors_; }
  KeeperHandOver hand_over() const override;
  // Both keep sockets of the plan in force; what is pinned or a table of nftables stays.
  void retire() override {
    retired_ = true;
    steering_ = Steering::none();
    interception_ = Interception::create();
    sockets_.clear();
    pins_.unlock();
  }
  std::vector<std::uint64_t> take_draining() override { return std::exchange(draining_, {}); }
  std::vector<std::string> take_notices() override { return std::exchange(notices_, {}); }

  void stop_serving() override {
    stopped_ = true;
    // Whoever else has them open: nobody listens from here on.
    for (const auto& socket : sockets_)
      if (socket.way == WayIn::bind) ::shutdown(socket.fd->get(), SHUT_RD);
    sockets_.clear();
    steering_->stop_intercepting();
    interception_->stop_intercepting();
    vendors_->remove();  // with nobody to go through, going around is not refused
  }

 private:
  struct Prepared {
    Plan plan;  // its entries' steering is chosen
    NodeView node;
    std::vector<OwnedSocket> sockets;
  };

  Result<void> prepare_parts(const Plan& plan, const std::vector<OwnedSocket>& made);
  Result<void> open_sockets(Prepared& next, const std::vector<OwnedSocket>& made);
  Result<void> follow_node(bool gateway_alive, bool table_touched);
  Result<void> clear_the_way(bool gateway_alive);
  void note(const Result<void>& ticked);
  void note_guarded();
  bool falls_back() const;
  void look_for_bypasses(const NodeView& node);
  void take_over_from_other_versions();

  std::string pin_root_;
  std::uint32_t abi_version_;
  PinDirectory pins_;
  ChangeMonitor monitor_;
  std::unique_ptr<Guard> guard_;
  std::unique_ptr<Steering> steering_;
  std::unique_ptr<Interception> interception_;
  std::unique_ptr<VendorTraffic> vendors_ = VendorTraffic::create();
  std::unique_ptr<Express> express_ = Express::open(pins_);
  std::string no_sk_lookup_;  // why there is none; empty: there is
  std::vector<OwnedSocket> sockets_;
  std::vector<Prefix> condemned_;  // banned, and their connections not looked for yet
  std::vector<Ban> bans_before_;   // of a keeper whose pins may be of another version
  std::optional<Prepared> prepared_;
  Plan plan_;                   // in force
  struct Former {
    Plan plan;
    std::chrono::steady_clock::time_point since;
  };
  std::vector<Former> former_;  // that caught more, a moment ago
  BypassWatch bypass_;
  std::vector<BypassSign> signs_;  // of `signs_of_`'s interfaces
  std::optional<std::map<std::string, unsigned>> signs_of_;
  std::uint64_t generation_ = 0;
  std::uint64_t failed_ticks_ = 0;
  std::vector<std::string> notices_;
  std::vector<std::string> guarded_;      // interfaces, as of the last tick
  std::uint64_t guarded_generation_ = 0;  // of the plan then
  std::uint64_t guard_changes_ = 0;
  std::string said_error_;  // of the last tick, if it had one
  std::uint64_t resets_ = 0;
  bool missed_change_ = false;
  bool alone_ = false;   // no pins of another version are left
  bool beside_ = false;  // the one before may need its own again
  bool stopped_ = false;
  std::vector<std::uint64_t> draining_;
  bool retired_ = false;
};

Result<void> KeeperImpl::start(const KeeperOptions& options) {
  bans_before_ = options.before.bans;
  for (const auto& socket : options.before.sockets) {
    auto own = std::make_shared<const Descriptor>(::fcntl(socket.fd, F_DUPFD_CLOEXEC, 0));
    if (!*own)
      return std::unexpected(Error{message("a socket of the keeper before is not open: {} ({})",
                                           socket.identity, std::strerror(errno))});
    sockets_.push_back({.worker = socket.worker,
                        .by_tproxy = socket.by_tproxy,
                        .identity = socket.identity,
                        .fd = std::move(own)});
  }
  auto guard = Guard::open(pins_, options.tcx ? GuardAttach::automatic : GuardAttach::clsact);
  if (!guard) return std::unexpected(guard.error());
  guard_ = std::move(*guard);
  auto steering = options.sk_lookup ? Steering::open(pins_, options.tcx)
                                    : std::unexpected(Error{"this kernel has no sk_lookup"});
  if (steering) {
    steering_ = std::move(*steering);
  } else {
    no_sk_lookup_ = steering.error().message;
    steering_ = Steering::none();
  }
  generation_ = std::max(guard_->generation(), steering_->generation());
  return {};
}

Result<void> KeeperImpl::open_sockets(Prepared& next, const std::vector<OwnedSocket>& made) {
  std::vector<OwnedSocket> kept = sockets_;
  kept.insert(kept.end(), made.begin(), made.end());
  auto sockets = open_bind_sockets(next.plan.listeners, next.plan.workers, kept);
  if (!sockets) return std::unexpected(sockets.error());
  auto steered = open_steered_sockets(next.plan, kept);
  if (!steered) return std::unexpected(steered.error());
  next.sockets = std::move(*sockets);
  std::move(steered->begin(), steered->end(), std::back_inserter(next.sockets));
  return {};
}

std::set<std::uint16_t> ports_of(const std::vector<OwnedSocket>& sockets) {
  std::set<std::uint16_t> ports;
  for (const auto& socket : sockets)
    ports.insert(port_of(socket.fd->get()));
  return ports;
}

Result<void> KeeperImpl::prepare_parts(const Plan& plan, const std::vector<OwnedSocket>& made) {
  auto node = read_node_view();
  if (!node) return std::unexpected(node.error());
  Prepared next{.plan = plan, .node = std::move(*node), .sockets = {}};
  if (auto ok = choose_steering(next.plan, no_sk_lookup_); !ok) return ok;
  for (auto& protect : builtin_protect())
    next.plan.protect.push_back(std::move(protect));
  if (auto ok = open_sockets(next, made); !ok) return ok;
  auto ours = ports_of(next.sockets);
  ours.merge(ports_of(sockets_));
  if (auto ok = check_lock_out(next.plan, next.node, ours); !ok) return ok;
  if (auto ok = interception_->prepare(next.plan, next.sockets, next.node); !ok) return ok;
  if (auto ok = guard_->prepare(plan.guard, plan.protect, plan.host_ports); !ok) return ok;
  if (auto ok = steering_->prepare(next.plan, next.sockets, next.node); !ok) return ok;
  express_->prepare(next.plan);
  prepared_ = std::move(next);
  return {};
}

// The guard comes last, since it alone leaves nothing behind when it fails.
Result<void> KeeperImpl::commit() {
  if (!prepared_) return std::unexpected(Error{"nothing is prepared"});
  const auto give_up = [this](Result<void> failed) {
    abandon();
    return failed;
  };
  if (auto ok = steering_->commit(); !ok) return give_up(ok);
  if (auto ok = interception_->commit(); !ok) {
    steering_->revert();
    return give_up(ok);
  }
  if (auto ok = vendors_->commit(prepared_->plan); !ok) {
    interception_->revert();
    steering_->revert();
    return give_up(ok);
  }
  if (auto ok = guard_->commit(prepared_->plan.generation); !ok) {
    vendors_->revert();
    interception_->revert();
    steering_->revert();
    return give_up(ok);
  }
  interception_->settle();
  steering_->settle();
  if (const auto ended = reset_refused_connections(plan_, prepared_->plan, prepared_->node))
    resets_ += *ended;
  if (auto found = connections_to_drain(plan_, prepared_->plan, prepared_->node))
    draining_ = std::move(*found);
  // Sockets that no plan uses any more close here; the gateway's duplicates drain what they hold.
  sockets_ = std::move(prepared_->sockets);
  if (catches_less(plan_, prepared_->plan)) {
    if (former_.size() >= kFormerPlans) former_.erase(former_.begin());
    former_.push_back({std::move(plan_), std::chrono::steady_clock::now()});
    former_.back().plan.guard = {};
  }
  plan_ = std::move(prepared_->plan);
  express_->follow(plan_);
  generation_ = plan_.generation;
  prepared_.reset();
  take_over_from_other_versions();
  return {};
}

// New beside old: from here on ours enforces what theirs did, and theirs goes.
void KeeperImpl::take_over_from_other_versions() {
  // Asked for once: each ban is a look into the kernel's table, and nobody renews leases meanwhile.
  std::set<Prefix> known;
  if (!bans_before_.empty()) {
    for (const Ban& one : guard_->bans())
      known.insert(one.source);
  }
  for (const auto& ban : std::exchange(bans_before_, {})) {
    // What is refused now (a new `protect`, a smaller table) is meant to be.
    if (!known.contains(ban.source))
      static_cast<void>(guard_->ban(ban.source, ban.left, ban.reason));
  }
  if (!alone_ && !beside_) remove_other_versions();
}

void KeeperImpl::remove_other_versions() {
  alone_ = true;
  kernel::remove_other_versions(pin_root_, abi_version_);
}

KeeperHandOver KeeperImpl::hand_over() const {
  KeeperHandOver out{.lock = pins_.lock(), .sockets = {}, .bans = guard_->bans()};
  for (const auto& socket : sockets_)
    out.sockets.push_back({.identity = socket.identity,
                           .worker = socket.worker,
                           .by_tproxy = socket.by_tproxy,
                           .fd = socket.fd->get()});
  return out;
}

void KeeperImpl::tick(bool gateway_alive) {
  auto changes = monitor_.take();
  // `sluice cleanup` took everything away: its word, not ours.
  if (!pins_.exists()) return;
  auto result = follow_node(gateway_alive, changes.nftables || missed_change_);
  // What was done here is heard of, too: taken now, so that it wakes nobody. Somebody else's change
  // in between gets a second look.
  changes = monitor_.take();
  if (changes.nftables) {
    if (auto again = follow_node(gateway_alive, true); result) result = std::move(again);
  }
  missed_change_ = monitor_.take().nftables;
  if (auto guarded = guard_->tick(); result) result = std::move(guarded);
  if (auto cleared = clear_the_way(gateway_alive); result) result = std::move(cleared);
  if (auto watched = vendors_->tick(); result) result = std::move(watched);
  if (!retired_) express_->tick();
  note_guarded();
  note(result);
}

// For what flows straight: entries with `bypass` until the next gateway serves, and what a reload
// has taken out.
Result<void> KeeperImpl::clear_the_way(bool gateway_alive) {
  if (!gateway_alive && bypasses_forward(plan_)) {
    if (auto ended = end_closed_connections(); !ended) return std::unexpected(ended.error());
  }
  Result<void> result;
  for (const Former& former : former_) {
    auto ended = kernel::end_closed_connections(former.plan, plan_);
    if (!ended) result = std::unexpected(ended.error());
  }
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(former_, [&](const Former& one) { return now - one.since > kFormerPlan; });
  return result;
}

void KeeperImpl::keep_leases() {
  if (!pins_.exists()) return;
  interception_->keep_leases();
  steering_->keep_leases();
  // What was done here is heard of, too, and wakes nobody; what others did the next tick looks at.
  missed_change_ = monitor_.take().nftables || missed_change_;
}

// What the guard hangs at by itself, as interfaces come and go; what a policy changes is no news.
void KeeperImpl::note_guarded() {
  std::vector<std::string> now = guard_->attached();
  if (guarded_generation_ != generation_) {
    guarded_generation_ = generation_;
    guarded_ = std::move(now);
    return;
  }
  const auto tell = [this](const auto& those, const auto& others, const char* what) {
    for (const std::string& name : those) {
      if (std::ranges::find(others, name) != others.end()) continue;
      notices_.push_back(what + name);
      ++guard_changes_;
    }
  };
  tell(guarded_, now, "the guard has left interface ");
  tell(now, guarded_, "the guard is at interface ");
  guarded_ = std::move(now);
}

void KeeperImpl::note(const Result<void>& ticked) {
  for (auto& notice : interception_->take_notices())
    notices_.push_back(std::move(notice));
  if (!ticked) failed_ticks_++;
  const std::string error = ticked ? "" : ticked.error().message;
  if (error == said_error_) return;
  notices_.push_back(error.empty() ? "what the kernel refused before works again"
                                   : "the kernel refuses: " + error);
  said_error_ = error;
}

Result<void> KeeperImpl::follow_node(bool gateway_alive, bool table_touched) {
  const auto node = read_node_view();
  if (!node) return std::unexpected(node.error());
  look_for_bypasses(*node);
  bypass_.look(steering_->arrivals(), gateway_alive && !stopped_, BypassWatch::Clock::now());
  const auto steered = steering_->follow(*node);
  const auto taken = steering_->tick(gateway_alive, *node);
  if (auto ok = interception_->tick(gateway_alive, *node, table_touched); !ok) return ok;
  if (!steered) return std::unexpected(steered.error());
  return taken;
}

// From now on its packets die before any socket sees them: with its connections left open both ends
// would wait for their timeouts.
Result<void> KeeperImpl::ban(const Prefix& source, std::chrono::seconds duration,
                             const std::string& reason) {
  if (retired_) return std::unexpected(kRetired);
  if (auto ok = guard_->ban(source, duration, reason); !ok) return ok;
  condemned_.push_back(source);
  return {};
}

// Other people's programs come with their interfaces.
void KeeperImpl::look_for_bypasses(const NodeView& node) {
  if (signs_of_ == node.interfaces) return;
  const auto network = read_node_network();
  if (!network) return;  // the next tick tries again
  signs_ = find_bypass_signs(*network, OwnPrograms::read(pin_root_));
  signs_of_ = node.interfaces;
}

bool KeeperImpl::falls_back() const {
  return !no_sk_lookup_.empty() && uses(plan_, SteerBy::tproxy);
}

std::vector<std::string> KeeperImpl::warnings() const {
  std::vector<std::string> out;
  if (falls_back()) out.push_back("steering fell back to nftables' tproxy: " + no_sk_lookup_);
  const bool by_netfilter = std::ranges::any_of(plan_.intercepts, [](const Intercept& entry) {
    return entry.way == WayIn::forward && entry.steering != SteerBy::tc;
  });
  for (const auto& sign : by_netfilter ? signs_ : std::vector<BypassSign>{})
    out.push_back(message("packets may go past netfilter, where intercept.forward catches: {}; {}",
                          to_text(sign), kBypassAdvice));
  if (const std::string why = express_->unavailable(); !why.empty())
    out.push_back("`express` is without effect, all goes by TCP: " + why);
  for (const auto& name : guard_->missing_interfaces())
    out.push_back(message(
        "there is no interface {}: the guard, which names it, guards nothing of it until there is",
        name));
  for (const auto& path : interception_->missing_cgroups())
    out.push_back(
        message("there is no cgroup {}: intercept.output catches nothing of it until there "
                "is",
                path));
  return out;
}

std::vector<std::string> KeeperImpl::problems() const {
  std::vector<std::string> out;
  for (const auto& listener : bypass_.bypassed()) {
    std::string by;
    for (const auto& sign : signs_)
      by += (by.empty() ? " (" : ", ") + to_text(sign);
    out.push_back(
        message("intercept.forward catches nothing for listener {}: new connections come "
                "in and none of them reaches netfilter's prerouting hook{}{}; {}",
                listener, by, by.empty() ? "" : ")", kBypassAdvice));
  }
  return out;
}

std::vector<Sample> KeeperImpl::samples() const {
  auto samples = steering_->samples();
  for (auto& sample : interception_->samples())
    samples.push_back(std::move(sample));
  for (auto& sample : guard_->samples())
    samples.push_back(std::move(sample));
  for (auto& sample : vendors_->samples())
    samples.push_back(std::move(sample));
  for (auto& sample : express_->samples())
    samples.push_back(std::move(sample));
  samples.push_back({"sluice_keeper_failed_ticks_total",
                     {},
                     static_cast<double>(failed_ticks_),
                     true,
                     "Ticks in which the kernel refused something; the next one tries again."});
  samples.push_back(
      {"sluice_guard_interface_changes_total",
       {},
       static_cast<double>(guard_changes_),
       true,
       "Times that the guard came to an interface or left it because interfaces came, "
       "went or were renamed."});
  const auto bypassed = bypass_.bypassed();
  for (const auto& [listener, arrived, looked_up] : steering_->arrivals())
    samples.push_back({"sluice_interception_bypassed",
                       {{"listener", listener}},
                       std::ranges::binary_search(bypassed, listener) ? 1.0 : 0.0,
                       false,
                       "1 while connections that intercept.forward claims come in and none of them "
                       "reaches netfilter: it catches nothing."});
  samples.push_back({"sluice_interception_fallback",
                     {},
                     falls_back() ? 1.0 : 0.0,
                     false,
                     "1 while nftables' tproxy does what sk_lookup should, which is missing."});
  samples.push_back({"sluice_interception_reset_connections_total",
                     {},
                     static_cast<double>(resets_),
                     true,
                     "Open connections ended because a reload refuses them (on_change: reset)."});
  return samples;
}

}  // namespace

bool revert_guard_at(Keeper& keeper, std::optional<std::chrono::steady_clock::time_point> when) {
  // Keeper::open() makes nothing else.
  return static_cast<KeeperImpl&>(keeper).guard().revert_at(when);
}

void protect_named_upstreams(Keeper& keeper, std::vector<Prefix> hosts) {
  static_cast<KeeperImpl&>(keeper).guard().protect_named_upstreams(std::move(hosts));
}

bool spares(const Keeper& keeper, const Prefix& source) {
  return static_cast<const KeeperImpl&>(keeper).guard().spares(source);
}

std::vector<Prefix> vendors_followed(const Keeper& keeper) {
  return static_cast<const KeeperImpl&>(keeper).vendors().hosts();
}

void follow_vendors(Keeper& keeper, std::vector<Prefix> hosts) {
  static_cast<KeeperImpl&>(keeper).vendors().follow(std::move(hosts));
}

Result<std::unique_ptr<Keeper>> Keeper::open(const KeeperOptions& options) {
  remove_stale_namespaces(options.pin_root);
  const auto version = KeeperImpl::abi_version_of(options);
  auto pins = PinDirectory::open(options.pin_root, version, options.before.lock);
  if (!pins) return std::unexpected(pins.error());
  auto monitor = ChangeMonitor::open();
  if (!monitor) return std::unexpected(monitor.error());
  auto keeper = std::make_unique<KeeperImpl>(options, std::move(*pins), std::move(*monitor));
  if (auto ok = keeper->start(options); !ok) return std::unexpected(ok.error());
  return keeper;
}

Result<std::vector<std::string>> cleanup(const KeeperOptions& options) {
  std::vector<std::string> removed = remove_interception();
  const bool intercepted = !removed.empty();
  for (auto& line : detach_pinned_steer_tc(pin_directory_path(options.pin_root)))
    removed.push_back(std::move(line));
  if (remove_vendor_traffic()) removed.emplace_back("nftables table inet sluice_vendors");
  for (auto& line : Guard::cleanup(options.pin_root))
    removed.push_back(std::move(line));
  for (auto& line : remove_other_versions(options.pin_root))
    removed.push_back(std::move(line));
  for (auto& line : remove_pins(options.pin_root, ""))
    removed.push_back(std::move(line));
  if (!intercepted) return removed;
  // A kernel that cannot leaves them for a minute.
  if (const auto ended = end_closed_connections(); ended && *ended > 0)
    removed.push_back(message("closed connections that were intercepted: {}", *ended));
  else if (!ended)
    removed.push_back(message("(not removed: {})", ended.error().message));
  return removed;
}

}  // namespace sluice::kernel
