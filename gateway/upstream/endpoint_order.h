// What an operator said of endpoints (`sluice upstream drain | ready | weight`).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice::gateway {

struct EndpointOrder {
  std::string upstream;
  std::string endpoint;  // "10.0.0.1:80"; "": every one of the upstream
  // Absent: as it was. Drained: no new requests, those under way finish.
  std::optional<bool> drained = {};
  // Instead of the policy's; 0: no new requests.
  std::optional<std::uint32_t> weight = {};
  bool policy_weight = false;  // back to the policy's
};

inline constexpr std::uint32_t kMaxOrderedWeight = 1000;

}  // namespace sluice::gateway
