// Brings connections to this node that would pass it by: nftables marks SYNs, policy routing turns
// them local. Keeper's thread only. One transaction replaces the whole table; what was left by a
// crash is replaced too.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/plan.h"

namespace sluice::kernel {

class Interception {
 public:
  static std::unique_ptr<Interception> create();
  virtual ~Interception() = default;

  // Checks that marks, table and priorities are free, and local destinations sane. Changes nothing.
  virtual Result<void> prepare(const Plan& plan, const std::vector<Prefix>& own_addresses) = 0;
  // Routes and rules, then the table; leases begin held.
  virtual Result<void> commit() = 0;
  virtual void abandon() = 0;

  // About once a second. Renews the leases while the gateway serves; follows addresses and cgroups;
  // repairs what others flushed. Errors are for the log; the next tick tries again.
  virtual Result<void> tick(bool gateway_alive, const std::vector<Prefix>& own_addresses) = 0;

  // New connections flow straight; those proxied go on, since their rules and routes stay.
  virtual void stop_intercepting() = 0;
  // Takes the rest away; connections that are still proxied end.
  virtual void remove() = 0;

  virtual std::vector<Sample> samples() const = 0;
};

// Removes table, rules and routes, whoever made them; each line says what was removed.
std::vector<std::string> remove_interception();

}  // namespace sluice::kernel
