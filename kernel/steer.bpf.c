// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// sk_lookup: destination ─► listener ─► one worker's socket. Runs once for a SYN that is delivered
// locally; and for the ACK that answers a SYN cookie, which a program at TC brings here
// (steer_cookie.bpf.h). What it claims was decided in user space (steer_table.h); here are two prefix lookups
// and a binary search. What nobody claims passes on to the host's own sockets and to other
// programs.
// clang-format off: libbpf's headers need linux/bpf.h before them.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/socket.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "kernel/abi_express.h"
#include "kernel/abi_steer.h"

#define AF_INET 2
#define EEXIST 17
#define SEARCH_STEPS 17 /* 2^16 segments and one more: all ports */

/* Sizes, not types: clang describes an inner map's struct types only by name. */
struct steer_sources_slot {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct sluice_steer_source_key));
  __uint(value_size, sizeof(__u32));
};

struct steer_destinations_slot {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(struct sluice_steer_key));
  __uint(value_size, sizeof(struct sluice_steer_ports));
};

struct steer_segments_slot {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, SLUICE_F_INNER_MAP);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct sluice_steer_segment));
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __array(values, struct steer_sources_slot);
} steer_sources SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __array(values, struct steer_destinations_slot);
} steer_dests SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, SLUICE_SLOTS);
  __type(key, __u32);
  __array(values, struct steer_segments_slot);
} steer_segments SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct sluice_state);
} steer_state SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SOCKMAP);
  __uint(max_entries, SLUICE_STEER_MAX_GROUPS* SLUICE_STEER_MAX_WORKERS);
  __type(key, __u32);
  __type(value, __u64);
} steer_sockets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, SLUICE_STEER_MAX_GROUPS + 1);
  __type(key, __u32);
  __type(value, struct sluice_steer_counters);
} steer_counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_STEER_MAX_GROUPS);
  __type(key, __u32);
  __type(value, struct sluice_steer_group);
} steer_groups SEC(".maps");

/* Outside interfaces that `protect` tells from others: their sides. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SLUICE_STEER_MAX_INTERFACES);
  __type(key, struct sluice_steer_interface);
  __type(value, __u32);
} steer_ifaces SEC(".maps");

/* Ports of our own sockets (enum sluice_steer_port). */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2 * SLUICE_STEER_MAX_GROUPS);
  __type(key, __u32);
  __type(value, __u32);
} steer_ports SEC(".maps");

/* The mark of forwarded packets that are turned to this node; element 0. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct sluice_steer_mark);
} steer_mark SEC(".maps");

/* Of `steering: tc`, by the index that a segment names. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_SLOTS* SLUICE_STEER_MAX_EXITS);
  __type(key, __u32);
  __type(value, struct sluice_steer_exit);
} steer_exits SEC(".maps");

/* The node's own addresses: what goes there is never turned. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SLUICE_STEER_MAX_OWN);
  __uint(key_size, 16);
  __uint(value_size, sizeof(__u32));
} steer_own SEC(".maps");

/* 1: the group's clients may go by the express lane. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_STEER_MAX_GROUPS);
  __type(key, __u32);
  __type(value, __u32);
} express_groups SEC(".maps");

/* Shared with express.bpf.c. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, SLUICE_EXPRESS_MAX_OFFERS);
  __type(key, struct sluice_express_ends);
  __type(value, __u32);
} express_guests SEC(".maps");

struct flow {
  __u32 remote[4]; /* network order */
  __u32 local[4];
  __u16 remote_port; /* network order */
  __u16 local_port;  /* host order */
};

static __always_inline void load_flow(const struct bpf_sk_lookup* ctx, struct flow* flow) {
  if (ctx->family == AF_INET) {
    flow->remote[2] = flow->local[2] = bpf_htonl(0xffff);
    __u32 remote = ctx->remote_ip4;
    __u32 local = ctx->local_ip4;
    /* Else clang merges both branches into one load from a computed context pointer, which is
     * refused. */
    asm volatile("" : "+r"(remote), "+r"(local));
    flow->remote[3] = remote;
    flow->local[3] = local;
  } else {
    flow->remote[0] = ctx->remote_ip6[0];
    flow->remote[1] = ctx->remote_ip6[1];
    flow->remote[2] = ctx->remote_ip6[2];
    flow->remote[3] = ctx->remote_ip6[3];
    flow->local[0] = ctx->local_ip6[0];
    flow->local[1] = ctx->local_ip6[1];
    flow->local[2] = ctx->local_ip6[2];
    flow->local[3] = ctx->local_ip6[3];
  }
  flow->remote_port = (__u16)ctx->remote_port;
  flow->local_port = (__u16)ctx->local_port;
}

/* A murmur3 finish over the words: every bit of the flow reaches the high bits that pick the
 * worker. */
static __always_inline __u32 mix(__u32 hash, __u32 word) {
  word *= 0xcc9e2d51;
  word = (word << 15) | (word >> 17);
  hash ^= word * 0x1b873593;
  hash = (hash << 13) | (hash >> 19);
  return hash * 5 + 0xe6546b64;
}

static __always_inline __u32 flow_hash(const struct flow* flow) {
  __u32 hash = 0;
  for (int i = 0; i < 4; i++) {
    hash = mix(hash, flow->remote[i]);
    hash = mix(hash, flow->local[i]);
  }
  hash = mix(hash, (__u32)flow->remote_port << 16 | flow->local_port);
  hash ^= hash >> 16;
  hash *= 0x85ebca6b;
  hash ^= hash >> 13;
  hash *= 0xc2b2ae35;
  return hash ^ hash >> 16;
}

