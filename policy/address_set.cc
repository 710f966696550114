#include "policy/address_set.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "policy/siphash.h"

namespace sluice::policy {

namespace {

constexpr HashKey kDigestKey{0x736c756963652d73, 0x65742d6469676573};
constexpr std::size_t kIndexed = 256;  // ranges; fewer are found by halving alone

Uint128 number_of(const IpAddress& address) {
  Uint128 out = 0;
  for (const std::uint8_t byte : address.bytes())
    out = out << 8 | byte;
  return out;
}

IpAddress address_of(std::uint32_t number) {
  return IpAddress::v4(number);
}

IpAddress address_of(Uint128 number) {
  IpAddress::Bytes bytes{};
  for (int i = 15; i >= 0; --i, number >>= 8)
    bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(number);
  return IpAddress(bytes);
}

template <typename Number>
AddressRange<Number> range_of(Number address, int length) {
  constexpr int kBits = sizeof(Number) * 8;
  const Number hosts = length >= kBits ? Number{0}
                                       : static_cast<Number>(~Number{0}) >> length;
  return {static_cast<Number>(address & ~hosts), static_cast<Number>(address | hosts)};
}

template <typename Number>
void join(std::vector<AddressRange<Number>>& ranges) {
  if (!std::ranges::is_sorted(ranges, {}, &AddressRange<Number>::first))
    std::ranges::sort(ranges, {}, &AddressRange<Number>::first);
  std::size_t kept = 0;
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    AddressRange<Number>& last = ranges[kept];
    // `last.last + 1` of the highest address would be 0.
    if (ranges[i].first <= last.last || ranges[i].first - last.last == 1) {
      last.last = std::max(last.last, ranges[i].last);
    } else {
      ranges[++kept] = ranges[i];
    }
  }
  if (!ranges.empty()) ranges.resize(kept + 1);
  ranges.shrink_to_fit();
}

int trailing_zeros(std::uint32_t number) {
  return std::countr_zero(number);
}
int trailing_zeros(Uint128 number) {
  const auto low = static_cast<std::uint64_t>(number);
  if (low != 0) return std::countr_zero(low);
  return 64 + std::countr_zero(static_cast<std::uint64_t>(number >> 64));
}

// The fewest prefixes that make up a range, by address: each as large as alignment and end allow.
template <typename Number, typename Use>
void split(const AddressRange<Number>& range, Use use) {
  constexpr int kBits = sizeof(Number) * 8;
  Number first = range.first;
  for (;;) {
    int hosts = first == 0 ? kBits : trailing_zeros(first);
    while (hosts > 0 && range_of<Number>(first, kBits - hosts).last > range.last)
      --hosts;
    use(first, kBits - hosts);
    const Number last = range_of<Number>(first, kBits - hosts).last;
    if (last >= range.last) return;
    first = last + 1;
  }
}

template <typename Number>
std::size_t count_prefixes(const std::vector<AddressRange<Number>>& ranges) {
  std::size_t count = 0;
  for (const auto& range : ranges)
    split(range, [&](Number, int) { ++count; });
  return count;
}

template <typename Number>
bool holds(const AddressRange<Number>* begin, const AddressRange<Number>* end,
           const AddressRange<Number>& wanted) {
  const auto* after = std::upper_bound(
      begin, end, wanted.last, [](Number x, const auto& range) { return x < range.first; });
  return after != begin && (after - 1)->last >= wanted.first;
}

template <typename Number>
void add_to_digest(const std::vector<AddressRange<Number>>& ranges, std::uint64_t& sum) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(ranges.data());
  sum ^= siphash({kDigestKey.k0 ^ sum, kDigestKey.k1},
                 std::span(bytes, ranges.size() * sizeof(AddressRange<Number>)));
}

}  // namespace

AddressSet::AddressSet(std::vector<Range4> v4, std::vector<Range6> v6)
    : v4_(std::move(v4)), v6_(std::move(v6)) {
  join(v4_);
  join(v6_);
  size_ = count_prefixes(v4_) + count_prefixes(v6_);
  add_to_digest(v4_, digest_);
  add_to_digest(v6_, digest_);
  if (v4_.size() < kIndexed) return;
  index_.resize(65537);
  std::size_t at = 0;
  for (std::uint32_t top = 0; top < 65536; ++top) {
    while (at < v4_.size() && v4_[at].first < top << 16)
      ++at;
    index_[top] = static_cast<std::uint32_t>(at);
  }
  index_[65536] = static_cast<std::uint32_t>(v4_.size());
}

std::shared_ptr<const AddressSet> AddressSet::of(const std::vector<Prefix>& prefixes) {
  AddressSetBuilder builder;
  for (const Prefix& prefix : prefixes)
    builder.add(prefix);
  return builder.build();
}

bool AddressSet::contains(const IpAddress& address) const noexcept {
  if (!address.is_v4()) {
    const Uint128 wanted = number_of(address);
    return holds(v6_.data(), v6_.data() + v6_.size(), {wanted, wanted});
  }
  const std::uint32_t wanted = address.v4_host_order();
  const Range4* begin = v4_.data();
  const Range4* end = begin + v4_.size();
  if (!index_.empty()) {
    // The range that holds it begins in its own /16, or is the last that begins before.
    const std::uint32_t before = index_[wanted >> 16];
    end = begin + index_[(wanted >> 16) + 1];
    begin += before > 0 ? before - 1 : 0;
  }
  return holds(begin, end, {wanted, wanted});
}

bool AddressSet::overlaps(const Prefix& prefix) const noexcept {
  if (prefix.is_v4()) {
    return holds(v4_.data(), v4_.data() + v4_.size(),
                 range_of(prefix.address.v4_host_order(), prefix.length));
  }
  return holds(v6_.data(), v6_.data() + v6_.size(),
               range_of(number_of(prefix.address), prefix.length));
}

std::vector<Prefix> AddressSet::prefixes() const {
  std::vector<Prefix> out;
  out.reserve(size_);
  const auto add = [&](auto first, int length) {
    out.push_back({address_of(first), static_cast<std::uint8_t>(length)});
  };
  for (const Range4& range : v4_)
    split(range, add);
  for (const Range6& range : v6_)
    split(range, add);
  return out;
}

std::shared_ptr<const AddressSet> empty_address_set() {
  static const auto empty = std::make_shared<const AddressSet>();
  return empty;
}

void AddressSetBuilder::add(const Prefix& prefix) {
  if (prefix.is_v4()) {
    add_v4(prefix.address.v4_host_order(), prefix.length);
  } else {
    v6_.push_back(range_of(number_of(prefix.address), prefix.length));
  }
}

void AddressSetBuilder::add_v4(std::uint32_t address, int length) {
  v4_.push_back(range_of(address, length));
}

void AddressSetBuilder::add(const AddressSet& set) {
  v4_.insert(v4_.end(), set.v4().begin(), set.v4().end());
  v6_.insert(v6_.end(), set.v6().begin(), set.v6().end());
}

std::shared_ptr<const AddressSet> AddressSetBuilder::build() {
  if (added() == 0) return empty_address_set();
  return std::make_shared<const AddressSet>(std::exchange(v4_, {}), std::exchange(v6_, {}));
}

}  // namespace sluice::policy
