// The Pods of this node, as whoever watches them hands them in: a line each. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"
#include "policy/address_set.h"
#include "policy/config/pods.h"

namespace sluice::policy {

// Of one node; the largest run some hundreds.
inline constexpr std::size_t kMaxPods = 10'000;

struct Pod {
  std::string name_space;
  std::string name;
  std::vector<IpAddress> addresses;
  std::vector<PodLabel> labels;  // sorted
  std::string uid = {};          // of this one, not of its name; "": not known
  bool operator==(const Pod&) const = default;
};

// "shop/api-1/9f86d081 10.1.0.7,2001:db8::7 app=api,tier=front"; no labels: "-".
std::string to_text(std::span<const Pod> pods);

// Lines that are not as to_text() writes them are left out, and what is over kMaxPods: it may come
// from a process that reads from the network.
std::vector<Pod> parse_pods(std::string_view text);

bool selects(const PodSelector& selector, const Pod& pod);

// The addresses of those that are selected.
void add_selected(const PodSelector& selector, std::span<const Pod> pods, AddressSetBuilder& out);

// Those that a pod had before, and that are none's or another pod's now. Sorted.
std::vector<IpAddress> addresses_gone(std::span<const Pod> before, std::span<const Pod> now);

// Labels as Kubernetes has them: [prefix/]name and a value, which may be empty.
bool is_label_key(std::string_view key);
bool is_label_value(std::string_view value);

}  // namespace sluice::policy
