#include "policy/routing.h"

#include <algorithm>
#include <array>

#include "policy/address.h"

namespace sluice::policy {

namespace {

constexpr std::uint64_t kFnvOffset = 0xcbf29ce484222325;
constexpr std::uint64_t kFnvPrime = 0x100000001b3;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Unreserved and sub-delims of RFC 3986, without '%': nothing that needs escaping belongs in a host
// name.
bool is_host_character(char c) {
  constexpr std::string_view kOther = "-._~!$&'()*+,;=";
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         kOther.find(c) != std::string_view::npos;
}

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

}  // namespace

std::optional<std::string_view> normalise_host(std::string_view value, std::span<char> buffer) {
  const auto length = host_length(value);
  if (!length) return std::nullopt;
  std::string_view host = value.substr(0, *length);
  if (host.size() > 1 && host.ends_with('.')) host.remove_suffix(1);
  if (host.empty() && !value.empty()) return std::nullopt;  // ":80"
  if (host.size() > std::min(kMaxHostLength, buffer.size())) return std::nullopt;
  if (host.starts_with('[')) {
    const auto address = IpAddress::parse(host.substr(1, host.size() - 2));
    if (!address || host.find(':') == std::string_view::npos) return std::nullopt;
  } else if (!std::ranges::all_of(host, is_host_character)) {
    return std::nullopt;
  }
  std::ranges::transform(host, buffer.begin(), lower);
  return std::string_view(buffer.data(), host.size());
}

// FNV-1a: the keys are the operator's, so a client can choose what it looks up but not how long the
// chains are.
std::size_t RouteTable::TextHash::operator()(std::string_view text) const noexcept {
  std::uint64_t hash = kFnvOffset;
  for (const char c : text)
    hash = (hash ^ static_cast<std::uint8_t>(c)) * kFnvPrime;
  return hash ^ hash >> 32;
}

void RouteTable::Paths::add(const PathMatch& path, std::uint32_t route) {
  switch (path.kind) {
    case PathMatch::Kind::any:
      if (!any) any = route;
      return;
    case PathMatch::Kind::exact:
      exact.try_emplace(path.value, route);
      return;
    case PathMatch::Kind::prefix: {
      std::string key = path.value;
      if (key.ends_with('/')) key.pop_back();
      longest_prefix = std::max(longest_prefix, key.size());
      prefix.try_emplace(std::move(key), route);
      return;
    }
  }
}

// Cuts at segment ends from the longest that can match to the shortest. The number of cuts is
// bounded by the policy's own longest prefix, not by the client's path.
std::optional<std::uint32_t> RouteTable::Paths::longest_prefix_of(
    std::string_view path) const noexcept {
  if (prefix.empty()) return std::nullopt;
  std::size_t end = std::min(path.size(), longest_prefix);
  for (;;) {
    if (end == path.size() || path[end] == '/') {
      if (const auto found = prefix.find(path.substr(0, end)); found != prefix.end()) {
        return found->second;
      }
    }
    if (end == 0) return std::nullopt;
    const std::size_t slash = path.rfind('/', end - 1);
    end = slash == std::string_view::npos ? 0 : slash;
  }
}

std::optional<std::uint32_t> RouteTable::Paths::match(std::string_view path) const noexcept {
  if (!exact.empty()) {
    if (const auto found = exact.find(path); found != exact.end()) return found->second;
  }
  if (const auto found = longest_prefix_of(path)) return found;
  return any;
}

RouteTable::RouteTable(std::span<const Route> routes, std::string_view listener) {
  for (std::uint32_t i = 0; i < routes.size(); ++i) {
    const Route& route = routes[i];
    if (route.listener != listener) continue;
    ++size_;
    if (route.host.empty()) {
      any_.add(route.path, i);
    } else if (route.host.starts_with("*.")) {
      const std::string suffix = route.host.substr(1);
      longest_wildcard_ = std::max(longest_wildcard_, suffix.size());
      wildcard_[suffix].add(route.path, i);
    } else {
      exact_[route.host].add(route.path, i);
    }
  }
}

std::optional<std::uint32_t> RouteTable::match_wildcard(std::string_view host,
                                                        std::string_view path) const noexcept {
  if (wildcard_.empty()) return std::nullopt;
  // ".example.com" needs at least one character before it.
  std::size_t from = host.size() > longest_wildcard_ ? host.size() - longest_wildcard_ : 1;
  for (std::size_t dot = host.find('.', from); dot != std::string_view::npos;
       dot = host.find('.', dot + 1)) {
    const auto paths = wildcard_.find(host.substr(dot));
    if (paths == wildcard_.end()) continue;
    if (const auto found = paths->second.match(path)) return found;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> RouteTable::match(std::string_view host,
                                               std::string_view path) const noexcept {
  if (!exact_.empty()) {
    if (const auto paths = exact_.find(host); paths != exact_.end()) {
      if (const auto found = paths->second.match(path)) return found;
    }
  }
  if (const auto found = match_wildcard(host, path)) return found;
  return any_.match(path);
}

std::optional<std::uint32_t> RouteTable::match_tcp() const noexcept {
  return any_.any;
}

}  // namespace sluice::policy