static __always_inline __u16 source_class(const struct flow* flow, void* sources) {
  struct sluice_steer_source_key key = {.prefixlen = 128};
  __builtin_memcpy(key.address, flow->remote, 16);
  const __u32* found = bpf_map_lookup_elem(sources, &key);
  return found ? (__u16)*found : 0;
}

static __always_inline const struct sluice_steer_segment* find_segment(
    void* segments, const struct sluice_steer_ports* ports, __u16 port) {
  __u32 low = ports->first;
  __u32 high = low + ports->count;
  for (int step = 0; step < SEARCH_STEPS; step++) {
    if (low >= high) break;
    __u32 middle = low + (high - low) / 2;
    const struct sluice_steer_segment* segment = bpf_map_lookup_elem(segments, &middle);
    if (!segment) return 0;
    if (port < segment->first_port)
      high = middle;
    else if (port > segment->last_port)
      low = middle + 1;
    else
      return segment;
  }
  return 0;
}

static __always_inline const struct sluice_steer_segment* find_destination(
    const struct flow* flow, __u8 protocol, __u32 ingress_ifindex) {
  __u32 zero = 0;
  const struct sluice_state* state = bpf_map_lookup_elem(&steer_state, &zero);
  if (!state) return 0;
  __u32 slot = *(volatile const __u64*)&state->epoch & 1;

  void* sources = bpf_map_lookup_elem(&steer_sources, &slot);
  void* destinations = bpf_map_lookup_elem(&steer_dests, &slot);
  void* segments = bpf_map_lookup_elem(&steer_segments, &slot);
  if (!sources || !destinations || !segments) return 0;

  struct sluice_steer_key key = {.prefixlen = SLUICE_STEER_KEY_HEAD_BITS + 128};
  key.protocol = protocol;
  struct sluice_steer_interface interface = {.index = ingress_ifindex, .slot = slot};
  const __u32* side = bpf_map_lookup_elem(&steer_ifaces, &interface);
  const int over_lo = ingress_ifindex == SLUICE_STEER_LO;
  if (over_lo)
    key.side = SLUICE_STEER_NODE;
  else
    key.side = side ? (__u8)*side : SLUICE_STEER_OUTSIDE;
  if (side || !over_lo) key.source_class = source_class(flow, sources);
  __builtin_memcpy(key.address, flow->local, 16);
  const struct sluice_steer_ports* ports = bpf_map_lookup_elem(destinations, &key);
  return ports ? find_segment(segments, ports, flow->local_port) : 0;
}

static __always_inline __u32 socket_of(const struct flow* flow,
                                       const struct sluice_steer_segment* segment) {
  __u32 worker = ((__u64)flow_hash(flow) * segment->workers) >> 32;
  return segment->group * SLUICE_STEER_MAX_WORKERS + worker;
}

static __always_inline struct sluice_steer_counters* counters_of(__u32 group) {
  return bpf_map_lookup_elem(&steer_counters, &group);
}

/* The client, once its connection stands, finds itself among the guests of the lane. */
static __always_inline void invite(const struct flow* flow, __u32 group) {
  const __u32* wanted = bpf_map_lookup_elem(&express_groups, &group);
  if (!wanted || !*wanted) return;
  struct sluice_express_ends ends = {.local_port = bpf_ntohs(flow->remote_port),
                                     .remote_port = flow->local_port};
  __builtin_memcpy(ends.local, flow->remote, 16);
  __builtin_memcpy(ends.remote, flow->local, 16);
  bpf_map_update_elem(&express_guests, &ends, wanted, BPF_ANY);
}

SEC("sk_lookup")
int sluice_steer(struct bpf_sk_lookup* ctx) {
  if (ctx->protocol != IPPROTO_TCP) return SK_PASS;
  struct flow flow = {};
  load_flow(ctx, &flow);

  __u32 port = flow.local_port;
  const __u32* ours = bpf_map_lookup_elem(&steer_ports, &port);
  if (ours && *ours == SLUICE_STEER_PORT_TPROXY) return SK_PASS;

  const struct sluice_steer_segment* segment =
      find_destination(&flow, (__u8)ctx->protocol, ctx->ingress_ifindex);
  if (!segment) {
    struct sluice_steer_counters* unclaimed = counters_of(SLUICE_STEER_UNCLAIMED);
    if (unclaimed) unclaimed->lookups++;
    return ours ? SK_DROP : SK_PASS;
  }
  __u32 group = segment->group;
  struct sluice_steer_counters* counters = counters_of(group);
  if (!counters) return SK_PASS;
  counters->lookups++;

  __u32 index = socket_of(&flow, segment);
  struct bpf_sock* socket = bpf_map_lookup_elem(&steer_sockets, &index);
  if (!socket) {
    /* SK_DROP would answer with RST just the same. */
    counters->no_socket++;
    return SK_PASS;
  }
  long error = bpf_sk_assign(ctx, socket, BPF_SK_LOOKUP_F_NO_REUSEPORT);
  bpf_sk_release(socket);
  if (error == 0) {
    counters->assigned++;
    invite(&flow, group);
  } else if (error == -EEXIST)
    counters->taken++;
  else
    counters->no_socket++;
  return SK_PASS;
}

#include "kernel/steer_packet.bpf.h"
#include "kernel/steer_cookie.bpf.h"
#include "kernel/steer_take.bpf.h"

char LICENSE[] SEC("license") = "GPL and additional rights";
