/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The class of an address; abi_guard.h says how the tables are made. */
#ifndef SLUICE_KERNEL_GUARD_PREFIX_BPF_H
#define SLUICE_KERNEL_GUARD_PREFIX_BPF_H

#include "kernel/guard_maps.bpf.h"
#include "kernel/packet.bpf.h"

/* Without a branch: a loop of branches is a million states to the verifier. */
static __always_inline __u32 count_bits(__u64 bits) {
  bits -= (bits >> 1) & 0x5555555555555555ULL;
  bits = (bits & 0x3333333333333333ULL) + ((bits >> 2) & 0x3333333333333333ULL);
  bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
  return (bits * 0x0101010101010101ULL) >> 56;
}
static __always_inline __u32 lowest_bit(__u64 bits) {
  return count_bits((bits & -bits) - 1);
}

static __always_inline __u64* guard_word(__u32 slot, __u32 field, __u32 kind, __u32 index) {
  __u32 at = (slot * SLUICE_GUARD_FIELDS + field) * SLUICE_GUARD_WORDS_KINDS + kind;
  void* words = bpf_map_lookup_elem(&guard_words, &at);
  return words ? bpf_map_lookup_elem(words, &index) : 0;
}
static __always_inline struct sluice_guard_line* guard_line(__u32 slot, __u32 field, __u32 kind,
                                                            __u32 index) {
  __u32 at = (slot * SLUICE_GUARD_FIELDS + field) * SLUICE_GUARD_LINES_KINDS + kind;
  void* lines = bpf_map_lookup_elem(&guard_lines, &at);
  return lines ? bpf_map_lookup_elem(lines, &index) : 0;
}

/* --- IPv4 --------------------------------------------------------------------------------------
 */

static __always_inline __u32 guard_class_in_runs(__u32 slot, __u32 field, __u32 index, __u8 host,
                                                 __u32 otherwise) {
  struct sluice_guard_line* line = guard_line(slot, field, SLUICE_GUARD_STARTS4, index);
  if (!line) return otherwise;
  __u32 word = host >> 6;
  __u64 upto = ~0ULL >> (63 - (host & 63));
  __u32 run = count_bits(line->runs.starts[word & 3] & upto);
  run += word > 0 ? count_bits(line->runs.starts[0]) : 0;
  run += word > 1 ? count_bits(line->runs.starts[1]) : 0;
  run += word > 2 ? count_bits(line->runs.starts[2]) : 0;
  __u64* found = guard_word(slot, field, SLUICE_GUARD_RUNS4, (__u32)line->runs.base + run - 1);
  return found ? *found : otherwise;
}

__attribute__((noinline)) __u32 guard_class_in_leaf(__u32 slot, __u32 field, __u32 index,
                                                    __u32 address, __u32 otherwise) {
  __u64* found = guard_word(slot, field, SLUICE_GUARD_LEAVES4, index);
  if (!found) return otherwise;
  __u64 leaf = *found;
  __u64 kind = leaf >> SLUICE_GUARD_LEAF_KIND;
  __u8 host = address;
  if (kind == SLUICE_GUARD_LEAF_WHOLE) return leaf;
  if (kind == SLUICE_GUARD_LEAF_RUNS)
    return guard_class_in_runs(slot, field, leaf, host, otherwise);
  bool named = host == (leaf & 0xff) || host == (leaf >> 8 & 0xff) || host == (leaf >> 16 & 0xff);
  __u64 mask = (1 << SLUICE_GUARD_LEAF_CLASS_BITS) - 1;
  return leaf >> (named ? 24 : 24 + SLUICE_GUARD_LEAF_CLASS_BITS) & mask;
}

/* `address` in host order. */
static __always_inline __u32 guard_class4(const struct sluice_guard_prefixes* config, __u32 slot,
                                          __u32 field, __u32 address) {
  __u32 at = slot * SLUICE_GUARD_FIELDS + field, zero = 0;
  if (!(config->flags & (SLUICE_GUARD_HAS_TOP4 | SLUICE_GUARD_HAS_COARSE4)))
    return config->default4;
  void* map = bpf_map_lookup_elem(&guard_top4, &at);
  struct sluice_guard_top4* top = map ? bpf_map_lookup_elem(map, &zero) : 0;
  if (!top) return config->default4;
  if (config->flags & SLUICE_GUARD_HAS_TOP4) {
    __u64 word = top->top[address >> 13];
    __u32 bit = address >> 8 & 31;
    if (word >> bit & 1) {
      __u32 index = (word >> 32) + count_bits(word & ((1U << bit) - 1));
      return guard_class_in_leaf(slot, field, index, address, config->default4);
    }
  }
  return config->flags & SLUICE_GUARD_HAS_COARSE4 ? top->coarse[address >> 16] : config->default4;
}

