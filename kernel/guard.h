// The guard: a packet classifier on TC ingress, TC egress or XDP that drops, limits and counts, and
// the bans.
// Keeper's thread only. What it enforces stays pinned and in force when the process ends, until
// remove() or cleanup. prepare() and the first ban of a new prefix length never disturb packets;
// grace periods make prepare() take about 50 ms, 300 ms on a busy machine.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/pins.h"
#include "kernel/plan.h"

namespace sluice::kernel {

enum class GuardAttach : std::uint8_t {
  automatic,  // tcx where the kernel has it (6.6), clsact otherwise
  tcx,
  clsact,
};

class Guard {
 public:
  // Takes over what an earlier keeper left pinned in `pins` (rules in force, counters, bans,
  // attached interfaces, which get this program in place), or starts afresh. `pins` outlives the
  // object. Errors: a missing capability, a pin that is not ours, a kernel that refuses the
  // program.
  static Result<std::unique_ptr<Guard>> open(const PinDirectory& pins,
                                             GuardAttach attach = GuardAttach::automatic);
  virtual ~Guard() = default;

  // Compiles the rules into the slot that no packet reads. `protect`: the operator's entries and
  // the policy's upstreams; the default gateways and the resolvers of /etc/resolv.conf are added
  // here. Nothing that runs changes; a failed prepare leaves no trace. At most 1,024 rules and 63
  // different (to_ports, interfaces) among `protect`. Refused while a plan is on trial: its other
  // slot is what comes back.
  virtual Result<void> prepare(const GuardPlan& plan, const std::vector<Protect>& protect,
                               const std::vector<std::uint16_t>& host_ports) = 0;
  // Attaches where the prepared plan wants it, then makes it the one in force by one store. On an
  // error the plan in force stays and nothing more is attached than before.
  virtual Result<void> commit(std::uint64_t generation) = 0;
  virtual void abandon() = 0;  // forgets what was prepared

  // See trial.h. No effect where no plan is on trial, or is to be; false: the trial was lost.
  virtual bool revert_at(std::optional<std::chrono::steady_clock::time_point> when) = 0;

  // Upstreams that the policy knows by name are at these addresses now: spared as those with an
  // address are, from the next tick on. At most kMaxNamedUpstreams hosts; more are left out.
  static constexpr std::size_t kMaxNamedUpstreams = 1024;
  virtual void protect_named_upstreams(std::vector<Prefix> hosts) = 0;

  // About once a second, and when change_fd() is readable: follows interfaces, addresses, default
  // gateways; sweeps bans that ran out. An error is for the log: the rest was done, and the next
  // tick tries again.
  virtual Result<void> tick() = 0;
  virtual int change_fd() const = 0;  // netlink; readable when links, addresses or routes changed

  // `source` shorter than a host is fine, host bits are cleared. Refused: what `protect` covers
  // whole, the node's own and loopback addresses, everything (/0), a ninth prefix length of one IP
  // version, a full table. A second ban of the same source replaces expiry and reason, and keeps
  // the counters. `duration` of 1 s to 10 years.
  virtual Result<void> ban(const Prefix& source, std::chrono::milliseconds duration,
                           const std::string& reason) = 0;
  virtual Result<bool> unban(const Prefix& source) = 0;  // false: was not banned
  // Whether all of `source` is protected now at every port: a ban of before drops nothing of it.
  virtual bool spares(const Prefix& source) const = 0;
  // By a ban of this very source that lasts as long or longer.
  virtual bool is_banned_for(const Prefix& source, std::chrono::milliseconds duration) const = 0;
  virtual std::vector<Ban> bans() const = 0;  // those in force; reasons are cut at 63 bytes

  virtual std::vector<RuleCounter> rule_counters() const = 0;  // of the plan in force, in its order
  virtual std::vector<Sample> samples()
      const = 0;  // for the metrics page; names begin with sluice_guard_
  virtual std::uint64_t generation() const = 0;           // in force; 0: none
  virtual std::vector<std::string> attached() const = 0;  // interface names, each once
  // Those that the plan in force names, and not by a glob, and that the node does not have.
  virtual std::vector<std::string> missing_interfaces() const = 0;

  // What the monitor has counted since it was first asked for, in no order; empty: it never was.
  // Walks up to 16,384 entries: some ms.
  virtual std::vector<Seen> seen(SeenBy by) const = 0;

  // Drops since the last call. The first call switches the sampling on; it ends five seconds after
  // the last.
  virtual void poll_events(const std::function<void(const DropEvent&)>& receive) = 0;
  virtual std::uint64_t unreported_events() const = 0;  // packets that the sample left out, so far

  // Detaches everywhere and removes the pins; drop rules and bans end. Each line says what was
  // removed.
  virtual std::vector<std::string> remove() = 0;

  // The same without an object, whether or not a keeper lives; for `sluice cleanup`.
  static std::vector<std::string> cleanup(const std::string& pin_root);
};

}  // namespace sluice::kernel
