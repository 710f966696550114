#include "policy/host.h"

#include <algorithm>
#include <array>

#include "policy/address.h"

namespace sluice::policy {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Each octet in lower case; 0 for what no host holds: unreserved and sub-delims of RFC 3986,
// without '%', since nothing that needs escaping belongs in a host name.
constexpr std::array<char, 256> make_host_octets() {
  std::array<char, 256> table{};
  for (const char c : std::string_view("0123456789abcdefghijklmnopqrstuvwxyz-._~!$&'()*+,;="))
    table[static_cast<unsigned char>(c)] = c;
  for (char c = 'A'; c <= 'Z'; ++c)
    table[static_cast<unsigned char>(c)] = static_cast<char>(c + ('a' - 'A'));
  return table;
}
constexpr auto kHostOctets = make_host_octets();

bool is_port(std::string_view text) {
  if (text.size() > 5 || !std::ranges::all_of(text, is_digit)) return false;
  int port = 0;
  for (const char c : text)
    port = port * 10 + (c - '0');
  return port <= 65535;
}

// The length of the host part; nullopt when what follows it is not a port.
std::optional<std::size_t> host_length(std::string_view value) {
  const bool literal = value.starts_with('[');
  std::size_t end = literal ? value.find(']') : value.find(':');
  if (literal) {
    if (end == std::string_view::npos) return std::nullopt;
    ++end;
  }
  if (end == std::string_view::npos || end == value.size()) return value.size();
  if (value[end] != ':' || !is_port(value.substr(end + 1))) return std::nullopt;
  return end;
}

// `host` with its brackets. IPv4-mapped literals keep their prefix: they are not that IPv4 host.
std::optional<std::string_view> normalise_literal(std::string_view host, std::span<char> buffer) {
  if (host.find(':') == std::string_view::npos) return std::nullopt;
  const auto address = IpAddress::parse(host.substr(1, host.size() - 2));
  if (!address) return std::nullopt;
  const std::string text =
      (address->is_v4() ? "[::ffff:" : "[") + address->to_string() + "]";  // fits std::string's
  if (text.size() > buffer.size()) return std::nullopt;                    // own memory mostly
  std::ranges::copy(text, buffer.begin());
  return std::string_view(buffer.data(), text.size());
}

}  // namespace

std::optional<std::string_view> normalise_host(std::string_view value, std::span<char> buffer) {
  const auto length = host_length(value);
  if (!length) return std::nullopt;
  std::string_view host = value.substr(0, *length);
  if (host.size() > 1 && host.ends_with('.')) host.remove_suffix(1);
  if (host.empty() && !value.empty()) return std::nullopt;  // ":80"
  if (host.size() > std::min(kMaxHostLength, buffer.size())) return std::nullopt;
  if (host.starts_with('[')) return normalise_literal(host, buffer);
  char before = '.';
  for (std::size_t i = 0; i < host.size(); ++i) {
    const char c = kHostOctets[static_cast<unsigned char>(host[i])];
    if (c == 0 || (c == '.' && before == '.')) return std::nullopt;
    buffer[i] = before = c;
  }
  if (!host.empty() && before == '.') return std::nullopt;
  return std::string_view(buffer.data(), host.size());
}

std::optional<std::string> normalise_host_pattern(std::string_view pattern) {
  std::array<char, kMaxHostLength> buffer;
  const bool wildcard = pattern.starts_with("*.");
  const auto host = normalise_host(pattern.substr(wildcard ? 2 : 0), buffer);
  if (!host || host->empty()) return std::nullopt;
  return (wildcard ? "*." : "") + std::string(*host);
}

bool is_dns_name(std::string_view host) {
  const auto is_of_a_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  return !host.empty() && std::ranges::all_of(host, is_of_a_name) && !IpAddress::parse(host);
}

}  // namespace sluice::policy
