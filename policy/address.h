// IP addresses, prefixes, ports: the values that policies are written in.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::policy {

// An IPv4 or IPv6 address. IPv4 is kept as ::ffff:a.b.c.d, so that one key serves both.
class IpAddress {
 public:
  using Bytes = std::array<std::uint8_t, 16>;

  constexpr IpAddress() = default;  // ::
  constexpr explicit IpAddress(const Bytes& bytes) : bytes_(bytes) {}
  static IpAddress v4(std::uint32_t host_order);
  // "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1" (an IPv4 address); no zone, no brackets.
  static std::optional<IpAddress> parse(std::string_view text);

  const Bytes& bytes() const { return bytes_; }
  bool is_v4() const;
  bool is_unspecified() const;  // 0.0.0.0 or ::
  bool is_loopback() const;     // 127.0.0.0/8 or ::1
  int bits() const { return is_v4() ? 32 : 128; }
  std::uint32_t v4_host_order() const;  // only when is_v4()
  // Keeps the first `length` bits of the address's own version, 0 to bits().
  IpAddress masked(int length) const;
  std::string to_string() const;

  auto operator<=>(const IpAddress&) const = default;

 private:
  Bytes bytes_{};
};

// An address and a length in its own version: 0 to 32 for IPv4, 0 to 128 for IPv6. Host bits are
// zero.
struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;

  // "10.0.0.0/8", "2001:db8::/32", or a bare address (a host). Host bits that are set are an error
  // (nullopt).
  static std::optional<Prefix> parse(std::string_view text);
  bool is_v4() const { return address.is_v4(); }
  bool contains(const IpAddress& other) const;  // never across versions
  bool contains(const Prefix& other) const;
  std::string to_string() const;

  auto operator<=>(const Prefix&) const = default;
};

// Inclusive; 0 to 65535, first <= last.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;

  static std::optional<PortRange> parse(std::string_view text);  // "80", "8000-8999"
  bool contains(std::uint16_t port) const { return first <= port && port <= last; }
  auto operator<=>(const PortRange&) const = default;
};

struct SocketAddress {
  IpAddress address;
  std::uint16_t port = 0;

  static std::optional<SocketAddress> parse(std::string_view text);  // "10.0.0.1:80", "[::1]:80"
  std::string to_string() const;
  auto operator<=>(const SocketAddress&) const = default;
};

}  // namespace sluice::policy
