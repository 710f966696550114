// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The guard: one classifier, entered from TC ingress, TC egress and XDP. A packet is parsed once,
// looked up field by field, and judged: bans first, then rules, then SYN rates, and protect above
// all. Whatever passes goes on to the programs of others.

#include "kernel/abi_guard.h"
#include "kernel/guard_events.bpf.h"
#include "kernel/guard_limits.bpf.h"
#include "kernel/guard_maps.bpf.h"
#include "kernel/guard_monitor.bpf.h"
#include "kernel/guard_prefix.bpf.h"
#include "kernel/guard_protect.bpf.h"
#include "kernel/packet.bpf.h"

#define VERDICT_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define VERDICT_DROP 2    /* TCX_DROP, TC_ACT_SHOT */

struct verdict {
  __u32 reason;
  __u32 counter;      /* of the rule that decided */
  __u32 audit_reason; /* what an auditing rule or limit would have done; 0: nothing */
  __u32 audit_counter;
};

struct classes {
  const struct sluice_guard_class* place;
  const struct sluice_guard_class* protocol;
  const struct sluice_guard_class* from_port;
  const struct sluice_guard_class* to_port;
  const struct sluice_guard_class* from;
  const struct sluice_guard_class* to;
};

/* The classes of a packet by number; those that no field names stay without. */
struct class_ids {
  __u32 protocol;
  __u32 from_port;
  __u32 to_port;
  __u32 from;
  __u32 to;
};

/* `live` of the port's class. */
static __always_inline __u64 port_class(const struct packet* p, __u32 slot, __u32 without,
                                        __u32 without_live, bool to, __u32* id) {
  *id = without;
  if (!(p->parts & PACKET_HAS_PORTS)) return without_live;
  __u32 index = slot * SLUICE_GUARD_PORTS + (to ? p->to_port : p->from_port);
  struct sluice_guard_port* port = bpf_map_lookup_elem(&guard_ports, &index);
  if (!port) return 0;
  *id = to ? port->to_class : port->from_class;
  return to ? port->to_live : port->from_live;
}

/* `live` of the address's class, found without a look at the classes for the default one: most
 * packets have that. */
static __always_inline __u64 address_class(const struct sluice_guard_prefixes* config,
                                           const struct packet* p, __u32 slot, __u32 field,
                                           __u32* id) {
  const __be64* address = field == SLUICE_GUARD_FROM ? p->from : p->to;
  if (p->version == 4) {
    *id = guard_class4(config, slot, field, (__u32)bpf_be64_to_cpu(address[1]));
    if (*id == config->default4) return config->default_live4;
  } else {
    *id =
        guard_class6(config, slot, field, bpf_be64_to_cpu(address[0]), bpf_be64_to_cpu(address[1]));
    if (*id == config->default6) return config->default_live6;
  }
  void* classes = bpf_map_lookup_elem(&guard_classes, &slot);
  struct sluice_guard_class* found = classes ? bpf_map_lookup_elem(classes, id) : 0;
  return found ? found->live : 0;
}

static __always_inline const struct sluice_guard_class* find_place(
    const struct packet* p, const struct sluice_guard_slot* config, __u32 slot,
    __u32 interface_index) {
  if (config->flags & SLUICE_GUARD_USES_INTERFACES) {
    struct sluice_guard_place_key key = {
        .index = interface_index, .slot = slot, .direction = p->egress};
    struct sluice_guard_class* named = bpf_map_lookup_elem(&guard_places, &key);
    if (named) return named;
  }
  return &config->place[p->egress & 1];
}

/* False: no rule can match. Most packets end here, so this is a part of the entry: what costs no
 * call goes first, and a call or a class is paid for only when every field so far has left some
 * word alive. */
