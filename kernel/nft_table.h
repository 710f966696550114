// The table `inet sluice`, written whole from a plan whose entries say sk_lookup or tproxy.
//
// The SYN decides: rules judge only a connection's first packet. What follows is known by its
// socket (forward, and upstream connections with the client's address) or by its conntrack mark
// (output), so that a connection which was open before the start, or made during a bypass, is not
// touched unless its entry says `on_change: reset`. When entries overlap, the first one in the
// policy says what happens without a gateway; which listener gets the connection is decided by
// sk_lookup, or by the order of the tproxy rules, which is the same order of precedence.
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel/nft_batch.h"
#include "kernel/node_view.h"
#include "kernel/plan.h"

namespace sluice::kernel {

// cgroup path as in the policy ─► the id that nftables compares; a cgroup that does not exist has
// none.
using CgroupIds = std::map<std::string, std::uint64_t>;

// Where the sockets of steering tproxy listen: by listener and way.
using TproxyPorts = std::map<std::pair<std::uint32_t, WayIn>, std::uint16_t>;

struct NftTableOptions {
  bool judge_syns = true;      // false: only what is already proxied goes on
  bool gateway_serves = true;  // leases begin held
  CgroupIds cgroups;
  TproxyPorts tproxy_ports;
  NodeView node;
  std::vector<Marks> former_marks{};  // of plans before: what carries them goes on
};

// Appends to the batch: create or replace. Returns the number of rules.
int write_nft_table(NftBatch& batch, const Plan& plan, const NftTableOptions& options);

// Removes the table, if it is there.
void write_nft_removal(NftBatch& batch);

// What of the node the table depends on; it is written again when that changes.
bool depends_on_node(const Plan& plan);

// The distinct leases of a plan's forward and output entries, and the name of each one's set.
std::set<std::chrono::milliseconds> leases_of(const Plan& plan);
std::string lease_set(std::chrono::milliseconds lease);

// Ids of the cgroups that a plan names, below the cgroup2 mount.
CgroupIds find_cgroups(const Plan& plan);
// Those that it names and that are not among `there`, sorted.
std::vector<std::string> missing_cgroups(const Plan& plan, const CgroupIds& there);

}  // namespace sluice::kernel
