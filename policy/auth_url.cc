#include "policy/auth_url.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

#include "policy/host.h"

namespace sluice::policy {

std::optional<AuthUrl> parse_auth_url(std::string_view text) {
  AuthUrl url;
  url.text = text;
  if (text.starts_with("https://")) {
    url.tls = true;
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
  } else {
    return std::nullopt;
  }
  const bool plain = std::ranges::all_of(
      text, [](char c) { return c > 0x20 && c < 0x7f && c != '#' && c != '\\' && c != '"'; });
  const std::size_t end = text.find_first_of("/?");
  url.authority = text.substr(0, end);
  if (end != std::string_view::npos) url.target = text.substr(end);
  if (!url.target.starts_with('/')) url.target.insert(0, "/");
  std::array<char, kMaxHostLength> memory;
  const auto host = normalise_host(url.authority, memory);
  if (!plain || !host || host->empty()) return std::nullopt;
  return url;
}

std::optional<SocketAddress> address_of(const AuthUrl& url) {
  if (const auto address = SocketAddress::parse(url.authority); address && address->port != 0) {
    return address;
  }
  return SocketAddress::parse(url.authority + (url.tls ? ":443" : ":80"));
}

Endpoint endpoint_of(const AuthUrl& url) {
  Endpoint endpoint;
  if (const auto address = address_of(url)) {
    endpoint.address = *address;
    return endpoint;
  }
  endpoint.port = url.tls ? 443 : 80;
  const std::size_t colon = std::min(url.authority.rfind(':'), url.authority.size());
  const char* end = url.authority.data() + url.authority.size();
  if (colon < url.authority.size())
    std::from_chars(url.authority.data() + colon + 1, end, endpoint.port);
  endpoint.dns = url.authority.substr(0, colon);
  return endpoint;
}

}  // namespace sluice::policy