static __always_inline bool may_match(const struct packet* p, __u32 slot,
                                      const struct sluice_guard_slot* config, __u32 interface_index,
                                      struct class_ids* ids) {
  __u32 flags = config->flags;
  __u64 live = ~0ULL;
  if (!(flags & SLUICE_GUARD_USES_INTERFACES) && !(live = config->place[p->egress & 1].live))
    return false;
  if (flags & SLUICE_GUARD_USES_PROTOCOL) {
    __u32 protocol =
        p->protocol <= SLUICE_GUARD_NO_PROTOCOL ? p->protocol : SLUICE_GUARD_NO_PROTOCOL;
    ids->protocol = config->protocol_class[protocol].id;
    if (!(live &= config->protocol_class[protocol].live)) return false;
  }
  if (flags & SLUICE_GUARD_USES_TO_PORTS)
    live &= port_class(p, slot, config->default_to_port, config->default_to_port_live, true,
                       &ids->to_port);
  if (flags & SLUICE_GUARD_USES_FROM_PORTS)
    live &= port_class(p, slot, config->default_from_port, config->default_from_port_live, false,
                       &ids->from_port);
  if (!live) return false;
  if (flags & SLUICE_GUARD_USES_FROM)
    live &=
        address_class(&config->prefixes[SLUICE_GUARD_FROM], p, slot, SLUICE_GUARD_FROM, &ids->from);
  if (!live) return false;
  if (flags & SLUICE_GUARD_USES_TO)
    live &= address_class(&config->prefixes[SLUICE_GUARD_TO], p, slot, SLUICE_GUARD_TO, &ids->to);
  if (!live) return false;
  return !(flags & SLUICE_GUARD_USES_INTERFACES) ||
         (find_place(p, config, slot, interface_index)->live & live);
}

/* A field that no rule uses has class 0, which says nothing against any. One way through here,
 * whatever the fields: else the verifier walks what follows for each combination. */
static __always_inline bool find_classes(const struct packet* p, __u32 slot,
                                         const struct sluice_guard_slot* config,
                                         __u32 interface_index, const struct class_ids* given,
                                         struct classes* c) {
  void* classes = bpf_map_lookup_elem(&guard_classes, &slot);
  if (!classes) return false;
  struct class_ids ids = *given;
  c->place = find_place(p, config, slot, interface_index);
  return (c->protocol = bpf_map_lookup_elem(classes, &ids.protocol)) &&
         (c->to_port = bpf_map_lookup_elem(classes, &ids.to_port)) &&
         (c->from_port = bpf_map_lookup_elem(classes, &ids.from_port)) &&
         (c->from = bpf_map_lookup_elem(classes, &ids.from)) &&
         (c->to = bpf_map_lookup_elem(classes, &ids.to));
}

/* The rules of a word that match. No branch: the verifier follows few states. */
static __always_inline __u64 matching(const struct classes* c, __u32 w) {
  __u64 excepted = c->place->word[w].except & c->protocol->word[w].except &
                   c->to_port->word[w].except & c->from_port->word[w].except &
                   c->from->word[w].except & c->to->word[w].except;
  return c->place->word[w].match & c->protocol->word[w].match & c->to_port->word[w].match &
         c->from_port->word[w].match & c->from->word[w].match & c->to->word[w].match & ~excepted;
}

/* Counts the rules of one word. */
__attribute__((noinline)) int guard_count_rules(__u32 slot, __u32 word, __u64 bits, __u32 segments,
                                                __u32 bytes) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!config) return 0;
  word &= SLUICE_GUARD_WORDS - 1;
  __u64 drops = config->drop[word], audits = config->audit[word];
  for (int i = 0; i < 64 && bits; i++) {
    __u64 bit = bits & -bits;
    __u32 rule = word * 64 + lowest_bit(bits);
    __u32 index = config->counter[rule & (SLUICE_GUARD_MAX_RULES - 1)];
    struct sluice_guard_rule_count* count = bpf_map_lookup_elem(&guard_counters, &index);
    if (count) {
      count->packets += segments;
      count->bytes += bytes;
      count->dropped += drops & ~audits & bit ? segments : 0;
      count->would_drop += drops & audits & bit ? segments : 0;
    }
    bits ^= bit;
  }
  return 0;
}

