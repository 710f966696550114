#include "kernel/guard_placing.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <linux/bpf.h>
#include <string>

#include "kernel/grace_periods.h"
#include "kernel/message.h"

namespace sluice::kernel {
namespace {

Error failed(const std::string& what) {
  return Error{message("{}: {}", what, std::strerror(errno))};
}

template <typename Key>
Result<Descriptor> make_trie_of(const char* name,
                                const std::vector<std::pair<Key, std::uint64_t>>& entries) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
  const auto size = static_cast<std::uint32_t>(std::max<std::size_t>(entries.size(), 1));
  Descriptor trie(bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, name, sizeof(Key), sizeof(std::uint64_t),
                                 size, &options));
  if (!trie) return std::unexpected(failed(message("cannot create a table of {} prefixes", size)));
  std::vector<Key> keys;
  std::vector<std::uint64_t> values;
  for (const auto& [key, value] : entries) {
    keys.push_back(key);
    values.push_back(value);
  }
  if (auto ok = fill_map(trie.get(), keys, values); !ok) return std::unexpected(ok.error());
  return trie;
}

}  // namespace

Result<void> fill_map(int map, const void* keys, std::size_t key_size, const void* values,
                      std::size_t value_size, std::size_t count) {
  constexpr std::size_t kBatch = 4096;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  for (std::size_t at = 0; at < count; at += kBatch) {
    auto some = static_cast<std::uint32_t>(std::min(kBatch, count - at));
    if (bpf_map_update_batch(map, static_cast<const char*>(keys) + at * key_size,
                             static_cast<const char*>(values) + at * value_size, &some,
                             &options) != 0)
      return std::unexpected(failed("cannot fill a table of the guard"));
  }
  return {};
}

Result<Descriptor> make_mapped_array(const char* name, std::size_t value_size, std::size_t count,
                                     bool fixed, const std::function<void(void*)>& write) {
  LIBBPF_OPTS(bpf_map_create_opts, options,
              .map_flags = BPF_F_MMAPABLE | (fixed ? 0 : SLUICE_F_INNER_MAP));
  const std::size_t bytes = value_size * count;
  Descriptor map(bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(std::uint32_t),
                                static_cast<std::uint32_t>(value_size),
                                static_cast<std::uint32_t>(count), &options));
  if (!map)
    return std::unexpected(failed(message("cannot create a table of {} MiB", bytes / 1048576 + 1)));
  MappedMap<void> mapped;
  if (!mapped.map(map.get(), bytes))
    return std::unexpected(failed("cannot map a table of the guard"));
  write(mapped.get());
  return map;
}

Result<Descriptor> make_trie(
    const char* name, const std::vector<std::pair<sluice_guard_key4, std::uint64_t>>& entries) {
  return make_trie_of(name, entries);
}
Result<Descriptor> make_trie(
    const char* name, const std::vector<std::pair<sluice_guard_key6, std::uint64_t>>& entries) {
  return make_trie_of(name, entries);
}

Result<Descriptor> make_classes(std::vector<sluice_guard_class> classes) {
  if (classes.empty()) classes.emplace_back();
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = SLUICE_F_INNER_MAP);
  const auto size = static_cast<std::uint32_t>(classes.size());
  Descriptor map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "guard_classes", sizeof(std::uint32_t),
                                sizeof(sluice_guard_class), size, &options));
  if (!map) return std::unexpected(failed(message("cannot create a table of {} classes", size)));
  std::vector<std::uint32_t> keys(size);
  for (std::uint32_t i = 0; i < size; ++i)
    keys[i] = i;
  if (auto ok = fill_map(map.get(), keys, classes); !ok) return std::unexpected(ok.error());
  return map;
}

Placing::Outer& Placing::of(int outer) {
  const auto found = std::ranges::find(outers_, outer, &Outer::map);
  if (found != outers_.end()) return *found;
  outers_.emplace_back().map = outer;
  return outers_.back();
}

void Placing::put(int outer, std::uint32_t index, const char* shown, Result<Descriptor> made) {
  if (!made) {
    if (refused_) {
      refused_ = std::unexpected(made.error());
      refused_table_ = shown;
    }
    return;
  }
  Outer& to = of(outer);
  to.indexes.push_back(index);
  to.fds.push_back(made->get());
  made_.push_back(std::move(*made));
}

void Placing::take_away(int outer, std::uint32_t index) {
  of(outer).gone.push_back(index);
}

void Placing::Outer::update() {
  for (const std::uint32_t& index : gone) {
    if (bpf_map_delete_elem(map, &index) != 0 && errno != ENOENT) {
      outcome = std::unexpected(failed("cannot free a table of the guard"));
      return;
    }
  }
  if (!indexes.empty()) outcome = fill_map(map, indexes, fds);
}

Result<void> Placing::place() {
  if (!refused_) return refused_;
  std::vector<std::function<void()>> updates;
  for (Outer& outer : outers_)
    updates.emplace_back([&outer] { outer.update(); });
  wait_together(updates);
  for (const Outer& outer : outers_) {
    if (!outer.outcome) return outer.outcome;
  }
  return {};
}

}  // namespace sluice::kernel
