// Many addresses, compiled: sorted ranges without overlap, so that a million prefixes take 8 bytes
// (IPv4) or 32 (IPv6) each at most, and are asked in a fraction of a microsecond.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "policy/address.h"

namespace sluice::policy {

__extension__ typedef unsigned __int128 Uint128;

template <typename Number>
struct AddressRange {
  Number first = 0;
  Number last = 0;  // inclusive
  bool operator==(const AddressRange&) const = default;
};

// Immutable; read it from any thread.
class AddressSet {
 public:
  using Range4 = AddressRange<std::uint32_t>;
  using Range6 = AddressRange<Uint128>;

  AddressSet() = default;
  // In any order, overlapping as they may.
  explicit AddressSet(std::vector<Range4> v4, std::vector<Range6> v6);
  static std::shared_ptr<const AddressSet> of(const std::vector<Prefix>& prefixes);

  bool contains(const IpAddress& address) const noexcept;
  bool overlaps(const Prefix& prefix) const noexcept;
  bool empty() const { return v4_.empty() && v6_.empty(); }
  std::size_t size() const { return size_; }  // prefixes, the fewest that say the same
  std::vector<Prefix> prefixes() const;       // those, IPv4 first, by address
  std::uint64_t digest() const { return digest_; }  // equal for the same addresses
  const std::vector<Range4>& v4() const { return v4_; }
  const std::vector<Range6>& v6() const { return v6_; }

 private:
  std::vector<Range4> v4_;
  std::vector<Range6> v6_;
  // Of a large v4_: at i, how many ranges begin before i << 16.
  std::vector<std::uint32_t> index_;
  std::size_t size_ = 0;
  std::uint64_t digest_ = 0;
};

std::shared_ptr<const AddressSet> empty_address_set();

// Collects what a set is made of.
class AddressSetBuilder {
 public:
  void add(const Prefix& prefix);
  // `length` of 0 to 32; host bits are cleared.
  void add_v4(std::uint32_t address, int length);
  void add(const AddressSet& set);
  std::size_t added() const { return v4_.size() + v6_.size(); }
  std::shared_ptr<const AddressSet> build();  // and begins anew

 private:
  std::vector<AddressSet::Range4> v4_;
  std::vector<AddressSet::Range6> v6_;
};

}  // namespace sluice::policy
