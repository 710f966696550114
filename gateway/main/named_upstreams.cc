#include "gateway/main/named_upstreams.h"

#include <algorithm>

#include <boost/json/parse.hpp>

#include "gateway/main/kernel_plan.h"
#include "policy/ai_providers.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

bool is_named(const policy::Upstream& upstream) {
  return std::ranges::any_of(upstream.endpoints,
                             [](const policy::Endpoint& endpoint) { return endpoint.is_name(); });
}

// Who is only watched is nobody that this gateway asks.
bool is_peer(const policy::Upstream& upstream) {
  return is_named(upstream) && !policy::is_watched_upstream(upstream.name);
}

bool is_named_redis(const policy::Config& config) {
  return config.redis && !config.redis->name.empty();
}

const json::array* list_in(const json::value& value, std::string_view key) {
  const json::object* object = value.if_object();
  const json::value* found = object != nullptr ? object->if_contains(key) : nullptr;
  return found != nullptr ? found->if_array() : nullptr;
}

std::string_view text_in(const json::value& value, std::string_view key) {
  const json::object* object = value.if_object();
  const json::value* found = object != nullptr ? object->if_contains(key) : nullptr;
  const json::string* text = found != nullptr ? found->if_string() : nullptr;
  return text != nullptr ? std::string_view(*text) : std::string_view();
}

// Of the objects in value[key], each with an `address`.
void append_hosts(const json::value& value, std::string_view key,
                  std::vector<kernel::Prefix>& out) {
  const json::array* objects = list_in(value, key);
  if (objects == nullptr) return;
  for (const json::value& object : *objects) {
    if (const auto at = policy::SocketAddress::parse(text_in(object, "address")))
      out.push_back(to_kernel(
          policy::Prefix{.address = at->address,
                         .length = static_cast<std::uint8_t>(at->address.is_v4() ? 32 : 128)}));
  }
}

// `of` says whose addresses are wanted.
template <typename Of>
void append_upstreams(const policy::Config& config, const json::value& status, Of of,
                      std::vector<kernel::Prefix>& out) {
  const json::array* upstreams = list_in(status, "upstreams");
  if (upstreams == nullptr) return;
  for (const json::value& entry : *upstreams) {
    const auto upstream =
        std::ranges::find(config.upstreams, text_in(entry, "name"), &policy::Upstream::name);
    if (upstream != config.upstreams.end() && of(*upstream)) append_hosts(entry, "endpoints", out);
  }
}

}  // namespace

bool has_named_peers(const policy::Config& config) {
  return is_named_redis(config) || std::ranges::any_of(config.upstreams, is_peer);
}

std::vector<kernel::Prefix> hosts_of_named_peers(const policy::Config& config,
                                                 std::string_view gateway_status) {
  std::vector<kernel::Prefix> out;
  boost::system::error_code error;
  const json::value status = json::parse(gateway_status, error);
  if (error) return out;
  // First, since only so many are taken.
  if (is_named_redis(config)) append_hosts(status, "redis", out);
  append_upstreams(config, status, is_peer, out);
  return out;
}

std::vector<kernel::Prefix> hosts_of_vendors(const policy::Config& config,
                                             std::string_view gateway_status) {
  std::vector<kernel::Prefix> out;
  boost::system::error_code error;
  const json::value status = json::parse(gateway_status, error);
  if (error || !config.ai) return out;
  const std::vector<std::string> vendors = policy::vendor_upstreams(*config.ai);
  const auto is_vendor = [&](const policy::Upstream& upstream) {
    return std::ranges::find(vendors, upstream.name) != vendors.end();
  };
  append_upstreams(config, status, is_vendor, out);
  return out;
}

}  // namespace sluice::control
