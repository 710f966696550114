// Addresses and ports of a plan as nftables sets of the table, with the matches that look into
// them.
#pragma once

#include <string>
#include <vector>

#include "kernel/nft_batch.h"
#include "kernel/nft_rule.h"
#include "kernel/plan.h"

namespace sluice::kernel {

class NftSets {
 public:
  explicit NftSets(NftBatch& batch) : batch_(batch) {}

  void add_addresses(const std::string& name, bool v4, const std::vector<Prefix>& prefixes);
  void add_ports(const std::string& name, const std::vector<PortRange>& ports);

  // Adds the match, and the sets that it needs, to a rule of one IP version. `in` empty: any
  // address. False: nothing of this IP version can match.
  bool match_address(NftRule& rule, NftRule::Side side, bool v4, const std::string& name,
                     const std::vector<Prefix>& in, const std::vector<Prefix>& except);
  // Adds the set and returns its name; empty: any port.
  std::string ports_of(const std::string& name, const std::vector<PortRange>& ports);

 private:
  NftBatch& batch_;
};

}  // namespace sluice::kernel
