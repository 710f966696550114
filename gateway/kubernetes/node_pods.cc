#include "gateway/kubernetes/node_pods.h"

#include <algorithm>
#include <string_view>

#include "gateway/kubernetes/json_parts.h"

namespace sluice::gateway::kubernetes {
namespace {

namespace json = boost::json;

std::string pod_key(const json::object& item) {
  return std::string(text_in(item, "metadata", "namespace")) + "/" +
         std::string(text_in(item, "metadata", "name"));
}

std::vector<policy::IpAddress> addresses_of(const json::object& item) {
  std::vector<policy::IpAddress> out;
  const auto add = [&](std::string_view text) {
    const auto address = policy::IpAddress::parse(text);
    if (address && std::ranges::find(out, *address) == out.end()) out.push_back(*address);
  };
  add(text_in(item, "status", "podIP"));
  const json::object* status = object_in(item, "status");
  const json::array* all = status != nullptr ? array_in(*status, "podIPs") : nullptr;
  if (all == nullptr) return out;
  for (const json::value& one : *all)
    if (one.is_object()) add(text_in(one.as_object(), "ip"));
  return out;
}

std::vector<policy::PodLabel> labels_of(const json::object* metadata) {
  std::vector<policy::PodLabel> out;
  const json::object* labels = metadata != nullptr ? object_in(*metadata, "labels") : nullptr;
  if (labels == nullptr) return out;
  for (const auto& [key, value] : *labels) {
    if (value.is_string() && policy::is_label_key(key) &&
        policy::is_label_value(std::string_view(value.as_string())))
      out.emplace_back(key, value.as_string());
  }
  std::ranges::sort(out);
  return out;
}

// An address of its own, or one that it will not need any more?
bool has_own_address(const json::object& item) {
  const json::object* spec = object_in(item, "spec");
  const json::value* host = spec != nullptr ? spec->if_contains("hostNetwork") : nullptr;
  if (host != nullptr && host->is_bool() && host->as_bool()) return false;
  const std::string_view phase = text_in(item, "status", "phase");
  return phase != "Succeeded" && phase != "Failed";
}

}  // namespace

void NodePods::replace(const json::array& items) {
  pods_.clear();
  for (const json::value& item : items)
    if (item.is_object()) put(item.as_object());
}

void NodePods::put(const json::object& item) {
  const json::object* metadata = object_in(item, "metadata");
  Known known{.pod = {.name_space = std::string(text_in(item, "metadata", "namespace")),
                      .name = std::string(text_in(item, "metadata", "name")),
                      .addresses = addresses_of(item),
                      .labels = labels_of(metadata),
                      .uid = std::string(text_in(item, "metadata", "uid"))},
              .leaving = metadata != nullptr && metadata->contains("deletionTimestamp"),
              .created = std::string(text_in(item, "metadata", "creationTimestamp"))};
  if (has_own_address(item) && !known.pod.addresses.empty()) {
    pods_.insert_or_assign(pod_key(item), std::move(known));
  } else {
    pods_.erase(pod_key(item));
  }
}

void NodePods::remove(const json::object& item) {
  pods_.erase(pod_key(item));
}

bool NodePods::later(const Known& a, const Known& b) {
  if (a.leaving != b.leaving) return b.leaving;
  return a.created > b.created;
}

std::vector<policy::Pod> NodePods::addressed() const {
  std::map<policy::IpAddress, const Known*> owners;
  for (const auto& [key, known] : pods_) {
    for (const policy::IpAddress& address : known.pod.addresses) {
      const Known*& owner = owners[address];
      if (owner == nullptr || later(known, *owner)) owner = &known;
    }
  }
  std::vector<policy::Pod> out;
  for (const auto& [key, known] : pods_) {
    policy::Pod pod = known.pod;
    std::erase_if(pod.addresses,
                  [&, of = &known](const auto& address) { return owners[address] != of; });
    if (!pod.addresses.empty()) out.push_back(std::move(pod));
  }
  return out;
}

}  // namespace sluice::gateway::kubernetes
