// What a DNS server said (RFC 1035 section 4, RFC 3596, RFC 2782). c-ares 1.18 gives no TTL for
// SRV, so the message is read here. Pure; every byte comes from the network.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "policy/address.h"

namespace sluice::gateway {

enum class DnsType : std::uint16_t { a = 1, aaaa = 28, srv = 33 };

struct SrvRecord {
  std::uint16_t priority = 0;
  std::uint16_t weight = 0;
  std::uint16_t port = 0;
  std::string target;  // lower case, no final dot
  auto operator<=>(const SrvRecord&) const = default;
};

struct DnsAnswer {
  std::vector<policy::IpAddress> addresses;  // A, AAAA: sorted, each once
  std::vector<SrvRecord> services;           // SRV: sorted, each once
  std::chrono::seconds ttl{0};               // the shortest on the way, aliases (CNAME) included
  bool empty() const { return addresses.empty() && services.empty(); }
  bool same_records(const DnsAnswer& other) const {
    return addresses == other.addresses && services == other.services;
  }
};

inline constexpr std::size_t kMaxDnsRecords = 1024;  // of an answer; the rest is left out

// The records of `type` in a message's answer section. nullopt: it is not a well-formed answer.
std::optional<DnsAnswer> parse_dns_answer(std::span<const std::uint8_t> message, DnsType type);

}  // namespace sluice::gateway
