#include "gateway/main/endpoint_orders.h"

#include <filesystem>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/control/state_file.h"
#include "gateway/log.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxBytes = 8UL << 20;
constexpr std::size_t kMaxOrders = 10'000;

std::string path_in(const std::string& state_dir) {
  return (std::filesystem::path(state_dir) / "endpoint-orders.json").string();
}

std::string part(const json::object& request, const char* key) {
  const json::value* value = request.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) + '\n' : "\n";
}

}  // namespace

EndpointOrders::EndpointOrders(const std::string& state_dir) {
  load(path_in(state_dir));
}

void EndpointOrders::load(const std::string& path) {
  const auto text = gateway::read_state_file(path, kMaxBytes);
  if (!text)
    return gateway::log_warn("control", "orders for endpoints", {{"reason", text.error()}});
  if (!*text) return;
  boost::system::error_code error;
  const json::value all = json::parse(**text, error);
  const json::object* object = error ? nullptr : all.if_object();
  const json::value* orders = object != nullptr ? object->if_contains("orders") : nullptr;
  if (orders == nullptr || !orders->is_array())
    return gateway::log_warn("control", "orders for endpoints",
                             {{"reason", path + ": not what sluice kept, or damaged"}});
  for (const json::value& order : orders->get_array()) {
    if (!order.is_object() || orders_.size() == kMaxOrders) continue;
    const json::object& request = order.get_object();
    orders_.insert_or_assign(
        part(request, "upstream") + part(request, "endpoint") + part(request, "action"), request);
  }
}

void EndpointOrders::note(const json::object& request, const std::string& state_dir) {
  const std::string target = part(request, "upstream") + part(request, "endpoint");
  if (part(request, "action") == "ready\n") {
    const std::string undone =
        part(request, "endpoint") == "\n" ? part(request, "upstream") : target;
    std::erase_if(orders_, [&](const auto& kept) { return kept.first.starts_with(undone); });
  } else if (orders_.size() < kMaxOrders) {
    orders_.insert_or_assign(target + part(request, "action"), request);
  }
  json::array orders;
  for (const auto& [about, order] : orders_)
    orders.push_back(order);
  const json::object kept{{"version", 1}, {"orders", std::move(orders)}};
  if (auto saved = gateway::write_state_file(path_in(state_dir), json::serialize(kept) + "\n");
      !saved)
    gateway::log_warn("control", "orders for endpoints are in force, but not kept over a restart",
                      {{"reason", saved.error()}});
}

std::vector<json::object> EndpointOrders::all() const {
  std::vector<json::object> out;
  for (const auto& [about, order] : orders_)
    out.push_back(order);
  return out;
}

}  // namespace sluice::control
