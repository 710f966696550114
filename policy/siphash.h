// SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012). Keyed, so that
// clients cannot aim at buckets.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace sluice::policy {

// 128 bits; for tables that clients can fill, random and per process.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

std::uint64_t siphash(const HashKey& key, std::span<const std::uint8_t> data);
std::uint64_t siphash(const HashKey& key, std::string_view text);

}  // namespace sluice::policy
