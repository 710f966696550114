#include "policy/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace sluice::policy {
namespace {

constexpr std::array<std::uint8_t, 12> kV4Prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

template <typename T>
std::optional<T> parse_number(std::string_view text, T largest) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool digits = !text.empty() && text.front() >= '0' && text.front() <= '9';
  if (!digits || error != std::errc{} || end != text.data() + text.size() || value > largest) return std::nullopt;
  return value;
}

}  // namespace

IpAddress IpAddress::v4(std::uint32_t host_order) {
  Bytes bytes{};
  std::ranges::copy(kV4Prefix, bytes.begin());
  for (int i = 0; i < 4; ++i) bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
  return IpAddress(bytes);
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  char buffer[INET6_ADDRSTRLEN];
  if (text.empty() || text.size() >= sizeof buffer) return std::nullopt;
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  Bytes bytes{};
  if (inet_pton(AF_INET, buffer, bytes.data() + 12) == 1) {
    std::ranges::copy(kV4Prefix, bytes.begin());
    return IpAddress(bytes);
  }
  if (inet_pton(AF_INET6, buffer, bytes.data()) == 1) return IpAddress(bytes);
  return std::nullopt;
}

bool IpAddress::is_v4() const { return std::equal(kV4Prefix.begin(), kV4Prefix.end(), bytes_.begin()); }

bool IpAddress::is_unspecified() const {
  return is_v4() ? v4_host_order() == 0 : std::ranges::all_of(bytes_, [](auto byte) { return byte == 0; });
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes_[12] == 127;
  return bytes_[15] == 1 && std::all_of(bytes_.begin(), bytes_.end() - 1, [](auto byte) { return byte == 0; });
}

std::uint32_t IpAddress::v4_host_order() const {
  return std::uint32_t{bytes_[12]} << 24 | std::uint32_t{bytes_[13]} << 16 | std::uint32_t{bytes_[14]} << 8 | bytes_[15];
}

IpAddress IpAddress::masked(int length) const {
  int kept = is_v4() ? length + 96 : length;
  Bytes bytes = bytes_;
  for (auto& byte : bytes) {
    const int bits = std::clamp(kept, 0, 8);
    byte = static_cast<std::uint8_t>(byte & (0xff00 >> bits));
    kept -= 8;
  }
  return IpAddress(bytes);
}

std::string IpAddress::to_string() const {
  char buffer[INET6_ADDRSTRLEN];
  const bool four = is_v4();
  inet_ntop(four ? AF_INET : AF_INET6, bytes_.data() + (four ? 12 : 0), buffer, sizeof buffer);
  return buffer;
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  int length = address->bits();
  if (slash != std::string_view::npos) {
    const auto given = parse_number<unsigned>(text.substr(slash + 1), static_cast<unsigned>(address->bits()));
    if (!given) return std::nullopt;
    length = static_cast<int>(*given);
  }
  if (address->masked(length) != *address) return std::nullopt;
  return Prefix{*address, static_cast<std::uint8_t>(length)};
}

bool Prefix::contains(const IpAddress& other) const {
  return is_v4() == other.is_v4() && other.masked(length) == address;
}

bool Prefix::contains(const Prefix& other) const { return other.length >= length && contains(other.address); }

std::string Prefix::to_string() const { return address.to_string() + "/" + std::to_string(length); }

std::optional<PortRange> PortRange::parse(std::string_view text) {
  const auto dash = text.find('-');
  const auto first = parse_number<unsigned>(text.substr(0, dash), 65535U);
  const auto last = dash == std::string_view::npos ? first : parse_number<unsigned>(text.substr(dash + 1), 65535U);
  if (!first || !last || *first > *last) return std::nullopt;
  return PortRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
}

std::optional<SocketAddress> SocketAddress::parse(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host);
  const auto port = parse_number<unsigned>(text.substr(colon + 1), 65535U);
  if (!address || !port || (host.find(':') != std::string_view::npos) != bracketed) return std::nullopt;
  return SocketAddress{*address, static_cast<std::uint16_t>(*port)};
}

std::string SocketAddress::to_string() const {
  const std::string text = address.to_string();
  const std::string suffix = ":" + std::to_string(port);
  return address.is_v4() ? text + suffix : "[" + text + "]" + suffix;
}

}  // namespace sluice::policy