/* A packet on its way through the words of the rules. */
struct judging {
  const struct packet* packet;
  const struct sluice_guard_slot* config;
  struct classes classes;
  __u32 slot;
  __u32 interface_index;
  __u32 matched; /* some rule did, and protect did not spare the packet */
  __u32 spared;
  __u32 drop; /* the first rule that drops, or SLUICE_GUARD_NO_RULE */
  __u32 audit;
  struct guard_denied denied;
};

/* Counts the rules of a word that match; protect is asked once, by the first. 1: it spares. */
static long judge_word(__u32 w, struct judging* j) {
  w &= SLUICE_GUARD_WORDS - 1;
  __u64 bits = matching(&j->classes, w);
  if (!bits) return 0;
  if (!j->matched) {
    if (guard_is_protected(j->packet, j->slot, j->interface_index)) {
      j->spared = 1;
      return 1;
    }
    j->matched = 1;
  }
  guard_count_rules(j->slot, w, bits, j->packet->segments, j->packet->bytes);
  __u64 drops = bits & j->config->drop[w];
  __u64 audits = drops & j->config->audit[w];
  drops &= ~audits;
  if (drops && j->drop == SLUICE_GUARD_NO_RULE) j->drop = w * 64 + lowest_bit(drops);
  if (audits && j->audit == SLUICE_GUARD_NO_RULE) j->audit = w * 64 + lowest_bit(audits);
  return 0;
}

/* The limits of a word that match, in the order of the policy. 1: one denies. */
static long judge_limits(__u32 w, struct judging* j) {
  w &= SLUICE_GUARD_WORDS - 1;
  __u64 bits = matching(&j->classes, w) & j->config->limit[w];
  if (bits) guard_limit_rules(j->slot, w, bits, j->packet->segments, &j->denied);
  return j->denied.rule != SLUICE_GUARD_NO_RULE;
}

static __always_inline __u32 counter_of(const struct sluice_guard_slot* config, __u32 rule) {
  return config->counter[rule & (SLUICE_GUARD_MAX_RULES - 1)];
}

/* Every rule that matches counts; the first that drops, in the order of the policy, is reported. A
 * packet that a rule drops costs no limit. */
__attribute__((noinline)) int guard_judge_rules(const struct packet* p, __u32 slot,
                                                __u32 interface_index, const struct class_ids* ids,
                                                struct verdict* v) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!p || !ids || !v || !config) return 0;
  struct judging j = {.packet = p,
                      .config = config,
                      .slot = slot,
                      .interface_index = interface_index,
                      .drop = SLUICE_GUARD_NO_RULE,
                      .audit = SLUICE_GUARD_NO_RULE,
                      .denied = {.rule = SLUICE_GUARD_NO_RULE, .audit = SLUICE_GUARD_NO_RULE}};
  if (!find_classes(p, slot, config, interface_index, ids, &j.classes)) return 0;
  __u32 words = (config->rules + 63) / 64;
  bpf_loop(words, judge_word, &j, 0);
  if (j.spared) v->reason = SLUICE_GUARD_PASS_PROTECT;
  if (!j.matched) return 0;
  if (j.audit != SLUICE_GUARD_NO_RULE) {
    v->audit_reason = SLUICE_GUARD_DROP_RULE;
    v->audit_counter = counter_of(config, j.audit);
  }
  if (j.drop != SLUICE_GUARD_NO_RULE) {
    v->reason = SLUICE_GUARD_DROP_RULE;
    v->counter = counter_of(config, j.drop);
    return 0;
  }
  if (!(config->flags & SLUICE_GUARD_USES_LIMITS)) return 0;
  bpf_loop(words, judge_limits, &j, 0);
  if (j.denied.audit != SLUICE_GUARD_NO_RULE && !v->audit_reason) {
    v->audit_reason = SLUICE_GUARD_DROP_LIMIT;
    v->audit_counter = counter_of(config, j.denied.audit);
  }
  if (j.denied.rule == SLUICE_GUARD_NO_RULE) return 0;
  v->reason = SLUICE_GUARD_DROP_LIMIT;
  v->counter = counter_of(config, j.denied.rule);
  return 0;
}

