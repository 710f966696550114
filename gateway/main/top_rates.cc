#include "gateway/main/top_rates.h"

#include <algorithm>
#include <functional>
#include <set>

#include "gateway/main/kernel_plan.h"

namespace sluice::control {
namespace {

constexpr double TopRow::* kColumns[] = {&TopRow::packets, &TopRow::bytes, &TopRow::connections,
                                         &TopRow::resets, &TopRow::requests};

bool holds(const std::vector<policy::Prefix>& prefixes, const policy::IpAddress& address) {
  return std::ranges::any_of(
      prefixes, [&](const policy::Prefix& prefix) { return prefix.contains(address); });
}

const std::string* catches(const std::vector<policy::Intercept>& entries,
                           const policy::IpAddress& address, std::uint16_t port) {
  for (const policy::Intercept& entry : entries) {
    const bool ports = std::ranges::any_of(
        entry.ports, [&](const policy::PortRange& range) { return range.contains(port); });
    if (ports && holds(entry.to, address) && !(holds(entry.except.to, address) &&
                                               entry.except.from.empty()))
      return &entry.listener;
  }
  return nullptr;
}

std::string name_of(const kernel::Seen& seen, kernel::SeenBy by) {
  const policy::Prefix prefix = from_kernel(seen.address);
  if (by == kernel::SeenBy::service)
    return policy::SocketAddress{prefix.address, seen.port}.to_string();
  return seen.address.length == 128 ? prefix.address.to_string() : prefix.to_string();
}

}  // namespace

std::string listener_of(const policy::Config& config, const policy::IpAddress& address,
                        std::uint16_t port) {
  for (const auto* entries : {&config.intercept.local, &config.intercept.forward}) {
    if (const std::string* listener = catches(*entries, address, port)) return *listener;
  }
  for (const policy::Listener& listener : config.listeners) {
    if (!listener.bind || listener.bind->port != port) continue;
    const policy::IpAddress& bound = listener.bind->address;
    if (bound == address || (bound.is_unspecified() && bound.is_v4() == address.is_v4()))
      return listener.name;
  }
  return "";
}

std::vector<TopRow> TopRates::update(const std::vector<kernel::Seen>& seen, kernel::SeenBy by,
                                     const policy::Config& config, Clock::time_point now) {
  std::map<Key, kernel::Seen> next;
  std::vector<TopRow> rows;
  const double seconds = std::chrono::duration<double>(now - at_).count();
  const bool first = at_ == Clock::time_point{};
  for (const kernel::Seen& one : seen) {
    const Key key{one.address, one.port};
    // An entry that was forgotten and made again begins at 0; so does one that is new.
    kernel::Seen before;
    if (const auto old = last_.find(key); old != last_.end() && old->second.packets <= one.packets)
      before = old->second;
    next.emplace(key, one);
    if (first || one.packets == before.packets || seconds <= 0) continue;
    const auto rate = [&](std::uint64_t kernel::Seen::* field) {
      return static_cast<double>(one.*field - std::min(one.*field, before.*field)) / seconds;
    };
    TopRow row{.name = name_of(one, by),
               .listener = {},
               .packets = rate(&kernel::Seen::packets),
               .bytes = rate(&kernel::Seen::bytes),
               .connections = rate(&kernel::Seen::connections),
               .resets = rate(&kernel::Seen::resets),
               .requests = rate(&kernel::Seen::requests)};
    if (by == kernel::SeenBy::service)
      row.listener = listener_of(config, from_kernel(one.address).address, one.port);
    rows.push_back(std::move(row));
  }
  last_ = std::move(next);
  at_ = now;
  return rows;
}

std::vector<TopRow> top_of(std::vector<TopRow> rows, std::size_t most) {
  std::set<std::size_t> kept;
  std::vector<std::size_t> order(rows.size());
  for (const auto column : kColumns) {
    for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = i;
    const std::size_t count = std::min(most, order.size());
    std::ranges::partial_sort(order, order.begin() + static_cast<std::ptrdiff_t>(count),
                              std::ranges::greater(),
                              [&](std::size_t i) { return rows[i].*column; });
    for (std::size_t i = 0; i < count && rows[order[i]].*column > 0; ++i)
      kept.insert(order[i]);
  }
  std::vector<TopRow> out;
  for (const std::size_t i : kept)
    out.push_back(std::move(rows[i]));
  std::ranges::sort(out, std::ranges::greater(), &TopRow::packets);
  return out;
}

}  // namespace sluice::control
