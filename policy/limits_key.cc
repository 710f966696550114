#include "policy/limits_key.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "policy/pod_owners.h"

namespace sluice::policy {

namespace {

constexpr int kOverflowV4Bits = 24;
constexpr int kOverflowV6Bits = 48;
constexpr std::uint64_t kAbsent = 0xa5;  // no value hashes like "no value"

std::array<std::uint8_t, 8> bytes_of(std::uint64_t value) {
  std::array<std::uint8_t, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return bytes;
}

}  // namespace

LimitKeyHasher::LimitKeyHasher(const Limit& limit, HashKey hash_key)
    : hash_key_(hash_key),
      pods_(limit.pods),
      parts_(limit.key),
      ipv4_prefix_(limit.ipv4_prefix),
      ipv6_prefix_(limit.ipv6_prefix) {
  std::ranges::sort(parts_, {},
                    [](const LimitKeyPart& part) { return std::tuple(part.kind, part.name); });
  uses_destination_ =
      std::ranges::find(parts_, LimitKey::destination, &LimitKeyPart::kind) != parts_.end();
}

LimitKeys LimitKeyHasher::of(const RequestView& request, std::uint64_t route_id) const noexcept {
  std::uint64_t own = 0;
  for (const LimitKeyPart& part : parts_)
    own = add(own, part, request, route_id);
  const bool v4 = request.client.is_v4();
  const IpAddress network = request.client.masked(v4 ? kOverflowV4Bits : kOverflowV6Bits);
  return {own, siphash({hash_key_.k1, hash_key_.k0}, network.bytes())};
}

// A whole address that is a pod's is counted for that pod; a network is whoever is in it.
std::uint64_t LimitKeyHasher::of_client(const HashKey& key,
                                        const IpAddress& client) const noexcept {
  const bool v4 = client.is_v4();
  const std::uint8_t prefix = v4 ? ipv4_prefix_ : ipv6_prefix_;
  const bool whole = prefix == (v4 ? 32 : 128);
  const std::uint64_t owner = whole && pods_ ? pods_->of(client) : 0;
  return siphash({key.k0 ^ owner, key.k1}, client.masked(prefix).bytes());
}

// The hash so far is part of the next one's key, so that no two lists of parts read alike.
std::uint64_t LimitKeyHasher::add(std::uint64_t so_far, const LimitKeyPart& part,
                                  const RequestView& request,
                                  std::uint64_t route_id) const noexcept {
  const HashKey key{hash_key_.k0 ^ so_far, hash_key_.k1 + static_cast<std::uint64_t>(part.kind)};
  const HashKey absent{key.k0, key.k1 ^ (kAbsent << 32)};
  switch (part.kind) {
    case LimitKey::client_ip:
      return of_client(key, request.client);
    case LimitKey::route:
      return siphash(key, bytes_of(route_id));
    case LimitKey::method:
      return siphash(key, request.method);
    case LimitKey::host:
      return siphash(key, request.host);
    case LimitKey::destination: {
      if (!request.destination) return siphash(absent, std::string_view{});
      std::array<std::uint8_t, 18> input{};
      std::ranges::copy(request.destination->address.bytes(), input.begin());
      input[16] = static_cast<std::uint8_t>(request.destination->port >> 8);
      input[17] = static_cast<std::uint8_t>(request.destination->port);
      return siphash(key, input);
    }
    case LimitKey::identity: {
      const bool shown =
          request.identity != nullptr && !request.identity->certificate_names.empty();
      return shown ? siphash(key, request.identity->certificate_names.front())
                   : siphash(absent, std::string_view{});
    }
    case LimitKey::header: {
      const auto value =
          request.fields == nullptr ? std::nullopt : request.fields->field(part.name);
      return value ? siphash(key, *value) : siphash(absent, std::string_view{});
    }
    case LimitKey::claim: {
      const auto value =
          request.attributes == nullptr ? std::nullopt : request.attributes->attribute(part.name);
      return value ? siphash(key, *value) : siphash(absent, std::string_view{});
    }
  }
  return so_far;
}

}  // namespace sluice::policy
