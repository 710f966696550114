// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The guard: drops and counts on TC ingress. A packet is parsed once, looked up field by field, and
// judged: bans first, then rules, and protect above both. Whatever passes goes on to the programs
// of others.

#include "kernel/abi_guard.h"
#include "kernel/guard_events.bpf.h"
#include "kernel/guard_maps.bpf.h"
#include "kernel/guard_protect.bpf.h"
#include "kernel/packet.bpf.h"

#define VERDICT_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define VERDICT_DROP 2    /* TCX_DROP, TC_ACT_SHOT */

struct classes {
  const struct sluice_guard_class* protocol;
  const struct sluice_guard_class* from_port;
  const struct sluice_guard_class* to_port;
  const struct sluice_guard_class* from;
  const struct sluice_guard_class* to;
};

static __always_inline struct sluice_guard_ban* find_ban(const struct packet* p,
                                                         const struct sluice_guard_state* state) {
  __u64 lengths = p->version == 4 ? state->ban_lengths4 : state->ban_lengths6;
  if (!lengths) return 0;
  __u32 zero = 0;
  void* bans = bpf_map_lookup_elem(&guard_ban_table, &zero);
  if (!bans) return 0;
  __u64 high = bpf_be64_to_cpu(p->from[0]), low = bpf_be64_to_cpu(p->from[1]);
  for (int i = 0; i < SLUICE_GUARD_BAN_LENGTHS; i++, lengths >>= 8) {
    __u32 length = lengths & 0xff;
    if (!length) break;
    struct sluice_guard_ban_key key = {.length = length};
    key.high = bpf_cpu_to_be64(length >= 64 ? high : high & ~(~0ULL >> (length & 63)));
    key.low = length >= 128 ? p->from[1]
              : length > 64 ? bpf_cpu_to_be64(low & ~(~0ULL >> (length & 63)))
                            : 0;
    struct sluice_guard_ban* ban = bpf_map_lookup_elem(bans, &key);
    if (ban && ban->expires > bpf_ktime_get_coarse_ns()) return ban;
  }
  return 0;
}

static __always_inline const struct sluice_guard_class* port_class(void* classes,
                                                                   const struct packet* p,
                                                                   __u32 slot, __u32 without,
                                                                   bool to) {
  __u32 id = without;
  if (p->parts & PACKET_HAS_PORTS) {
    __u32 index = slot * SLUICE_GUARD_PORTS + (to ? p->to_port : p->from_port);
    struct sluice_guard_port* port = bpf_map_lookup_elem(&guard_ports, &index);
    if (!port) return 0;
    id = to ? port->to_class : port->from_class;
  }
  return bpf_map_lookup_elem(classes, &id);
}

static __always_inline const struct sluice_guard_class* address_class(void* classes,
                                                                      const struct packet* p,
                                                                      __u32 slot, __u32 which,
                                                                      __u32 without,
                                                                      const __be64* address) {
  __u64* found = guard_trie_lookup(&guard_tries4, &guard_tries6, slot, which, p->version, address);
  __u32 id = found ? *found : without;
  return bpf_map_lookup_elem(classes, &id);
}

/* The words in which some rule may still match; 0 as soon as no rule can. The cheap fields go
 * first. */
static __always_inline __u64 classify(const struct packet* p, __u32 slot,
                                      const struct sluice_guard_slot* config, struct classes* c) {
  void* classes = bpf_map_lookup_elem(&guard_classes, &slot);
  if (!classes) return 0;
  __u64 live = config->all.live;
  c->protocol = c->from_port = c->to_port = c->from = c->to = &config->all;
  __u32 v6 = p->version == 6;

  if (config->flags & SLUICE_GUARD_USES_PROTOCOL) {
    __u32 protocol =
        p->protocol <= SLUICE_GUARD_NO_PROTOCOL ? p->protocol : SLUICE_GUARD_NO_PROTOCOL;
    c->protocol = bpf_map_lookup_elem(classes, &config->protocol_class[protocol]);
    if (!c->protocol || !(live &= c->protocol->live)) return 0;
  }
  if (config->flags & SLUICE_GUARD_USES_TO_PORTS) {
    c->to_port = port_class(classes, p, slot, config->default_to_port, true);
    if (!c->to_port || !(live &= c->to_port->live)) return 0;
  }
  if (config->flags & SLUICE_GUARD_USES_FROM_PORTS) {
    c->from_port = port_class(classes, p, slot, config->default_from_port, false);
    if (!c->from_port || !(live &= c->from_port->live)) return 0;
  }
  if (config->flags & (SLUICE_GUARD_USES_FROM4 | SLUICE_GUARD_USES_FROM6)) {
    c->from = address_class(classes, p, slot, SLUICE_GUARD_TRIE_FROM,
                            v6 ? config->default_from6 : config->default_from4, p->from);
    if (!c->from || !(live &= c->from->live)) return 0;
  }
  if (config->flags & (SLUICE_GUARD_USES_TO4 | SLUICE_GUARD_USES_TO6)) {
    c->to = address_class(classes, p, slot, SLUICE_GUARD_TRIE_TO,
                          v6 ? config->default_to6 : config->default_to4, p->to);
    if (!c->to || !(live &= c->to->live)) return 0;
  }
  return live;
}

struct matches {
  __u64 word[SLUICE_GUARD_WORDS];
};

/* No branch in the loop but its end, so that the verifier follows few states. True: some rule
 * matches. */
