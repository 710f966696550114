// What steering and interception follow of the calling thread's network namespace.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

struct NodeView {
  std::vector<Prefix> addresses;               // host prefixes, sorted, without duplicates
  std::map<std::string, unsigned> interfaces;  // name ─► index
  bool operator==(const NodeView&) const = default;
};

Result<NodeView> read_node_view();

// Those that `patterns` (names and globs) name.
std::vector<std::string> matching_interfaces(const NodeView& node,
                                             const std::vector<std::string>& patterns);

}  // namespace sluice::kernel
