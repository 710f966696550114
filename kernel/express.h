// The express lane (express.bpf.c) of one network namespace: what may enter it, and what went by
// it. Keeper's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/pins.h"
#include "kernel/plan.h"

namespace sluice::kernel {

bool asks_for_express(const Plan& plan);

class Express {
 public:
  // Loads nothing yet, unless an earlier keeper left the lane pinned: its connections go on.
  // `pins` outlives the object.
  static std::unique_ptr<Express> open(const PinDirectory& pins);
  virtual ~Express() = default;

  // Of a plan that may come into force: its gateway has it first, and keeps the connections that it
  // opens meanwhile. They may enter, for it is the gateway that says which. abandon(): it does not.
  virtual void prepare(const Plan& plan) = 0;
  virtual void abandon() = 0;
  // Who may enter from now on; what is in the lane stays. Without anybody the programs go with
  // their last connection. A kernel that cannot is no error: see unavailable().
  virtual void follow(const Plan& plan) = 0;
  // About once a second.
  virtual void tick() = 0;

  // Why there is no lane though the plan asks for one; empty: there is, or nobody asks.
  virtual std::string unavailable() const = 0;
  virtual std::vector<Sample> samples() const = 0;
  // Of connections in the lane, and of those that were and go by TCP now; `most` at most.
  virtual std::vector<ExpressConnection> connections(std::size_t most) const = 0;

  // Detaches and removes the pins. Connections that are in the lane lose what was not read.
  virtual void remove() = 0;
};

}  // namespace sluice::kernel
