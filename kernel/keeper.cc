#include "kernel/keeper.h"

#include <algorithm>

#include "kernel/guard.h"
#include "kernel/interception.h"
#include "kernel/message.h"
#include "kernel/node_addresses.h"
#include "kernel/pins.h"
#include "kernel/prefix_text.h"
#include "kernel/sockets.h"
#include "kernel/steering.h"

namespace sluice::kernel {
namespace {

class KeeperImpl final : public Keeper {
 public:
  explicit KeeperImpl(PinDirectory pins)
      : pins_(std::move(pins)), interception_(Interception::create()) {}

  ~KeeperImpl() override {
    // A clean end: what was proxied has drained. Without it (a crash, a hand-over) all stays for
    // the successor.
    if (!stopped_) return;
    interception_->remove();
    steering_->remove();
  }

  Result<void> start() {
    auto guard = Guard::open(pins_);
    if (!guard) return std::unexpected(guard.error());
    guard_ = std::move(*guard);
    auto steering = Steering::open(pins_);
    if (!steering) return std::unexpected(steering.error());
    steering_ = std::move(*steering);
    return {};
  }

  Result<void> prepare(const Plan& plan) override {
    abandon();
    auto result = prepare_parts(plan);
    if (!result) abandon();
    return result;
  }

  Result<void> commit() override;

  void abandon() override {
    guard_->abandon();
    steering_->abandon();
    interception_->abandon();
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

  Result<void> ban(const Prefix& source, std::chrono::seconds duration,
                   const std::string& reason) override {
    return guard_->ban(source, duration, reason);
  }
  Result<bool> unban(const Prefix& source) override { return guard_->unban(source); }
  std::vector<Ban> bans() const override { return guard_->bans(); }
  std::vector<RuleCounter> rule_counters() const override { return guard_->rule_counters(); }
  void poll_drops(const std::function<void(const DropEvent&)>& receive) override {
    guard_->poll_events(receive);
  }
  std::uint64_t unreported_drops() const override { return guard_->unreported_events(); }
  std::vector<Sample> samples() const override;
  std::uint64_t generation() const override { return generation_; }

  void stop_intercepting() override {
    stopped_ = true;
    interception_->stop_intercepting();
  }

 private:
  struct Prepared {
    std::uint64_t generation = 0;
    std::vector<OwnedSocket> sockets;
  };

  Result<void> prepare_parts(const Plan& plan);

  PinDirectory pins_;
  std::unique_ptr<Guard> guard_;
  std::unique_ptr<Steering> steering_;
  std::unique_ptr<Interception> interception_;
  std::vector<OwnedSocket> sockets_;
  std::optional<Prepared> prepared_;
  std::uint64_t generation_ = 0;
  std::uint64_t failed_ticks_ = 0;
  bool stopped_ = false;
};

Result<void> KeeperImpl::prepare_parts(const Plan& plan) {
  auto own = read_own_addresses();
  if (!own) return std::unexpected(own.error());
  auto sockets = open_bind_sockets(plan.listeners, plan.workers, sockets_);
  if (!sockets) return std::unexpected(sockets.error());
  auto steered = open_steered_sockets(plan, sockets_);
  if (!steered) return std::unexpected(steered.error());
  std::move(steered->begin(), steered->end(), std::back_inserter(*sockets));
  if (auto ok = interception_->prepare(plan, *own); !ok) return ok;
  if (auto ok = guard_->prepare(plan.guard, plan.protect, plan.host_ports); !ok) return ok;
  if (auto ok = steering_->prepare(plan, *sockets, *own); !ok) return ok;
  prepared_ = Prepared{plan.generation, std::move(*sockets)};
  return {};
}

Result<void> KeeperImpl::commit() {
  if (!prepared_) return std::unexpected(Error{"nothing is prepared"});
  if (auto ok = guard_->commit(prepared_->generation); !ok) return ok;
  if (auto ok = steering_->commit(); !ok) return ok;
  if (auto ok = interception_->commit(); !ok) return ok;
  // Sockets that no plan uses any more close here; the gateway's duplicates drain what they hold.
  sockets_ = std::move(prepared_->sockets);
  generation_ = prepared_->generation;
  prepared_.reset();
  return {};
}

void KeeperImpl::tick(bool gateway_alive) {
  // `sluice cleanup` took everything away: its word, not ours.
  if (!pins_.exists()) return;
  auto own = read_own_addresses();
  bool good = own.has_value();
  if (own) {
    good = steering_->follow_addresses(*own).has_value() && good;
    good = interception_->tick(gateway_alive, *own).has_value() && good;
  }
  good = guard_->tick().has_value() && good;
  if (!good) failed_ticks_++;
}

std::vector<Sample> KeeperImpl::samples() const {
  auto samples = steering_->samples();
  for (auto& sample : interception_->samples())
    samples.push_back(std::move(sample));
  for (auto& sample : guard_->samples())
    samples.push_back(std::move(sample));
  samples.push_back({"sluice_keeper_failed_ticks_total",
                     {},
                     static_cast<double>(failed_ticks_),
                     true,
                     "Ticks in which the kernel refused something; the next one tries again."});
  return samples;
}

}  // namespace

Result<std::unique_ptr<Keeper>> Keeper::open(const KeeperOptions& options) {
  remove_stale_namespaces(options.pin_root);
  auto pins = PinDirectory::open(options.pin_root);
  if (!pins) return std::unexpected(pins.error());
  auto keeper = std::make_unique<KeeperImpl>(std::move(*pins));
  if (auto ok = keeper->start(); !ok) return std::unexpected(ok.error());
  return keeper;
}

Result<std::vector<std::string>> cleanup(const KeeperOptions& options) {
  std::vector<std::string> removed = remove_interception();
  for (auto& line : Guard::cleanup(options.pin_root))
    removed.push_back(std::move(line));
  for (auto& line : remove_pins(options.pin_root, ""))
    removed.push_back(std::move(line));
  return removed;
}

}  // namespace sluice::kernel
