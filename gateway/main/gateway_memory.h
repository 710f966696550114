// What a gateway remembers of sources (who was banned how often, who is diverted), kept for the
// next one: in the state directory, over a restart. Bans of the kernel are in its pins.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "gateway/main/gateway_supervisor.h"

namespace sluice::control {

class GatewayMemory {
 public:
  // `state_dir`: of the policy in force.
  GatewayMemory(GatewaySupervisor& supervisor, std::function<std::string()> state_dir);

  void load();         // for the first gateway; what cannot be read is said in the log
  void save();         // asks the gateway, and writes what it says
  void save_if_due();  // once a minute

 private:
  std::string path() const;
  void write(std::string bytes);

  GatewaySupervisor& supervisor_;
  std::function<std::string()> state_dir_;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
  bool warned_ = false;
};

}  // namespace sluice::control
