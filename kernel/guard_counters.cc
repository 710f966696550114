#include "kernel/guard_counters.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "kernel/message.h"

namespace sluice::kernel {
namespace {

constexpr std::uint16_t kNotInForce = 65535;
constexpr std::uint16_t kOnlyBefore = 65534;

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const unsigned char byte : text)
    hash = (hash ^ byte) * 0x100000001b3ULL;
  return hash;
}

std::size_t possible_cpus() {
  static const int cpus = libbpf_num_possible_cpus();
  return cpus > 0 ? static_cast<std::size_t>(cpus) : 1;
}

template <typename Count, typename Add>
Count sum(int map, std::uint32_t index, Add add) {
  std::vector<Count> per_cpu(possible_cpus());
  Count out{};
  if (bpf_map_lookup_elem(map, &index, per_cpu.data()) != 0) return out;
  for (const Count& one : per_cpu)
    add(out, one);
  return out;
}

sluice_guard_rule_count read_rule(int map, std::uint32_t index) {
  return sum<sluice_guard_rule_count>(map, index, [](auto& out, const auto& one) {
    out.packets += one.packets;
    out.bytes += one.bytes;
    out.dropped += one.dropped;
    out.would_drop += one.would_drop;
  });
}

}  // namespace

sluice_guard_count read_tally(int map, std::uint32_t index) {
  return sum<sluice_guard_count>(map, index, [](auto& out, const auto& one) {
    out.packets += one.packets;
    out.bytes += one.bytes;
  });
}

GuardCounters::GuardCounters(int names_map, int counters_map, int buckets_map, bool reverted)
    : names_map_(names_map),
      counters_map_(counters_map),
      buckets_map_(buckets_map),
      used_(SLUICE_GUARD_COUNTERS) {
  read_names(reverted);
}

void GuardCounters::read_names(bool reverted) {
  std::vector<std::pair<std::uint16_t, Owner>> found;
  for (std::uint32_t index = 0; index < SLUICE_GUARD_COUNTERS; ++index) {
    sluice_guard_name name{};
    if (bpf_map_lookup_elem(names_map_, &index, &name) != 0 || name.used == 0) continue;
    const auto counter = static_cast<std::uint16_t>(index);
    // Prepared by a keeper that died before it committed, or of the other side of a trial.
    const bool gone = reverted ? name.before == 0 : name.order >= kOnlyBefore;
    if (gone) {
      release(counter);
      continue;
    }
    used_[index] = true;
    name.text[sizeof(name.text) - 1] = 0;
    const auto order = static_cast<std::uint16_t>(reverted ? name.before - 1 : name.order);
    found.emplace_back(order, Owner{name.text, name.hash, static_cast<GuardAction>(name.action),
                                    name.audit != 0, counter});
  }
  std::ranges::sort(found, {}, [](const auto& entry) { return entry.first; });
  for (auto& [order, owner] : found)
    in_force_.push_back(std::move(owner));
  if (reverted) write_orders();
}

Result<void> GuardCounters::write(const Owner& owner, std::uint16_t order,
                                  std::size_t before) const {
  sluice_guard_name name{};
  name.hash = owner.hash;
  name.used = 1;
  name.action = static_cast<std::uint8_t>(owner.action);
  name.order = order;
  name.audit = owner.audit ? 1 : 0;
  name.before = static_cast<std::uint16_t>(before);
  owner.name.copy(name.text, sizeof(name.text) - 1);
  const std::uint32_t index = owner.counter;
  if (bpf_map_update_elem(names_map_, &index, &name, BPF_ANY) == 0) return {};
  return std::unexpected(
      Error{message("cannot name the counter of rule {}: {}", owner.name, std::strerror(errno))});
}

