#include "gateway/http/forwarded.h"

#include <algorithm>

#include "gateway/http1/field.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::http {
namespace {

// One parameter: name=token or name="text"; moves past it. nullopt: malformed.
struct Pair {
  std::string_view name;
  std::string_view value;
};
std::optional<Pair> take_pair(std::string_view& rest) {
  const std::size_t equals = rest.find('=');
  if (equals == std::string_view::npos) return std::nullopt;
  Pair pair{http1::trim_ows(rest.substr(0, equals)), {}};
  if (pair.name.empty() || pair.name.find_first_of("\",;") != std::string_view::npos)
    return std::nullopt;
  rest.remove_prefix(equals + 1);
  if (rest.starts_with('"')) {
    const std::size_t end = rest.find_first_of("\"\\", 1);
    if (end == std::string_view::npos || rest[end] == '\\') return std::nullopt;
    pair.value = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
  } else {
    const std::size_t end = std::min(rest.find_first_of(";, \t\""), rest.size());
    pair.value = rest.substr(0, end);
    rest.remove_prefix(end);
  }
  rest = rest.substr(std::min(rest.find_first_not_of(" \t"), rest.size()));
  return pair;
}

}  // namespace

std::optional<std::span<const ForwardedElement>> parse_forwarded(std::string_view field,
                                                                 ForwardedElements& memory) {
  std::size_t count = 0;
  std::string_view rest = http1::trim_ows(field);
  bool more = !rest.empty();
  while (more) {
    if (count == memory.size()) return std::nullopt;
    ForwardedElement& element = memory[count++] = {};
    for (bool in_element = true; in_element;) {
      const auto pair = take_pair(rest);
      if (!pair) return std::nullopt;
      if (http1::equals_ignoring_case(pair->name, "for")) element.node = pair->value;
      if (http1::equals_ignoring_case(pair->name, "proto")) element.proto = pair->value;
      in_element = rest.starts_with(';');
      more = rest.starts_with(',');
      if (!in_element && !more && !rest.empty()) return std::nullopt;
      if (in_element || more) rest = http1::trim_ows(rest.substr(1));
    }
  }
  return std::span<const ForwardedElement>(memory).first(count);
}

// RFC 7239 section 6: an IPv6 address in brackets, and perhaps a port behind either.
std::optional<policy::IpAddress> address_of_node(std::string_view node) {
  if (node.starts_with('[')) {
    const std::size_t end = node.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view behind = node.substr(end + 1);
    if (!behind.empty() && !behind.starts_with(':')) return std::nullopt;
    return policy::IpAddress::parse(node.substr(1, end - 1));
  }
  const auto address = policy::IpAddress::parse(node.substr(0, node.find(':')));
  return address && address->is_v4() ? address : std::nullopt;
}

bool among(const std::vector<policy::Prefix>& prefixes, const policy::IpAddress& address) {
  return std::ranges::any_of(prefixes,
                             [&](const policy::Prefix& one) { return one.contains(address); });
}

NamedClient client_in_x_forwarded_for(std::string_view field,
                                      const std::vector<policy::Prefix>& trusted) {
  NamedClient found;
  while (!field.empty()) {
    const std::size_t comma = field.rfind(',');
    const bool last = comma == std::string_view::npos;
    const std::string_view node = http1::trim_ows(last ? field : field.substr(comma + 1));
    auto hop = policy::IpAddress::parse(node);
    if (!hop) hop = address_of_node(node);  // with a port, as some proxies write it
    if (!hop) break;
    found.client = hop;
    if (last || !among(trusted, *hop)) break;
    field = field.substr(0, comma);
  }
  return found;
}

NamedClient client_in_forwarded(std::string_view field,
                                const std::vector<policy::Prefix>& trusted) {
  NamedClient found;
  ForwardedElements memory;
  const auto elements = parse_forwarded(field, memory);
  if (!elements) return found;
  for (std::size_t i = elements->size(); i > 0; --i) {
    found.proto = (*elements)[i - 1].proto;
    const auto hop = address_of_node((*elements)[i - 1].node);
    if (!hop) break;
    found.client = hop;
    if (!among(trusted, *hop)) break;
  }
  return found;
}

void append_for(const policy::IpAddress& address, std::string& out) {
  const std::string text = address.to_string();
  if (address.is_v4()) {
    out.append("for=").append(text);
  } else {
    out.append("for=\"[").append(text).append("]\"");
  }
}

}  // namespace sluice::gateway::http