static __always_inline bool intersect(const struct classes* c, __u32 words, struct matches* m) {
  __u64 any = 0;
  for (__u32 w = 0; w < SLUICE_GUARD_WORDS; w++) {
    if (w >= words) break;
    __u64 excepted = c->protocol->word[w].except & c->to_port->word[w].except &
                     c->from_port->word[w].except & c->from->word[w].except & c->to->word[w].except;
    __u64 bits = c->protocol->word[w].match & c->to_port->word[w].match &
                 c->from_port->word[w].match & c->from->word[w].match & c->to->word[w].match &
                 ~excepted;
    m->word[w] = bits;
    any |= bits;
  }
  return any;
}

/* Counts the ones below it, without a branch: six branches in a loop are a million states to the
 * verifier. */
static __always_inline __u32 lowest_bit(__u64 bits) {
  __u64 below = (bits & -bits) - 1;
  below -= (below >> 1) & 0x5555555555555555ULL;
  below = (below & 0x3333333333333333ULL) + ((below >> 2) & 0x3333333333333333ULL);
  below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
  return (below * 0x0101010101010101ULL) >> 56;
}

/* Counts the rules of one word. */
__attribute__((noinline)) int guard_count_rules(__u32 slot, __u32 word, __u64 bits, __u32 segments,
                                                __u32 bytes) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!config) return 0;
  for (int i = 0; i < 64 && bits; i++) {
    __u32 rule = (word & (SLUICE_GUARD_WORDS - 1)) * 64 + lowest_bit(bits);
    __u32 index = config->counter[rule & (SLUICE_GUARD_MAX_RULES - 1)];
    struct sluice_guard_count* count = bpf_map_lookup_elem(&guard_counters, &index);
    if (count) {
      count->packets += segments;
      count->bytes += bytes;
    }
    bits &= bits - 1;
  }
  return 0;
}

/* Counts every rule that matched. Returns the first that drops, by its place in the policy, or
 * SLUICE_GUARD_NO_RULE. */
__attribute__((noinline)) int guard_settle(const struct packet* p, __u32 slot,
                                           const struct matches* m) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!p || !m || !config) return SLUICE_GUARD_NO_RULE;
  __u32 first = SLUICE_GUARD_NO_RULE;
  for (__u32 at = SLUICE_GUARD_WORDS; at > 0; at--) {
    __u32 w = at - 1;
    __u64 bits = m->word[w];
    if (!bits) continue;
    guard_count_rules(slot, w, bits, p->segments, p->bytes);
    __u64 drops = bits & config->drop[w];
    if (drops) first = w * 64 + lowest_bit(drops);
  }
  return first;
}

/* `counter`: of the first matching drop rule. */
__attribute__((noinline)) int guard_judge_rules(const struct packet* p, __u32 slot,
                                                __u32 interface_index, __u32* counter) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!p || !counter || !config) return SLUICE_GUARD_PASS;
  struct classes c;
  if (!classify(p, slot, config, &c)) return SLUICE_GUARD_PASS;
  struct matches m = {};
  if (!intersect(&c, (config->rules + 63) / 64, &m)) return SLUICE_GUARD_PASS;
  if (guard_is_protected(p, slot, interface_index)) return SLUICE_GUARD_PASS_PROTECT;
  __u32 rule = guard_settle(p, slot, &m);
  if (rule >= SLUICE_GUARD_MAX_RULES) return SLUICE_GUARD_PASS;
  *counter = config->counter[rule];
  return SLUICE_GUARD_DROP_RULE;
}

static __always_inline __u32 judge(const struct packet* p, const struct sluice_guard_state* state,
                                   __u32 slot, const struct sluice_guard_slot* config,
                                   __u32 interface_index, __u32* counter) {
  struct sluice_guard_ban* ban = find_ban(p, state);
  if (!ban)
    return config->rules ? guard_judge_rules(p, slot, interface_index, counter) : SLUICE_GUARD_PASS;
  if (guard_is_protected(p, slot, interface_index)) return SLUICE_GUARD_PASS_PROTECT;
  __sync_fetch_and_add(&ban->packets, p->segments);
  __sync_fetch_and_add(&ban->bytes, p->bytes);
  return SLUICE_GUARD_DROP_BAN;
}

SEC("tc")
int guard_ingress(struct __sk_buff* skb) {
  __u32 zero = 0;
  struct sluice_guard_state* state = bpf_map_lookup_elem(&guard_state, &zero);
  if (!state) return VERDICT_NEXT;
  __u32 slot = *(volatile __u64*)&state->epoch & 1; /* once: everything else follows it */
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!config) return VERDICT_NEXT;

  struct packet p = {};
  p.segments = skb->gso_segs ?: 1;
  p.bytes = skb->len;
  __u32 reason = SLUICE_GUARD_PASS, counter = SLUICE_GUARD_NO_RULE;
  if (config->rules | state->ban_lengths4 | state->ban_lengths6) {
    int parsed = packet_parse(skb, &p);
    if (parsed == PACKET_OK)
      reason = judge(&p, state, slot, config, skb->ifindex, &counter);
    else
      reason = parsed == PACKET_NOT_IP ? SLUICE_GUARD_PASS_NOT_IP : SLUICE_GUARD_PASS_MALFORMED;
  }
  guard_tally(reason, &p);
  if (p.parts & (PACKET_LATER_FRAGMENT | PACKET_TOO_MANY_EXTENSIONS | PACKET_TRUNCATED))
    guard_notes(&p);
  if (reason != SLUICE_GUARD_DROP_RULE && reason != SLUICE_GUARD_DROP_BAN) return VERDICT_NEXT;
  guard_report(&p, state, reason, counter, skb->ifindex);
  return VERDICT_DROP;
}

char LICENSE[] SEC("license") = "GPL and additional rights";