// They were written at prepare() or before, so writing them again cannot fail.
void GuardCounters::write_orders() const {
  const auto place = [](const std::vector<Owner>& owners, std::uint16_t counter) {
    const auto found = std::ranges::find(owners, counter, &Owner::counter);
    return found == owners.end() ? 0 : static_cast<std::size_t>(found - owners.begin()) + 1;
  };
  for (std::size_t order = 0; order < in_force_.size(); ++order) {
    (void)write(in_force_[order], static_cast<std::uint16_t>(order),
                place(before_, in_force_[order].counter));
  }
  for (std::size_t order = 0; order < before_.size(); ++order) {
    if (place(in_force_, before_[order].counter) == 0)
      (void)write(before_[order], kOnlyBefore, order + 1);
  }
}

// A new owner begins at 0, with a full bucket.
void GuardCounters::clear(std::uint16_t counter) const {
  const std::vector<sluice_guard_rule_count> zeros(possible_cpus());
  const std::uint64_t full = 0;
  const std::uint32_t index = counter;
  bpf_map_update_elem(counters_map_, &index, zeros.data(), BPF_ANY);
  bpf_map_update_elem(buckets_map_, &index, &full, BPF_ANY);
}

void GuardCounters::release(std::uint16_t counter) {
  const sluice_guard_name free{};
  const std::uint32_t index = counter;
  bpf_map_update_elem(names_map_, &index, &free, BPF_ANY);
  used_[counter] = false;
}

Result<std::vector<std::uint16_t>> GuardCounters::prepare(const std::vector<GuardRule>& rules) {
  abandon();
  std::unordered_map<std::uint64_t, std::uint16_t> kept;
  for (const Owner& owner : in_force_)
    kept.emplace(owner.hash, owner.counter);
  std::vector<std::uint16_t> out;
  std::size_t next = 0;
  for (const GuardRule& rule : rules) {
    Owner owner{rule.name, fnv1a(rule.name), rule.action, rule.audit, 0};
    if (const auto same = kept.find(owner.hash); same != kept.end()) {
      owner.counter = same->second;
    } else {
      while (next < used_.size() && used_[next])
        ++next;
      if (next == used_.size()) {
        abandon();
        return std::unexpected(Error{"no counter is free for rule " + rule.name});
      }
      used_[next] = true;
      owner.counter = static_cast<std::uint16_t>(next);
      clear(owner.counter);
      if (auto ok = write(owner, kNotInForce); !ok) {
        used_[next] = false;
        abandon();
        return std::unexpected(ok.error());
      }
    }
    out.push_back(owner.counter);
    prepared_.push_back(std::move(owner));
  }
  return out;
}

void GuardCounters::commit(bool on_trial) {
  before_ = std::move(in_force_);
  in_force_ = std::move(prepared_);
  prepared_.clear();
  if (on_trial) return write_orders();
  end_trial(false);
}

void GuardCounters::end_trial(bool reverted) {
  if (reverted) std::swap(in_force_, before_);
  const std::vector<Owner> gone = std::exchange(before_, {});
  release_all_but(in_force_, gone);
  write_orders();
}

void GuardCounters::release_all_but(const std::vector<Owner>& kept,
                                    const std::vector<Owner>& owners) {
  std::vector<bool> wanted(SLUICE_GUARD_COUNTERS);
  for (const Owner& owner : kept)
    wanted[owner.counter] = true;
  for (const Owner& owner : owners) {
    if (!wanted[owner.counter]) release(owner.counter);
  }
}

void GuardCounters::abandon() {
  release_all_but(in_force_, prepared_);
  prepared_.clear();
}

std::vector<RuleCounter> GuardCounters::read() const {
  std::vector<RuleCounter> out;
  for (const Owner& owner : in_force_) {
    const sluice_guard_rule_count count = read_rule(counters_map_, owner.counter);
    out.push_back({owner.name, owner.action, owner.audit, count.packets, count.bytes, count.dropped,
                   count.would_drop});
  }
  return out;
}

std::string GuardCounters::name_of(std::uint16_t counter) const {
  const auto found = std::ranges::find(in_force_, counter, &Owner::counter);
  return found == in_force_.end() ? std::string() : found->name;
}

}  // namespace sluice::kernel