/* The source, cut to a length; network order, as a ban's key has it. */
static __always_inline void cut_source(const struct packet* p, __u32 length,
                                       struct sluice_guard_ban_key* key) {
  __u64 high = bpf_be64_to_cpu(p->from[0]), low = bpf_be64_to_cpu(p->from[1]);
  key->length = length;
  key->high = bpf_cpu_to_be64(length >= 64 ? high : high & ~(~0ULL >> (length & 63)));
  key->low = length >= 128 ? p->from[1]
             : length > 64 ? bpf_cpu_to_be64(low & ~(~0ULL >> (length & 63)))
                           : 0;
}

/* False: no ban names the source. */
static __always_inline bool may_be_banned(const struct packet* p,
                                          const struct sluice_guard_state* state) {
  __u64 lengths = p->version == 4 ? state->ban_lengths4 : state->ban_lengths6;
  __u32 zero = 0;
  __u64* gate = bpf_map_lookup_elem(&guard_ban_gate, &zero);
  if (!gate) return false;
  for (int i = 0; i < SLUICE_GUARD_BAN_LENGTHS; i++, lengths >>= 8) {
    __u32 length = lengths & 0xff;
    if (!length) return false;
    struct sluice_guard_ban_key key = {};
    cut_source(p, length, &key);
    __u32 bit =
        sluice_guard_ban_bit(bpf_be64_to_cpu(key.high), bpf_be64_to_cpu(key.low), length);
    if (gate[bit >> 6 & (SLUICE_GUARD_BAN_GATE_WORDS - 1)] >> (bit & 63) & 1) return true;
  }
  return false;
}

static __always_inline struct sluice_guard_ban* find_ban(const struct packet* p,
                                                         const struct sluice_guard_state* state) {
  __u64 lengths = p->version == 4 ? state->ban_lengths4 : state->ban_lengths6;
  if (!lengths) return 0;
  __u32 zero = 0;
  void* bans = bpf_map_lookup_elem(&guard_ban_table, &zero);
  if (!bans) return 0;
  for (int i = 0; i < SLUICE_GUARD_BAN_LENGTHS; i++, lengths >>= 8) {
    __u32 length = lengths & 0xff;
    if (!length) break;
    struct sluice_guard_ban_key key = {};
    cut_source(p, length, &key);
    struct sluice_guard_ban* ban = bpf_map_lookup_elem(bans, &key);
    if (ban && ban->expires > bpf_ktime_get_coarse_ns()) return ban;
  }
  return 0;
}

/* PASS: not banned. */
__attribute__((noinline)) int guard_judge_ban(const struct packet* p, __u32 slot,
                                              __u32 interface_index) {
  __u32 zero = 0;
  struct sluice_guard_state* state = bpf_map_lookup_elem(&guard_state, &zero);
  if (!p || !state) return SLUICE_GUARD_PASS;
  struct sluice_guard_ban* ban = find_ban(p, state);
  if (!ban) return SLUICE_GUARD_PASS;
  if (guard_is_protected(p, slot, interface_index)) return SLUICE_GUARD_PASS_PROTECT;
  __sync_fetch_and_add(&ban->packets, p->segments);
  __sync_fetch_and_add(&ban->bytes, p->bytes);
  return SLUICE_GUARD_DROP_BAN;
}

