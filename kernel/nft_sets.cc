#include "kernel/nft_sets.h"

#include <algorithm>

#include "kernel/prefix_text.h"

namespace sluice::kernel {
namespace {

std::vector<Prefix> of_version(const std::vector<Prefix>& prefixes, bool v4) {
  std::vector<Prefix> result;
  std::copy_if(prefixes.begin(), prefixes.end(), std::back_inserter(result),
               [&](const Prefix& prefix) { return prefix.v4 == v4; });
  return result;
}

bool is_everything(const std::vector<Prefix>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [](const Prefix& prefix) { return own_length(prefix) == 0; });
}

NftInterval interval_of(const Prefix& prefix) {
  NftInterval interval{};
  const std::size_t skip = prefix.v4 ? 12 : 0;
  std::copy(prefix.address.begin() + static_cast<std::ptrdiff_t>(skip), prefix.address.end(),
            interval.first.begin());
  interval.second = interval.first;
  const int bits = prefix.v4 ? 32 : 128;
  for (int bit = own_length(prefix); bit < bits; bit++) {
    interval.second[static_cast<std::size_t>(bit / 8)] |=
        static_cast<std::uint8_t>(0x80 >> (bit % 8));
  }
  return interval;
}

NftInterval interval_of(PortRange range) {
  NftInterval interval{};
  interval.first[0] = static_cast<std::uint8_t>(range.first >> 8);
  interval.first[1] = static_cast<std::uint8_t>(range.first);
  interval.second[0] = static_cast<std::uint8_t>(range.last >> 8);
  interval.second[1] = static_cast<std::uint8_t>(range.last);
  return interval;
}

template <typename Values>
std::vector<NftInterval> intervals_of(const Values& values) {
  std::vector<NftInterval> intervals;
  for (const auto& value : values)
    intervals.push_back(interval_of(value));
  return intervals;
}

}  // namespace

void NftSets::add_addresses(const std::string& name, bool v4, const std::vector<Prefix>& prefixes) {
  batch_.add_interval_set(name, v4 ? NftKey::ipv4 : NftKey::ipv6,
                          intervals_of(of_version(prefixes, v4)));
}

void NftSets::add_ports(const std::string& name, const std::vector<PortRange>& ports) {
  batch_.add_interval_set(name, NftKey::port, intervals_of(ports));
}

bool NftSets::match_address(NftRule& rule, NftRule::Side side, bool v4, const std::string& name,
                            const std::vector<Prefix>& in, const std::vector<Prefix>& except) {
  const auto wanted = of_version(in, v4);
  if (!in.empty() && wanted.empty()) return false;
  const auto holes = of_version(except, v4);
  if (is_everything(holes)) return false;
  if (!wanted.empty() && !is_everything(wanted)) {
    add_addresses(name, v4, wanted);
    rule.address_in(side, v4, name);
  }
  if (!holes.empty()) {
    add_addresses(name + "_except", v4, holes);
    rule.address_in(side, v4, name + "_except", false);
  }
  return true;
}

std::string NftSets::ports_of(const std::string& name, const std::vector<PortRange>& ports) {
  const bool any =
      ports.empty() || std::find(ports.begin(), ports.end(), PortRange{0, 65535}) != ports.end();
  if (any) return {};
  add_ports(name, ports);
  return name;
}

}  // namespace sluice::kernel
