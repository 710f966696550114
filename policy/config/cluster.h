// The typed form of `cluster`: what several gateways share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/config/tls.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

// What limits of scope `cluster` do while Redis cannot be asked.
enum class OnLoss {
  share,     // the rate divided by the number of gateways last known: the sum still holds
  deny,      // nothing passes
  per_node,  // every gateway allows the whole rate
};

struct RedisConfig {
  SocketAddress address;  // port 0: `url` could not be read
  std::string name;       // resolved as each connection is made; "": the address is known
  std::optional<UpstreamTls> tls;  // rediss://
  bool tls_given = false;          // `tls` is there, whatever the URL
  std::uint32_t database = 0;
  std::string username;
  std::string password;  // "file:PATH": as whoever reads files has it; "": none
  std::string prefix = "sluice";
  OnLoss on_loss = OnLoss::share;
  Duration deadline = 50ms;  // for a limit that Redis itself decides
  Location where;
};

}  // namespace sluice::policy