/* The buckets of a SYN: its source's, then its service's. Returns the reason to drop, or 0. */
__attribute__((noinline)) int guard_judge_syn(const struct packet* p, __u32 slot) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  __u32 zero = 0;
  if (!p || !config) return 0;
  __u64 now = bpf_ktime_get_ns();
  bool no_source = false, no_service = false;
  int reason = 0;
  if (config->flags & SLUICE_GUARD_USES_SOURCE_SYN) {
    struct sluice_guard_source_key key = {.high = p->from[0],
                                          .low = p->version == 4 ? p->from[1] : 0};
    void* sources = bpf_map_lookup_elem(&guard_source_table, &zero);
    if (sources && !guard_take_by_key(sources, &key, &config->source_syn, now, &no_source))
      reason = SLUICE_GUARD_DROP_SOURCE_SYN;
  }
  if (!reason && config->flags & SLUICE_GUARD_USES_SERVICE_SYN) {
    struct sluice_guard_service_key key = {
        .high = p->to[0], .low = p->to[1], .port = p->to_port, .reserved = 0};
    void* services = bpf_map_lookup_elem(&guard_service_table, &zero);
    if (services && !guard_take_by_key(services, &key, &config->service_syn, now, &no_service))
      reason = SLUICE_GUARD_DROP_SERVICE_SYN;
  }
  if (no_source) guard_tally(SLUICE_GUARD_NOTE_NO_SOURCE, p);
  if (no_service) guard_tally(SLUICE_GUARD_NOTE_NO_SERVICE, p);
  return reason;
}

static __always_inline void judge(const struct packet* p, const struct sluice_guard_state* state,
                                  __u32 slot, const struct sluice_guard_slot* config,
                                  __u32 interface_index, struct verdict* v) {
  if (!p->egress && (state->ban_lengths4 | state->ban_lengths6) && may_be_banned(p, state))
    v->reason = guard_judge_ban(p, slot, interface_index);
  if (v->reason != SLUICE_GUARD_PASS) return;
  struct class_ids ids = {};
  if (config->rules && may_match(p, slot, config, interface_index, &ids))
    guard_judge_rules(p, slot, interface_index, &ids, v);
  if (v->reason != SLUICE_GUARD_PASS || !(p->parts & PACKET_IS_SYN)) return;
  __u32 reason = guard_judge_syn(p, slot);
  if (!reason) return;
  if (guard_is_protected(p, slot, interface_index)) {
    v->reason = SLUICE_GUARD_PASS_PROTECT;
  } else if (config->flags & SLUICE_GUARD_AUDITS_SYN) {
    if (!v->audit_reason) v->audit_reason = reason;
  } else {
    v->reason = reason;
  }
}

/* What every entry does before it parses. Returns what decides, or 0: nothing does. */
static __always_inline const struct sluice_guard_slot* guard_begin(
    const struct sluice_guard_state* state, struct packet* p, __u32* slot) {
  *slot = *(volatile __u64*)&state->epoch & 1; /* once: everything else follows it */
  __u64 revert_at = *(volatile __u64*)&state->revert_at;
  if (revert_at && (revert_at & 1) == *slot && bpf_ktime_get_coarse_ns() >= revert_at) *slot ^= 1;
  const struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, slot);
  if (!config) return 0;
  __u32 syn = config->flags & (SLUICE_GUARD_USES_SOURCE_SYN | SLUICE_GUARD_USES_SERVICE_SYN);
  p->wants_syn = syn && !p->egress;
  return config;
}

static __always_inline bool guard_has_work(const struct sluice_guard_state* state,
                                           const struct sluice_guard_slot* config,
                                           const struct packet* p) {
  __u32 monitors = SLUICE_GUARD_MONITORS_SERVICES | SLUICE_GUARD_MONITORS_SOURCES;
  return config->rules || p->wants_syn || (!p->egress && (config->flags & monitors)) ||
         (!p->egress && (state->ban_lengths4 | state->ban_lengths6));
}