/* --- IPv6 --------------------------------------------------------------------------------------
 */

struct guard_key6 {
  __u64 high; /* host order, masked */
  __u64 low;
  __u64 hash;
  __u32 length;
  __u32 mask; /* of buckets */
};

#define GUARD_NO_CLASS 0xffffffffU
__attribute__((noinline)) __u32 guard_find_bucket(__u32 slot, __u32 field,
                                                  const struct guard_key6* key) {
  if (!key) return GUARD_NO_CLASS;
  for (__u32 probe = 0; probe < SLUICE_GUARD_MAX_PROBES; probe++) {
    __u32 index = ((__u32)(key->hash >> 32) + probe) & key->mask;
    struct sluice_guard_line* line = guard_line(slot, field, SLUICE_GUARD_BUCKETS6, index);
    if (!line) break;
    for (int i = 0; i < 3; i++) {
      __u32 tag = line->bucket.tag[i];
      if ((tag & 0xff) == key->length && line->bucket.high[i] == key->high &&
          line->bucket.low[i] == key->low)
        return tag >> 8;
    }
    if (!line->bucket.more) break;
  }
  return GUARD_NO_CLASS;
}

static __always_inline struct sluice_guard_gate6* guard_gate_of(__u32 slot, __u32 field) {
  __u32 at = slot * SLUICE_GUARD_FIELDS + field, zero = 0;
  void* map = bpf_map_lookup_elem(&guard_gate6, &at);
  return map ? bpf_map_lookup_elem(map, &zero) : 0;
}

static __always_inline bool guard_is_open6(const struct sluice_guard_prefixes* config, __u32 slot,
                                           __u32 field, __u64 high) {
  if (!config->gated) return false;
  struct sluice_guard_gate6* gate = guard_gate_of(slot, field);
  if (!gate) return false;
  __u32 bit = sluice_guard_gate6_bit(config->seed, high) & config->gate_mask;
  return gate->gate[bit >> 6 & (SLUICE_GUARD_GATE_WORDS - 1)] >> (bit & 63) & 1;
}

/* From the longest length on; a length costs two multiplications and a word, and a call only where
 * its bit is set. */
__attribute__((noinline)) __u32 guard_search6(__u32 slot, __u32 field, __u64 high, __u64 low,
                                              bool open) {
  struct sluice_guard_slot* whole = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!whole || field >= SLUICE_GUARD_FIELDS) return 0;
  const struct sluice_guard_prefixes* config = &whole->prefixes[field];
  struct sluice_guard_gate6* gate = guard_gate_of(slot, field);
  if (!gate) return config->default6;
  for (__u32 at = open ? 0 : config->gated; at < 128; at++) {
    if (at >= config->lengths) break;
    __u32 length = config->length[at & 127];
    struct guard_key6 key = {.length = length, .mask = config->bucket_mask};
    key.high = length >= 64 ? high : high & ~(~0ULL >> (length & 63));
    key.low = length >= 128 ? low : length > 64 ? low & ~(~0ULL >> (length & 63)) : 0;
    key.hash = sluice_guard_hash6(config->seed, key.high, key.low, length);
    __u32 bit = key.hash & config->bits_mask;
    if (!(gate->bits[bit >> 6 & (SLUICE_GUARD_BITS_WORDS - 1)] >> (bit & 63) & 1)) continue;
    __u32 found = guard_find_bucket(slot, field, &key);
    if (found != GUARD_NO_CLASS) return found;
  }
  return config->default6;
}

/* Most packets end at the gate. */
static __always_inline __u32 guard_class6(const struct sluice_guard_prefixes* config, __u32 slot,
                                          __u32 field, __u64 high, __u64 low) {
  if (!config->lengths) return config->default6;
  bool open = guard_is_open6(config, slot, field, high);
  if (!open && config->gated >= config->lengths) return config->default6;
  return guard_search6(slot, field, high, low, open);
}

#endif
