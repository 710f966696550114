// Everything that Sluice holds in the kernel, behind one object: sockets, steering, interception,
// guard. One thread (the keeper's). No call waits for the network; prepare() may take 100 ms (grace
// periods).
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel {

// A message that an operator can act on; never an errno alone.
struct Error {
  std::string message;
};
template <typename T>
using Result = std::expected<T, Error>;

// A listening socket that the keeper owns. The descriptor stays the keeper's; pass a duplicate on.
struct ListeningSocket {
  std::uint32_t listener = 0;
  WayIn way = WayIn::bind;
  std::uint32_t worker = 0;
  int fd = -1;
};

struct RuleCounter {
  std::string rule;
  GuardAction action = GuardAction::drop;
  bool audit = false;
  std::uint64_t packets = 0;  // that it matched and protect did not spare, by segments
  std::uint64_t bytes = 0;
  std::uint64_t dropped = 0;     // packets of them that it dropped
  std::uint64_t would_drop = 0;  // or would have, without `audit`
};

struct Ban {
  Prefix source;
  std::chrono::seconds left{};
  std::uint64_t packets = 0;  // dropped so far
  std::uint64_t bytes = 0;
  std::string reason;
};

// One dropped packet, or one that an auditing rule would have dropped; sampled (at most about 100 a
// second and CPU while somebody reads them).
struct DropEvent {
  std::chrono::nanoseconds when{};  // CLOCK_MONOTONIC
  std::string reason;               // "rule", "limit", "ban", "source_syn", "service_syn"
  std::string rule;                 // the first that decided, of reasons "rule" and "limit"
  Prefix from;                      // hosts
  Prefix to;
  int protocol = -1;   // -1: not known
  int from_port = -1;  // -1: the packet has none
  int to_port = -1;
  unsigned interface_index = 0;
  bool egress = false;
  bool audit = false;  // it passed
  std::uint32_t bytes = 0;
};

// TCP packets that came in and passed the guard, by the service they went to or the source they
// came from.
enum class SeenBy : std::uint8_t { service, source };
struct Seen {
  Prefix address;             // a source may be an IPv6 /64
  std::uint16_t port = 0;     // of a service
  std::uint64_t packets = 0;  // by segments
  std::uint64_t bytes = 0;
  std::uint64_t connections = 0;  // SYNs
  std::uint64_t resets = 0;
  std::uint64_t requests = 0;  // an estimate: buffers that begin like an HTTP request
};

// A connection of the express lane: who connected, and to where.
struct ExpressConnection {
  struct Direction {
    std::uint64_t express = 0;  // bytes
    std::uint64_t tcp = 0;
    std::string left{};  // why it goes by TCP now; empty: it is in the lane
  };
  bool to_upstream = false;  // the gateway connected; else a client did
  Prefix from{};             // hosts
  Prefix to{};
  std::uint16_t from_port = 0;
  std::uint16_t to_port = 0;
  Direction sent{};  // by the gateway
  Direction received{};
};

// One exported number, in Prometheus' terms.
struct Sample {
  std::string name;  // sluice_guard_packets_total
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
  bool counter = true;  // else a gauge
  std::string help;
};

// What a keeper leaves to the one that takes its place (`sluice upgrade`), in words that no version
// of the pins changes. The descriptors stay the giver's.
struct KeeperHandOver {
  struct Socket {
    std::string identity;  // what makes it the same socket for another plan
    std::uint32_t worker = 0;
    bool by_tproxy = false;
    int fd = -1;
  };
  int lock = -1;  // of the directory of pins
  std::vector<Socket> sockets;
  std::vector<Ban> bans;
};

struct KeeperOptions {
  std::string pin_root =
      "/sys/fs/bpf/sluice";       // below it, a directory per ABI version and network namespace
  bool sk_lookup = true;          // false: as on a kernel without it
  bool tcx = true;                // the same
  std::uint32_t abi_version = 0;  // of the pins; 0: this program's
  KeeperHandOver before{};        // from the keeper that this one follows without a gap
  bool beside = false;            // `before` lives, and may go on: see remove_other_versions()
};

class Keeper {
 public:
  // Adopts what an earlier keeper left pinned (bans, counters, links), or starts afresh.
  static Result<std::unique_ptr<Keeper>> open(const KeeperOptions& options);
  virtual ~Keeper() = default;

  // Fills the inactive slots and creates missing sockets. Nothing that runs changes. A failed
  // prepare leaves no trace. In place of one that was prepared already: its sockets are kept.
  virtual Result<void> prepare(const Plan& plan) = 0;
  // Makes the prepared plan the one in force: steering, interception, guard, all of them or none.
  virtual Result<void> commit() = 0;
  virtual void abandon() = 0;  // forgets what was prepared

  // Sockets of the prepared plan, or of the one in force when nothing is prepared.
  virtual std::vector<ListeningSocket> sockets() const = 0;

  // Call about once a second, and when one of change_fds() is readable: renews the fail-open leases
  // while a gateway serves, follows interfaces and addresses, sweeps bans that ran out, notices and
  // repairs what others changed.
  virtual void tick(bool gateway_alive) = 0;
  // Renews the fail-open leases alone: between two ticks, and while another keeper is about to
  // change the kernel. Call in less than half of the shortest lease, while a gateway serves.
  virtual void keep_leases() = 0;
  virtual std::vector<int> change_fds() const = 0;  // netlink; they stay the keeper's

  // `source` shorter than a host is fine. A protected source is refused; a full table is an error,
  // and counted.
  // Its packets are dropped from then on; its open connections end with end_banned_connections().
  virtual Result<void> ban(const Prefix& source, std::chrono::seconds duration,
                           const std::string& reason) = 0;
  virtual Result<bool> unban(const Prefix& source) = 0;  // false: was not banned
  // By a ban of this very source that lasts as long or longer.
  virtual bool is_banned_for(const Prefix& source, std::chrono::seconds duration) const = 0;
  virtual std::vector<Ban> bans() const = 0;

  virtual std::vector<RuleCounter> rule_counters() const = 0;
  // A sample of the packets dropped since the last call; the first one switches it on, and it ends
  // five seconds after the last.
  virtual void poll_drops(const std::function<void(const DropEvent&)>& receive) = 0;
  virtual std::uint64_t unreported_drops() const = 0;   // that the sample left out, so far
  virtual std::vector<Seen> seen(SeenBy by) const = 0;  // by the monitor; see Guard::seen()
  virtual std::vector<Sample> samples() const = 0;      // for the metrics page
  virtual std::vector<ExpressConnection> express_connections(std::size_t most) const = 0;
  // Of the plan in force, also when a predecessor put it there; 0: none.
  virtual std::uint64_t generation() const = 0;
  // What runs otherwise than one would expect from the policy, for log and status.
  virtual std::vector<std::string> warnings() const = 0;
  // What tick() found and did since the last call, for the log: repairs of what others changed, and
  // what the kernel refused (once, until it is something else).
  virtual std::vector<std::string> take_notices() = 0;

  virtual KeeperHandOver hand_over() const = 0;
  // The successor has it all in force: closes listening sockets and the lock, so that it alone
  // holds them. Nothing is prepared or ticked any more, and ban() and unban() are refused; counters
  // can still be read.
  virtual void retire() = 0;

  // What keepers of other ABI versions have pinned, unless they live and hold its lock. The first
  // commit does it; of a keeper that was opened `beside` another one, whoever of the two stays has
  // to, since the other needs its pins until it has ended.
  virtual void remove_other_versions() = 0;

  // Takes interception away and closes the listening sockets: new connections flow straight or are
  // refused; those proxied go on until the process ends.
  virtual void stop_serving() = 0;

  // Open connections that the last commit() says are to drain, by SO_COOKIE; once.
  virtual std::vector<std::uint64_t> take_draining() = 0;

  // After stop_serving(), each second until the process ends, which does it once more: what caught
  // connections leave in the kernel's table (TIME_WAIT) keeps new ones from flowing straight.
  // Returns how many there were.
  virtual Result<std::size_t> end_closed_connections() = 0;

  // Ends what the sources that were banned since the last call have open; returns how many. Walks
  // the node's table of TCP sockets once for each 64 of them: call it once for many bans.
  virtual Result<std::size_t> end_banned_connections() = 0;

  // What the policy asks for and does not happen, as of the last tick: for the log, as errors, and
  // status.
  virtual std::vector<std::string> problems() const = 0;
};

// `sluice cleanup`: removes every trace (rules, routes, pins, links), whether or not a keeper
// lives. Each line says what was removed.
Result<std::vector<std::string>> cleanup(const KeeperOptions& options);

}  // namespace sluice::kernel