/* True: drop. */
static __always_inline bool guard_end(const struct packet* p,
                                      const struct sluice_guard_state* state, __u32 slot,
                                      const struct sluice_guard_slot* config, int parsed,
                                      __u32 interface_index) {
  struct verdict v = {.counter = SLUICE_GUARD_NO_RULE, .audit_counter = SLUICE_GUARD_NO_RULE};
  if (parsed == PACKET_OK)
    judge(p, state, slot, config, interface_index, &v);
  else
    v.reason = parsed == PACKET_NOT_IP ? SLUICE_GUARD_PASS_NOT_IP : SLUICE_GUARD_PASS_MALFORMED;
  guard_tally(v.reason, p);
  if (p->parts & (PACKET_LATER_FRAGMENT | PACKET_TOO_MANY_EXTENSIONS | PACKET_TRUNCATED))
    guard_notes(p);
  bool drops = v.reason >= SLUICE_GUARD_FIRST_DROP;
  if (v.audit_reason && !drops) {
    guard_tally(SLUICE_GUARD_NOTE_AUDIT, p);
    guard_report(p, state, v.audit_reason, v.audit_counter, true, interface_index);
  }
  if (drops) guard_report(p, state, v.reason, v.counter, false, interface_index);
  return drops;
}

/* What a guest or a tap hands over (SKB_GSO_DODGY) says how long its segments are, not how many. */
static __always_inline __u32 segments_of(const struct __sk_buff* skb) {
  const __u32 heads = ETH_HLEN + 40; /* the least: of IPv4 and TCP */
  __u32 size = skb->gso_size;
  if (skb->gso_segs) return skb->gso_segs;
  return size && skb->len > heads ? (skb->len - heads + size - 1) / size : 1;
}

static __always_inline int guard_tc(struct __sk_buff* skb, bool egress) {
  __u32 zero = 0, slot;
  struct sluice_guard_state* state = bpf_map_lookup_elem(&guard_state, &zero);
  if (!state) return VERDICT_NEXT;
  struct packet p = {.segments = segments_of(skb), .bytes = skb->len, .egress = egress};
  const struct sluice_guard_slot* config = guard_begin(state, &p, &slot);
  if (!config) return VERDICT_NEXT;
  if (!guard_has_work(state, config, &p)) {
    guard_tally(SLUICE_GUARD_PASS, &p);
    return VERDICT_NEXT;
  }
  int parsed = PACKET_OK;
  if (!state->frames || !packet_parse_plain((void*)(long)skb->data, (void*)(long)skb->data_end,
                                            (__be16)skb->protocol, &p))
    parsed = packet_parse_tc(skb, &p);
  if (guard_end(&p, state, slot, config, parsed, skb->ifindex)) return VERDICT_DROP;
  if (guard_is_monitored(config, &p)) guard_monitor_tc(skb, &p, config->flags);
  return VERDICT_NEXT;
}

SEC("tc")
int guard_ingress(struct __sk_buff* skb) {
  return guard_tc(skb, false);
}

SEC("tc")
int guard_egress(struct __sk_buff* skb) {
  return guard_tc(skb, true);
}

SEC("xdp.frags")
int guard_xdp(struct xdp_md* frame) {
  __u32 zero = 0, slot;
  struct sluice_guard_state* state = bpf_map_lookup_elem(&guard_state, &zero);
  if (!state) return XDP_PASS;
  struct packet p = {.segments = 1, .bytes = bpf_xdp_get_buff_len(frame)};
  const struct sluice_guard_slot* config = guard_begin(state, &p, &slot);
  if (!config) return XDP_PASS;
  if (!guard_has_work(state, config, &p)) {
    guard_tally(SLUICE_GUARD_PASS, &p);
    return XDP_PASS;
  }
  int parsed = PACKET_OK;
  const struct ethhdr* link = (void*)(long)frame->data;
  const void* end = (void*)(long)frame->data_end;
  if ((const void*)(link + 1) > end || !packet_parse_plain(link, end, link->h_proto, &p))
    parsed = packet_parse_xdp(frame, &p);
  if (guard_end(&p, state, slot, config, parsed, frame->ingress_ifindex)) return XDP_DROP;
  if (guard_is_monitored(config, &p)) guard_monitor_xdp(frame, &p, config->flags);
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL and additional rights";
