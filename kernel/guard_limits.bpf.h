/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Rates, by GCRA: a bucket is the theoretical arrival time of the next packet, one word. */
#ifndef SLUICE_KERNEL_GUARD_LIMITS_BPF_H
#define SLUICE_KERNEL_GUARD_LIMITS_BPF_H

#include "kernel/guard_maps.bpf.h"
#include "kernel/guard_prefix.bpf.h"

#define GUARD_TRIES 4

/* False: the packets are beyond the rate, and the bucket is as it was. A buffer of more segments
 * than the burst costs a burst, or it could never pass. Lost races (other processors) let a packet
 * pass: a limit is no door. */
static __always_inline bool guard_take(__u64* bucket, const struct sluice_guard_rate* rate,
                                       __u32 packets, __u64 now) {
  __u64 cost = (packets < rate->burst ? packets : rate->burst) * rate->interval;
  __u64 tolerance = rate->burst * rate->interval;
  for (int i = 0; i < GUARD_TRIES; i++) {
    __u64 before = *(volatile __u64*)bucket;
    __u64 from = before > now ? before : now;
    /* Emptied at a slower rate, before a reload: no emptier than this one's. */
    if (from - now > tolerance) from = now + tolerance;
    __u64 after = from + cost;
    if (after - now > tolerance) {
      if (from < before) __sync_val_compare_and_swap(bucket, before, from);
      return false;
    }
    if (__sync_val_compare_and_swap(bucket, before, after) == before) return true;
  }
  return true;
}

/* `map`: of buckets by `key`; one that is not there is full. `full_table`: the tally of those that
 * could not be made. */
static __always_inline bool guard_take_by_key(void* map, const void* key,
                                              const struct sluice_guard_rate* rate, __u64 now,
                                              bool* no_room) {
  __u64* bucket = bpf_map_lookup_elem(map, key);
  if (bucket) return guard_take(bucket, rate, 1, now);
  __u64 fresh = now + rate->interval;
  if (bpf_map_update_elem(map, key, &fresh, BPF_ANY)) *no_room = true;
  return true;
}

struct guard_denied {
  __u16 rule;  /* the first that denies, or SLUICE_GUARD_NO_RULE */
  __u16 audit; /* the first that would, but audits */
};

/* False: beyond the rule's rate. */
__attribute__((noinline)) int guard_take_rule(__u32 at, __u32 counter, __u32 segments, __u64 now,
                                              bool audit) {
  struct sluice_guard_rate* rate = bpf_map_lookup_elem(&guard_rates, &at);
  __u64* bucket = bpf_map_lookup_elem(&guard_buckets, &counter);
  if (!rate || !bucket || guard_take(bucket, rate, segments, now)) return true;
  struct sluice_guard_rule_count* count = bpf_map_lookup_elem(&guard_counters, &counter);
  if (!count) return false;
  if (audit)
    count->would_drop += segments;
  else
    count->dropped += segments;
  return false;
}

/* The limit rules of one word, in the order of the policy, until one denies. */
__attribute__((noinline)) int guard_limit_rules(__u32 slot, __u32 word, __u64 bits, __u32 segments,
                                                struct guard_denied* denied) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!config || !denied) return 0;
  __u64 now = bpf_ktime_get_ns();
  word &= SLUICE_GUARD_WORDS - 1;
  __u64 audits = config->audit[word];
  for (int i = 0; i < 64 && bits; i++) {
    __u32 bit = lowest_bit(bits);
    bool audit = audits >> (bit & 63) & 1;
    __u32 rule = (word * 64 + bit) & (SLUICE_GUARD_MAX_RULES - 1);
    bits &= bits - 1;
    __u32 at = slot * SLUICE_GUARD_MAX_RULES + rule;
    if (guard_take_rule(at, config->counter[rule], segments, now, audit)) continue;
    if (!audit) {
      denied->rule = rule;
      break;
    }
    if (denied->audit == SLUICE_GUARD_NO_RULE) denied->audit = rule;
  }
  return 0;
}

#endif
