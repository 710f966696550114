#include "kernel/interception.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>
#include <utility>

#include "kernel/message.h"
#include "kernel/nft_batch.h"
#include "kernel/nft_digest.h"
#include "kernel/nft_table.h"
#include "kernel/policy_routing.h"
#include "kernel/prefix_text.h"
#include "kernel/steer_choice.h"

namespace sluice::kernel {
namespace {

Error nft_error(const NftBatch::Failure& failure) {
  const char* hint = "";
  if (failure.error == EPERM) hint = "; CAP_NET_ADMIN is needed";
  if (failure.error == ENOENT || failure.error == EOPNOTSUPP) {
    hint =
        "; does the kernel have nf_tables with nft_socket, nft_fib_inet, nft_ct, nft_tproxy and "
        "nft_reject_inet?";
  }
  return {message("nftables refuses {}: {}{}", failure.what, std::strerror(failure.error), hint)};
}

std::string hex(std::uint32_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

Result<void> check_local_destinations(const Plan& plan) {
  for (const auto& intercept : plan.intercepts) {
    if (intercept.way != WayIn::local) continue;
    for (const auto& prefix : intercept.to) {
      if (own_length(prefix) > 0) continue;
      return std::unexpected(Error{message(
          "{}: intercept.local to {} would make every address this node's; name the addresses",
          intercept.where, to_text(prefix))});
    }
  }
  return {};
}

class InterceptionImpl final : public Interception {
 public:
  Result<void> prepare(const Plan& plan, const std::vector<OwnedSocket>& sockets,
                       const NodeView& node) override {
    if (uses_marks(plan)) {
      if (auto ok = check_marks_free(plan.marks); !ok) return ok;
      if (auto ok = check_local_destinations(plan); !ok) return ok;
      if (auto ok = check_former_marks(plan.marks); !ok) return ok;
    }
    prepared_ = InForce{.plan = plan,
                        .by_nft = {},
                        .node = node,
                        .cgroups = find_cgroups(plan),
                        .tproxy_ports = {}};
    prepared_->plan.guard = {};
    prepared_->by_nft = without_tc(prepared_->plan);
    for (const auto& socket : sockets) {
      if (socket.by_tproxy)
        prepared_->tproxy_ports[{socket.listener, socket.way}] = port_of(socket.fd->get());
    }
    return {};
  }

  Result<void> commit() override {
    if (!prepared_) return std::unexpected(Error{"interception: nothing is prepared"});
    InForce next = std::move(*prepared_);
    prepared_.reset();
    next.former = former_marks(next.plan.marks);
    previous_ = std::exchange(active_, std::nullopt);
    // Routes before the marks that need them, and after the marks that needed the old ones.
    Routing during = routing_of(next);
    if (previous_) during.merge_with(routing_of(*previous_));
    auto applied = apply_routing(during);
    judge_syns_ = true;
    auto ok = applied ? write_table(next, true) : std::unexpected(applied.error());
    if (!ok) {
      revert();
      return ok;
    }
    active_ = std::move(next);
    return {};
  }

  void revert() override {
    active_ = std::exchange(previous_, std::nullopt);
    // The table of a predecessor that crashed cannot be written again: without renewal of its
    // leases each entry's on_exit applies, as after any crash.
    if (!active_) return;
    // What fails here is put right by the next tick.
    static_cast<void>(write_table(*active_, true));
    static_cast<void>(apply_routing(routing_of(*active_)));
  }

  void settle() override {
    previous_.reset();
    former_ = active_->former;
    static_cast<void>(apply_routing(routing_of(*active_)));
  }

  void abandon() override { prepared_.reset(); }
  Result<void> tick(bool gateway_alive, const NodeView& node, bool table_touched) override;
  void keep_leases() override;
  void stop_intercepting() override;

  void remove() override {
    remove_interception();
    active_.reset();
  }

  std::vector<Sample> samples() const override;
  std::vector<std::string> missing_cgroups() const override {
    return active_ ? kernel::missing_cgroups(active_->plan, active_->cgroups)
                   : std::vector<std::string>{};
  }
  std::vector<std::string> take_notices() override { return std::exchange(notices_, {}); }

 private:
  struct InForce {
    Plan plan;
    Plan by_nft;  // what the table does of it
    NodeView node;
    CgroupIds cgroups;
    TproxyPorts tproxy_ports;
    std::vector<Marks> former{};
    int rules = 0;             // in the table; 0: no table
    std::uint64_t digest = 0;  // of the table as we wrote it
  };

  static Routing routing_of(const InForce& state) {
    return routing_for(state.plan, state.node.addresses);
  }

  // Marks that open connections and the sockets of an earlier gateway may still carry.
  std::vector<Marks> former_marks(const Marks& next) const {
    std::vector<Marks> out = former_;
    if (active_ && uses_marks(active_->plan)) out.push_back(active_->plan.marks);
    std::erase_if(out, [&](const Marks& marks) { return marks.mark == next.mark; });
    return out;
  }

  // They are known by their values, so a new value must not look like an old one.
  Result<void> check_former_marks(const Marks& marks) const {
    for (const Marks& former : former_marks(marks)) {
      if ((former.mask & marks.mask) == 0) continue;
      return std::unexpected(Error{
          message("intercept.marks: mask {} shares bits with {}, which open connections still "
                  "carry; choose a mask without them, or stop sluice and start it again",
                  hex(marks.mask), hex(former.mask))});
    }
    return {};
  }

  Result<void> write_table(InForce& state, bool gateway_serves);
  Result<void> follow_node(const NodeView& node, bool& rewrite);
  Result<void> renew_leases();
  Result<void> repair_routing();
  bool table_is_changed(bool look_closely) const;

  std::optional<InForce> active_;
  std::optional<InForce> prepared_;
  std::optional<InForce> previous_;  // between commit() and settle() or revert()
  std::vector<Marks> former_;        // of plans before the one in force
  bool judge_syns_ = true;
  bool lease_held_ = false;
  std::vector<std::string> notices_;
  std::uint64_t table_repairs_ = 0, routing_repairs_ = 0, renewals_ = 0;
};

Result<void> InterceptionImpl::write_table(InForce& state, bool gateway_serves) {
  NftBatch batch;
  state.rules = 0;
  if (!uses_marks(state.by_nft)) {
    write_nft_removal(batch);
  } else {
    state.rules = write_nft_table(
        batch, state.by_nft,
        {judge_syns_, gateway_serves, state.cgroups, state.tproxy_ports, state.node, state.former});
  }
  if (const auto failure = batch.commit(); failure.error != 0)
    return std::unexpected(nft_error(failure));
  state.digest = nft_table_digest();
  lease_held_ = gateway_serves && uses_marks(state.plan);
  return {};
}

Result<void> InterceptionImpl::renew_leases() {
  const auto leases = leases_of(active_->by_nft);
  if (leases.empty()) {
    lease_held_ = true;
    return {};
  }
  NftBatch batch;
  for (const auto lease : leases)
    batch.renew_timeout_elements(lease_set(lease), lease);
  if (const auto failure = batch.commit(); failure.error != 0)
    return std::unexpected(nft_error(failure));
  renewals_++;
  lease_held_ = true;
  return {};
}

Result<void> InterceptionImpl::repair_routing() {
  auto added = apply_routing(routing_of(*active_));
  if (!added) return std::unexpected(added.error());
  routing_repairs_ += *added;
  if (*added > 0)
    notices_.push_back(
        message("policy routing: {} of our rules and routes were gone and are back", *added));
  return {};
}

// Not a repair: routes, and what the table says of addresses and interfaces, follow the node.
Result<void> InterceptionImpl::follow_node(const NodeView& node, bool& rewrite) {
  if (active_->node == node) return {};
  active_->node = node;
  rewrite = depends_on_node(active_->by_nft);
  if (auto applied = apply_routing(routing_of(*active_)); !applied)
    return std::unexpected(applied.error());
  return {};
}

bool InterceptionImpl::table_is_changed(bool look_closely) const {
  if (!uses_marks(active_->by_nft)) return false;
  if (look_closely) return nft_table_digest() != active_->digest;
  return count_nft_rules() != active_->rules;
}

Result<void> InterceptionImpl::tick(bool gateway_alive, const NodeView& node, bool table_touched) {
  if (!active_ || !uses_marks(active_->plan)) return {};
  bool rewrite = false;
  // What others removed first: put back for a new address of the node, it would be told to nobody.
  if (auto ok = repair_routing(); !ok) return ok;
  if (auto ok = follow_node(node, rewrite); !ok) return ok;

  const bool changed = table_is_changed(table_touched);
  CgroupIds cgroups = find_cgroups(active_->plan);
  if (changed || rewrite || cgroups != active_->cgroups) {
    active_->cgroups = std::move(cgroups);
    if (auto ok = write_table(*active_, gateway_alive && judge_syns_); !ok) return ok;
    if (changed) {
      table_repairs_++;
      notices_.emplace_back(
          "nftables: table inet sluice had been changed or removed by somebody else; it is back");
    }
    return {};
  }
  lease_held_ = lease_held_ && gateway_alive;
  if (gateway_alive && judge_syns_) return renew_leases();
  return {};
}

void InterceptionImpl::keep_leases() {
  if (active_ && uses_marks(active_->plan) && judge_syns_) (void)renew_leases();
}

void InterceptionImpl::stop_intercepting() {
  judge_syns_ = false;
  if (active_ && uses_marks(active_->plan)) write_table(*active_, false);
}

std::vector<Sample> InterceptionImpl::samples() const {
  if (!active_ || !uses_marks(active_->plan)) return {};
  const auto count = [](auto value) { return static_cast<double>(value); };
  const char* repairs = "Times that tables, rules or routes which others removed were put back.";
  return {
      {"sluice_interception_repairs_total",
       {{"part", "nftables"}},
       count(table_repairs_),
       true,
       repairs},
      {"sluice_interception_repairs_total",
       {{"part", "routing"}},
       count(routing_repairs_),
       true,
       repairs},
      {"sluice_interception_lease_renewals_total",
       {},
       count(renewals_),
       true,
       "Renewals of the fail-open leases."},
      {"sluice_interception_lease_held",
       {},
       lease_held_ ? 1.0 : 0.0,
       false,
       "1 while new connections are intercepted, 0 while each entry's on_exit applies."},
      {"sluice_interception_cgroups_missing",
       {},
       count(missing_cgroups().size()),
       false,
       "Control groups that the policy names and that do not exist."},
  };
}

}  // namespace

std::unique_ptr<Interception> Interception::create() {
  return std::make_unique<InterceptionImpl>();
}

std::vector<std::string> remove_interception() {
  std::vector<std::string> removed;
  if (count_nft_rules() >= 0) {
    NftBatch batch;
    write_nft_removal(batch);
    if (batch.commit().error == 0) removed.emplace_back("nftables table inet sluice");
  }
  for (auto& line : remove_routing())
    removed.push_back(std::move(line));
  return removed;
}

}  // namespace sluice::kernel
