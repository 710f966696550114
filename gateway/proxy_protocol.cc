#include "gateway/proxy_protocol.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <span>

namespace sluice::gateway {
namespace {

using policy::IpAddress;
using policy::ProxyProtocol;
using policy::SocketAddress;

constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::string_view kText = "PROXY ";
constexpr std::size_t kMaxLine = 107;  // of version 1, with its CRLF
constexpr std::size_t kFixed = 16;     // of version 2
constexpr unsigned kTcp4 = 0x11;
constexpr unsigned kTcp6 = 0x21;

unsigned octet(char c) {
  return static_cast<unsigned char>(c);
}

unsigned word(std::string_view bytes) {
  return octet(bytes[0]) << 8 | octet(bytes[1]);
}

std::string_view next_word(std::string_view& line) {
  const std::size_t end = std::min(line.find(' '), line.size());
  const std::string_view found = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return found;
}

std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), port);
  if (text.empty() || error != std::errc{} || end != text.end()) return std::nullopt;
  return port;
}

ProxyHeaderState parse_line(std::string_view bytes, ProxyHeader& out) {
  const std::size_t end = bytes.substr(0, kMaxLine).find("\r\n");
  if (end == std::string_view::npos)
    return bytes.size() < kMaxLine ? ProxyHeaderState::need_more : ProxyHeaderState::malformed;
  out.size = end + 2;
  std::string_view line = bytes.substr(kText.size(), end - kText.size());
  const std::string_view family = next_word(line);
  if (family == "UNKNOWN") return ProxyHeaderState::complete;
  const auto source = IpAddress::parse(next_word(line));
  const auto destination = IpAddress::parse(next_word(line));
  const auto source_port = port_of(next_word(line));
  const auto destination_port = port_of(next_word(line));
  const bool v4 = family == "TCP4";
  if ((!v4 && family != "TCP6") || !source || !destination || !source_port || !destination_port ||
      !line.empty() || source->is_v4() != v4 || destination->is_v4() != v4)
    return ProxyHeaderState::malformed;
  out.source = SocketAddress{*source, *source_port};
  out.destination = SocketAddress{*destination, *destination_port};
  return ProxyHeaderState::complete;
}

IpAddress v4_address(std::string_view bytes) {
  std::array<std::uint8_t, 16> mapped{};
  mapped[10] = mapped[11] = 0xff;
  std::memcpy(mapped.data() + 12, bytes.data(), 4);
  return IpAddress(mapped);
}

IpAddress v6_address(std::string_view bytes) {
  std::array<std::uint8_t, 16> address{};
  std::memcpy(address.data(), bytes.data(), address.size());
  return IpAddress(address);
}

ProxyHeaderState parse_binary(std::string_view bytes, ProxyHeader& out) {
  if (bytes.size() < kFixed) return ProxyHeaderState::need_more;
  const unsigned version_and_command = octet(bytes[12]);
  const unsigned family = octet(bytes[13]);
  out.size = kFixed + word(bytes.substr(14));
  if (version_and_command >> 4 != 2 || (version_and_command & 15) > 1 || out.size > kMaxProxyHeader)
    return ProxyHeaderState::malformed;
  if (bytes.size() < out.size) return ProxyHeaderState::need_more;
  const std::string_view body = bytes.substr(kFixed, out.size - kFixed);
  if ((version_and_command & 15) == 0) return ProxyHeaderState::complete;  // LOCAL
  if (family == kTcp4 && body.size() >= 12) {
    out.source = SocketAddress{v4_address(body), static_cast<std::uint16_t>(word(body.substr(8)))};
    out.destination = SocketAddress{v4_address(body.substr(4)),
                                    static_cast<std::uint16_t>(word(body.substr(10)))};
  } else if (family == kTcp6 && body.size() >= 36) {
    out.source = SocketAddress{v6_address(body), static_cast<std::uint16_t>(word(body.substr(32)))};
    out.destination = SocketAddress{v6_address(body.substr(16)),
                                    static_cast<std::uint16_t>(word(body.substr(34)))};
  } else if (family == kTcp4 || family == kTcp6) {
    return ProxyHeaderState::malformed;
  }
  return ProxyHeaderState::complete;  // other families say nothing that is of use here
}

bool could_be(std::string_view bytes, std::string_view begin) {
  const std::size_t size = std::min(bytes.size(), begin.size());
  return bytes.substr(0, size) == begin.substr(0, size);
}

void put_word(std::string& out, unsigned value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value);
}

void put_address(std::string& out, const IpAddress& address, bool v4) {
  const auto& bytes = address.bytes();
  for (std::size_t i = v4 ? 12 : 0; i < bytes.size(); ++i)
    out += static_cast<char>(bytes[i]);
}

}  // namespace

ProxyHeaderState parse_proxy_header(std::string_view bytes, ProxyProtocol accepted,
                                    ProxyHeader& out) {
  out = {};
  const bool text = accepted == ProxyProtocol::v1 || accepted == ProxyProtocol::any;
  const bool binary = accepted == ProxyProtocol::v2 || accepted == ProxyProtocol::any;
  if (binary && could_be(bytes, kSignature)) return parse_binary(bytes, out);
  if (!text || !could_be(bytes, kText)) return ProxyHeaderState::malformed;
  return bytes.size() < kText.size() ? ProxyHeaderState::need_more : parse_line(bytes, out);
}

std::string make_proxy_header(ProxyProtocol version, const SocketAddress& source,
                              const SocketAddress& destination) {
  // Both are written in one family.
  const bool v4 = source.address.is_v4() && destination.address.is_v4();
  if (version == ProxyProtocol::v1) {
    const auto text = [v4](const IpAddress& address) {
      const std::string shown = address.to_string();
      return !v4 && address.is_v4() ? "::ffff:" + shown : shown;
    };
    return std::string(kText) + (v4 ? "TCP4 " : "TCP6 ") + text(source.address) + ' ' +
           text(destination.address) + ' ' + std::to_string(source.port) + ' ' +
           std::to_string(destination.port) + "\r\n";
  }
  std::string out(kSignature);
  out += '\x21';
  out += static_cast<char>(v4 ? kTcp4 : kTcp6);
  put_word(out, v4 ? 12 : 36);
  put_address(out, source.address, v4);
  put_address(out, destination.address, v4);
  put_word(out, source.port);
  put_word(out, destination.port);
  return out;
}

// Version 2: command LOCAL, no address (section 2.2); version 1: UNKNOWN (section 2.1).
std::string make_own_proxy_header(policy::ProxyProtocol version) {
  if (version == policy::ProxyProtocol::v1) return "PROXY UNKNOWN\r\n";
  std::string header(kSignature);
  header.append("\x20\x00\x00\x00", 4);
  return header;
}

}  // namespace sluice::gateway
