/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The guard's maps. Names are also the names of the pins. */
#ifndef SLUICE_KERNEL_GUARD_MAPS_BPF_H
#define SLUICE_KERNEL_GUARD_MAPS_BPF_H

// clang-format off: the kernel's types come before the helpers that use them
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
// clang-format on

#include "kernel/abi_guard.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct sluice_guard_state);
} guard_state SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __type(value, struct sluice_guard_slot);
} guard_slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_GUARD_PORTS);
  __type(key, __u32);
  __type(value, struct sluice_guard_port);
} guard_ports SEC(".maps");

/* Sizes, not types: clang describes an inner map's struct types only by name. */
struct guard_classes_slot {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, SLUICE_F_INNER_MAP);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct sluice_guard_class));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __array(values, struct guard_classes_slot);
} guard_classes SEC(".maps");

/* One value: so the lookup is inlined, and what follows is plain memory. */
struct guard_top4_slot {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct sluice_guard_top4));
};

/* At slot * fields + field; without IPv4 prefixes there is none. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_GUARD_FIELDS);
  __type(key, __u32);
  __array(values, struct guard_top4_slot);
} guard_top4 SEC(".maps");

struct guard_gate6_slot {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct sluice_guard_gate6));
};

/* Likewise; without IPv6 prefixes there is none. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_GUARD_FIELDS);
  __type(key, __u32);
  __array(values, struct guard_gate6_slot);
} guard_gate6 SEC(".maps");

struct guard_words_slot {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, SLUICE_F_INNER_MAP | BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u64));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_GUARD_FIELDS* SLUICE_GUARD_WORDS_KINDS);
  __type(key, __u32);
  __array(values, struct guard_words_slot);
} guard_words SEC(".maps");

struct guard_lines_slot {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, SLUICE_F_INNER_MAP | BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct sluice_guard_line));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_GUARD_FIELDS* SLUICE_GUARD_LINES_KINDS);
  __type(key, __u32);
  __array(values, struct guard_lines_slot);
} guard_lines SEC(".maps");

/* Of protect alone: few entries, asked for few packets. */
struct guard_trie4 {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct sluice_guard_key4));
  __uint(value_size, sizeof(__u64));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __array(values, struct guard_trie4);
} guard_tries4 SEC(".maps");

struct guard_trie6 {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct sluice_guard_key6));
  __uint(value_size, sizeof(__u64));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __array(values, struct guard_trie6);
} guard_tries6 SEC(".maps");

/* Interfaces that protect entries name: their groups. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SLUICE_GUARD_MAX_INTERFACES);
  __type(key, struct sluice_guard_interface_key);
  __type(value, __u64);
} guard_ifaces SEC(".maps");

/* Interfaces on which other rules hold than the slot says for any. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SLUICE_GUARD_MAX_INTERFACES);
  __type(key, struct sluice_guard_place_key);
  __type(value, struct sluice_guard_class);
} guard_places SEC(".maps");

/* At index slot * SLUICE_GUARD_MAX_RULES + rule. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_GUARD_MAX_RULES);
  __type(key, __u32);
  __type(value, struct sluice_guard_rate);
} guard_rates SEC(".maps");

/* Of limit rules, by their counters: they survive a reload. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_GUARD_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} guard_buckets SEC(".maps");

struct guard_sources_table {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, SLUICE_GUARD_MAX_SOURCES);
  __uint(key_size, sizeof(struct sluice_guard_source_key));
  __uint(value_size, sizeof(__u64));
};

/* One inner map, made when a policy first asks for it, and pinned as guard_sources. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct guard_sources_table);
} guard_source_table SEC(".maps");

struct guard_services_table {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, SLUICE_GUARD_MAX_SERVICES);
  __uint(key_size, sizeof(struct sluice_guard_service_key));
  __uint(value_size, sizeof(__u64));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct guard_services_table);
} guard_service_table SEC(".maps");

struct guard_monitor_inner {
  __uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
  __uint(max_entries, SLUICE_GUARD_MAX_MONITORED);
  __uint(key_size, sizeof(struct sluice_guard_service_key));
  __uint(value_size, sizeof(struct sluice_guard_seen));
};

/* By enum sluice_guard_monitor; pinned as guard_seen_services and guard_seen_sources. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 2);
  __type(key, __u32);
  __array(values, struct guard_monitor_inner);
} guard_monitor_table SEC(".maps");

/* The node's own addresses, in 16 bytes. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SLUICE_GUARD_MAX_OWN_ADDRESSES);
  __uint(key_size, 16);
  __uint(value_size, 4);
} guard_own SEC(".maps");

/* One value: the lookup is inlined. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, SLUICE_GUARD_BAN_GATE_WORDS * 8);
} guard_ban_gate SEC(".maps");

struct guard_bans_table {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct sluice_guard_ban_key));
  __uint(value_size, sizeof(struct sluice_guard_ban));
};

/* One inner map, so that it can grow; it is pinned as guard_bans. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct guard_bans_table);
} guard_ban_table SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, SLUICE_GUARD_COUNTERS);
  __type(key, __u32);
  __type(value, struct sluice_guard_rule_count);
} guard_counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_GUARD_COUNTERS);
  __type(key, __u32);
  __type(value, struct sluice_guard_name);
} guard_names SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, SLUICE_GUARD_TALLIES);
  __type(key, __u32);
  __type(value, struct sluice_guard_count);
} guard_tallies SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, SLUICE_GUARD_EVENT_BYTES);
} guard_events SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct sluice_guard_budget);
} guard_budget SEC(".maps");

#endif
