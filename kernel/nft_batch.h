// One nftables transaction: all of it comes into force in one moment, or nothing does.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernel/keeper.h"
#include "kernel/nft_rule.h"

namespace sluice::kernel {

inline constexpr const char* kNftTable = "sluice";  // family inet

enum class NftKey { ipv4, ipv6, port, l4proto };

// Inclusive, in network order, in the first bytes of the array as many as the key has.
using NftInterval = std::pair<std::array<std::uint8_t, 16>, std::array<std::uint8_t, 16>>;

struct NftHook {
  const char* type;  // "filter", "route"
  std::uint32_t number;
  std::int32_t priority;
};

class NftBatch {
 public:
  explicit NftBatch(const char* table = kNftTable);  // a literal
  ~NftBatch();
  NftBatch(const NftBatch&) = delete;
  NftBatch& operator=(const NftBatch&) = delete;

  void add_table();
  void delete_table();
  void add_chain(const std::string& name);
  void add_chain(const std::string& name, const NftHook& hook);
  // Rules of this batch refer to the set by name.
  void add_interval_set(const std::string& name, NftKey key, std::vector<NftInterval> intervals);
  void add_timeout_set(const std::string& name);  // of l4proto
  // Of tcp and udp.
  void renew_timeout_elements(const std::string& name, std::chrono::milliseconds timeout);
  void flush_set(const std::string& name);
  void add_rule(const std::string& chain, const NftRule& rule);

  // 0, or the errno and what it was about.
  struct Failure {
    int error = 0;
    std::string what;
  };
  Failure commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::kernel
