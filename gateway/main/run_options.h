// What `sluice run` was told.
#pragma once

#include <string>

namespace sluice::control {

struct RunOptions {
  std::string policy_path = "/etc/sluice";
  std::string socket_path;  // of the admin socket
  std::string pin_root = "/sys/fs/bpf/sluice";
  std::string user;  // of the gateway process; empty: the keeper's
  std::string take_over_path;  // socket by which keepers follow each other; empty: none
};

}  // namespace sluice::control
