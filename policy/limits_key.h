// What a limit counts apart, as one number: parts of a request, hashed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "policy/config.h"
#include "policy/request.h"
#include "policy/siphash.h"

namespace sluice::policy {

struct LimitKeys {
  std::uint64_t own = 0;       // of this key
  std::uint64_t overflow = 0;  // of the client's network (/24, /48): shared when no place is left
};

class LimitKeyHasher {
 public:
  // `hash_key`: random per process, so that clients cannot aim at places; for limits that several
  // gateways share the same one on all of them.
  LimitKeyHasher(const Limit& limit, HashKey hash_key);

  // `route_id` is CompiledRoute::id. What `request` does not have (a field, a destination) counts
  // as one value of its own.
  LimitKeys of(const RequestView& request, std::uint64_t route_id) const noexcept;

  // Whether RequestView::destination makes a difference (it costs a system call).
  bool uses_destination() const { return uses_destination_; }

 private:
  std::uint64_t of_client(const HashKey& key, const IpAddress& client) const noexcept;
  std::uint64_t add(std::uint64_t so_far, const LimitKeyPart& part, const RequestView& request,
                    std::uint64_t route_id) const noexcept;

  HashKey hash_key_;
  std::shared_ptr<const PodOwners> pods_;
  std::vector<LimitKeyPart> parts_;  // in one order, whatever the file's
  std::uint8_t ipv4_prefix_;
  std::uint8_t ipv6_prefix_;
  bool uses_destination_ = false;
};

}  // namespace sluice::policy
