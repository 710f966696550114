#include "policy/address.h"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <cstring>

namespace sluice::policy {

namespace {

constexpr std::array<std::uint8_t, 12> kV4Head{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::size_t kLongestAddress = INET6_ADDRSTRLEN - 1;

// Decimal digits only: no sign, no space, no leading zero (inet_pton refuses those too).
std::optional<std::uint32_t> parse_decimal(std::string_view text, std::uint32_t max) {
  if (text.empty() || text.size() > 9 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

}  // namespace

IpAddress IpAddress::v4(std::uint32_t host_order) {
  Bytes bytes{};
  std::ranges::copy(kV4Head, bytes.begin());
  for (int i = 0; i < 4; ++i)
    bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
  return IpAddress(bytes);
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.empty() || text.size() > kLongestAddress) return std::nullopt;
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  char terminated[INET6_ADDRSTRLEN];
  terminated[text.copy(terminated, kLongestAddress)] = '\0';
  in_addr four{};
  if (inet_pton(AF_INET, terminated, &four) == 1) return v4(ntohl(four.s_addr));
  Bytes bytes{};
  if (inet_pton(AF_INET6, terminated, bytes.data()) == 1) return IpAddress(bytes);
  return std::nullopt;
}

bool IpAddress::is_v4() const {
  return std::equal(kV4Head.begin(), kV4Head.end(), bytes_.begin());
}

bool IpAddress::is_unspecified() const {
  const auto first = bytes_.begin() + (is_v4() ? 12 : 0);
  return std::all_of(first, bytes_.end(), [](std::uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes_[12] == 127;
  return bytes_[15] == 1 &&
         std::all_of(bytes_.begin(), bytes_.end() - 1, [](std::uint8_t b) { return b == 0; });
}

std::uint32_t IpAddress::v4_host_order() const {
  return std::uint32_t{bytes_[12]} << 24 | std::uint32_t{bytes_[13]} << 16 |
         std::uint32_t{bytes_[14]} << 8 | std::uint32_t{bytes_[15]};
}

IpAddress IpAddress::masked(int length) const {
  const int kept = (is_v4() ? 96 : 0) + std::clamp(length, 0, bits());
  Bytes bytes = bytes_;
  for (int i = kept / 8; i < 16; ++i) {
    const int in_byte = std::max(0, kept - 8 * i);
    bytes[i] &= static_cast<std::uint8_t>(0xff00 >> in_byte);
  }
  return IpAddress(bytes);
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_v4()) {
    inet_ntop(AF_INET, bytes_.data() + 12, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, bytes_.data(), text, sizeof text);
  }
  return text;
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  int length = address->bits();
  if (slash != std::string_view::npos) {
    const auto given = parse_decimal(text.substr(slash + 1), static_cast<std::uint32_t>(length));
    if (!given) return std::nullopt;
    length = static_cast<int>(*given);
  }
  if (address->masked(length) != *address) return std::nullopt;
  return Prefix{*address, static_cast<std::uint8_t>(length)};
}

bool Prefix::contains(const IpAddress& other) const {
  return is_v4() == other.is_v4() && other.masked(length) == address;
}

bool Prefix::contains(const Prefix& other) const {
  return other.length >= length && contains(other.address);
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(static_cast<int>(length));
}

std::optional<PortRange> PortRange::parse(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = parse_decimal(text.substr(0, dash), 65535);
  const auto last =
      dash == std::string_view::npos ? first : parse_decimal(text.substr(dash + 1), 65535);
  if (!first || !last || *first > *last) return std::nullopt;
  return PortRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
}

std::optional<SocketAddress> SocketAddress::parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // Brackets belong to IPv6 and IPv6 to brackets: without them "::1:80" would be two things.
  if (bracketed != (host.find(':') != std::string_view::npos)) return std::nullopt;
  const auto address = IpAddress::parse(host);
  const auto port = parse_decimal(text.substr(colon + 1), 65535);
  if (!address || !port) return std::nullopt;
  return SocketAddress{*address, static_cast<std::uint16_t>(*port)};
}

std::string SocketAddress::to_string() const {
  const std::string port_text = ":" + std::to_string(port);
  return address.is_v4() ? address.to_string() + port_text
                         : "[" + address.to_string() + "]" + port_text;
}

}  // namespace sluice::policy
