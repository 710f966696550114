#include "gateway/kubernetes/endpoint_slices.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "gateway/kubernetes/json_parts.h"

namespace sluice::gateway::kubernetes {
namespace {

namespace json = boost::json;

// A condition that is not said is `otherwise`.
bool condition(const json::object* conditions, std::string_view key, bool otherwise) {
  const json::value* found = conditions != nullptr ? conditions->if_contains(key) : nullptr;
  return found != nullptr && found->is_bool() ? found->as_bool() : otherwise;
}

std::string slice_name(const json::object& slice) {
  return std::string(text_in(slice, "metadata", "name"));
}

// The first address alone: the others stand for the same endpoint.
std::optional<SliceEndpoint> endpoint_of(const json::object& object) {
  const json::array* addresses = array_in(object, "addresses");
  if (addresses == nullptr || addresses->empty() || !addresses->front().is_string())
    return std::nullopt;
  const auto address = policy::IpAddress::parse(std::string_view(addresses->front().as_string()));
  if (!address) return std::nullopt;
  const json::object* conditions = object_in(object, "conditions");
  SliceEndpoint out{.address = *address};
  out.ready = condition(conditions, "ready", true);
  out.serving = condition(conditions, "serving", out.ready);
  out.terminating = condition(conditions, "terminating", false);
  return out;
}

std::optional<SlicePort> port_of(const json::object& object) {
  const std::string_view protocol = text_in(object, "protocol");
  const json::value* number = object.if_contains("port");
  if ((!protocol.empty() && protocol != "TCP") || number == nullptr || !number->is_int64() ||
      number->as_int64() < 1 || number->as_int64() > 65535)
    return std::nullopt;
  return SlicePort{.name = std::string(text_in(object, "name")),
                   .port = static_cast<std::uint16_t>(number->as_int64())};
}

std::optional<std::uint16_t> port_in(const Slice& slice, const std::string& wanted) {
  if (wanted.empty())
    return slice.ports.size() == 1 ? std::optional(slice.ports.front().port) : std::nullopt;
  std::uint16_t number = 0;
  const auto [end, error] =
      std::from_chars(wanted.data(), wanted.data() + wanted.size(), number);
  const bool by_number = error == std::errc{} && end == wanted.data() + wanted.size();
  for (const SlicePort& port : slice.ports)
    if (by_number ? port.port == number : port.name == wanted) return port.port;
  return std::nullopt;
}

bool is_of(policy::AddressFamily family, const policy::IpAddress& address) {
  return family == policy::AddressFamily::any ||
         (family == policy::AddressFamily::ipv4) == address.is_v4();
}

}  // namespace

std::optional<std::pair<std::string, Slice>> slice_of(const json::object& object) {
  std::string name = slice_name(object);
  if (name.empty() || text_in(object, "addressType") == "FQDN") return std::nullopt;
  Slice slice;
  if (const json::array* ports = array_in(object, "ports")) {
    for (const json::value& value : *ports)
      if (value.is_object())
        if (const auto port = port_of(value.as_object())) slice.ports.push_back(*port);
  }
  if (const json::array* endpoints = array_in(object, "endpoints")) {
    for (const json::value& value : *endpoints)
      if (value.is_object())
        if (const auto endpoint = endpoint_of(value.as_object()))
          slice.endpoints.push_back(*endpoint);
  }
  return std::pair(std::move(name), std::move(slice));
}

void EndpointSlices::replace(const json::array& items) {
  slices_.clear();
  for (const json::value& item : items)
    if (item.is_object()) put(item.as_object());
}

void EndpointSlices::put(const json::object& item) {
  if (auto slice = slice_of(item)) slices_.insert_or_assign(slice->first, std::move(slice->second));
}

void EndpointSlices::remove(const json::object& item) {
  slices_.erase(slice_name(item));
}

std::vector<policy::SocketAddress> EndpointSlices::endpoints(const std::string& port,
                                                             policy::AddressFamily family) const {
  std::set<policy::SocketAddress> ready;
  std::set<policy::SocketAddress> leaving;
  for (const auto& [name, slice] : slices_) {
    const auto number = port_in(slice, port);
    if (!number) continue;
    for (const SliceEndpoint& endpoint : slice.endpoints) {
      if (!is_of(family, endpoint.address)) continue;
      if (endpoint.ready) {
        ready.insert({endpoint.address, *number});
      } else if (endpoint.serving && endpoint.terminating) {
        leaving.insert({endpoint.address, *number});
      }
    }
  }
  const auto& chosen = ready.empty() ? leaving : ready;
  return {chosen.begin(), chosen.end()};
}

}  // namespace sluice::gateway::kubernetes
