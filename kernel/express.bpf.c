// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The express lane. Both ends of a connection enter when it is established, before its first byte:
// who connected makes an offer, which the other end finds by addresses, ports and sequence numbers.
// From then on what one end sends is put into the other's queue of messages (sockmap), which
// recvmsg(2) empties before it looks at what came by TCP.
//
// So a direction may leave the lane for TCP once and never come back: what was handed over is read
// first. Nothing holds a sender back in the lane, and nobody can tell what was read of it: a
// direction leaves when it has handed over much without a word from the other one. A reader that
// takes a short read, or FIONREAD, for all there is may miss what came by TCP meanwhile; so the
// gateway, which copes with both, sees to it that its own directions do not get there
// (gateway/express.h).
//
// A verdict of SK_DROP is never given: the kernel would repeat it for ever.
// clang-format off: libbpf's headers need linux/bpf.h before them.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#include "kernel/abi_express.h"

#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_MARK 36
/* RFC 8446 5.1 and 4: a record's type, the version's bytes, behind the length a handshake's type */
#define TLS_HANDSHAKE 0x16
#define TLS_MAJOR 3
#define TLS_LAST_MINOR 4
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2

/* Of the kernel's own, what is read here; libbpf finds where it is (CO-RE). */
typedef struct {
  int counter;
} atomic_t;
struct sock {
  struct {
    atomic_t rmem_alloc;
  } sk_backlog;
} __attribute__((preserve_access_index));
struct tcp_sock {
  __u32 write_seq;
} __attribute__((preserve_access_index));

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct sluice_express_state);
} express_state SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, 2 * SLUICE_EXPRESS_MAX_FLOWS);
  __uint(key_size, sizeof(struct sluice_express_end));
  __uint(value_size, sizeof(__u64));
} express_sockets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct sluice_express_end);
} express_ends SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SLUICE_EXPRESS_MAX_FLOWS);
  __type(key, __u64);
  __type(value, struct sluice_express_flow);
} express_flows SEC(".maps");

/* The flow that waits for its other end. An end that never comes is pushed out. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, SLUICE_EXPRESS_MAX_OFFERS);
  __type(key, struct sluice_express_offer);
  __type(value, __u64);
} express_offers SEC(".maps");

/* Clients whose SYN the steering program leads to a listener with `express: both`, as the client
 * sees its connection. Shared with steer.bpf.c. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, SLUICE_EXPRESS_MAX_OFFERS);
  __type(key, struct sluice_express_ends);
  __type(value, __u32);
} express_guests SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1024);
  __type(key, struct sluice_express_service);
  __type(value, __u32);
} express_binds SEC(".maps");

/* 1: some listener with `express: both` is bound to that port. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, __u8);
} express_ports SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SLUICE_EXPRESS_RECENT);
  __type(key, __u32);
  __type(value, __u64);
} express_recent SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct sluice_express_counters);
} express_counts SEC(".maps");

static __always_inline struct sluice_express_counters* counters_of(__u32 gateway) {
  __u32 kind = gateway & 1;
  return bpf_map_lookup_elem(&express_counts, &kind);
}

static __always_inline void load_ends(const struct bpf_sock_ops* ops,
                                      struct sluice_express_ends* ends) {
  if (ops->family == AF_INET) {
    ends->local[2] = ends->remote[2] = bpf_htonl(0xffff);
    __u32 local = ops->local_ip4;
    __u32 remote = ops->remote_ip4;
    /* Else clang merges both branches into one load from a computed context pointer. */
    asm volatile("" : "+r"(local), "+r"(remote));
    ends->local[3] = local;
    ends->remote[3] = remote;
  } else {
    ends->local[0] = ops->local_ip6[0];
    ends->local[1] = ops->local_ip6[1];
    ends->local[2] = ops->local_ip6[2];
    ends->local[3] = ops->local_ip6[3];
    ends->remote[0] = ops->remote_ip6[0];
    ends->remote[1] = ops->remote_ip6[1];
    ends->remote[2] = ops->remote_ip6[2];
    ends->remote[3] = ops->remote_ip6[3];
  }
  ends->local_port = (__u16)ops->local_port;
  ends->remote_port = (__u16)bpf_ntohl(ops->remote_port);
}

static __always_inline void swap_ends(struct sluice_express_ends* ends) {
  struct sluice_express_ends seen = *ends;
  __builtin_memcpy(ends->local, seen.remote, 16);
  __builtin_memcpy(ends->remote, seen.local, 16);
  ends->local_port = seen.remote_port;
  ends->remote_port = seen.local_port;
}

/* A connection that the gateway opened, and wants in the lane. */
static __always_inline int gateways_own(struct bpf_sock_ops* ops,
                                        const struct sluice_express_state* state) {
  if (!(state->admits & SLUICE_EXPRESS_UPSTREAMS) || bpf_get_netns_cookie(ops) != state->netns)
    return 0;
  int value = 0;
  if (state->mask != 0 &&
      (bpf_getsockopt(ops, SOL_SOCKET, SO_MARK, &value, sizeof(value)) != 0 ||
       ((__u32)value & state->mask) != state->mark))
    return 0;
  return bpf_getsockopt(ops, IPPROTO_TCP, TCP_SAVE_SYN, &value, sizeof(value)) == 0 &&
         value == SLUICE_EXPRESS_SIGN;
}

static __always_inline int is_ipv4(const __u32* address) {
  return address[0] == 0 && address[1] == 0 && address[2] == bpf_htonl(0xffff);
}

static __always_inline int is_loopback(const __u32* address) {
  if (address[0] != 0 || address[1] != 0) return 0;
  return address[2] == 0 ? address[3] == bpf_htonl(1)
                         : (address[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

static __always_inline int is_same(const __u32* one, const __u32* other) {
  return one[0] == other[0] && one[1] == other[1] && one[2] == other[2] && one[3] == other[3];
}

/* The same address and port may be somebody else's in another network namespace. And a listener on
 * all addresses says only the port: that an address is this host's is seen by who connects from
 * it. */
static __always_inline int bound_there(struct bpf_sock_ops* ops,
                                       const struct sluice_express_ends* ends,
                                       const struct sluice_express_state* state) {
  __u32 port = ends->remote_port;
  const __u8* known = bpf_map_lookup_elem(&express_ports, &port);
  if (!known || !*known) return 0;
  const int at_home = bpf_get_netns_cookie(ops) == state->netns;
  const int loopback = is_loopback(ends->remote);
  struct sluice_express_service service = {.port = ends->remote_port};
  if (is_ipv4(ends->remote)) service.address[2] = bpf_htonl(0xffff);
  if (at_home && (loopback || is_same(ends->local, ends->remote)) &&
      bpf_map_lookup_elem(&express_binds, &service))
    return 1;
  __builtin_memcpy(service.address, ends->remote, 16);
  return (at_home || !loopback) && bpf_map_lookup_elem(&express_binds, &service) != 0;
}

/* A connection of a client to a listener of the gateway, as far as the client's end can tell. */
static __always_inline int invited(struct bpf_sock_ops* ops, const struct sluice_express_ends* ends,
                                   const struct sluice_express_state* state) {
  if ((state->admits & SLUICE_EXPRESS_GUESTS) && bpf_map_lookup_elem(&express_guests, ends)) {
    bpf_map_delete_elem(&express_guests, ends);
    return 1;
  }
  return (state->admits & SLUICE_EXPRESS_BINDS) && bound_there(ops, ends, state);
}

/* Who takes a client's offer must be a socket of the gateway. */
static __always_inline int may_take(struct bpf_sock_ops* ops,
                                    const struct sluice_express_flow* flow) {
  if (flow->gateway == SLUICE_EXPRESS_ACTIVE) return 1;
  __u32 zero = 0;
  const struct sluice_express_state* state = bpf_map_lookup_elem(&express_state, &zero);
  return state && bpf_get_netns_cookie(ops) == state->netns;
}

/* By the ports alone, alike from both ends. */
static __always_inline __u64* recent_offer(const struct bpf_sock_ops* ops) {
  __u32 at = ((__u16)ops->local_port ^ (__u16)bpf_ntohl(ops->remote_port)) % SLUICE_EXPRESS_RECENT;
  return bpf_map_lookup_elem(&express_recent, &at);
}

/* False: not taken, and nothing is left behind. */
static __always_inline int enter(struct bpf_sock_ops* ops, struct sluice_express_end* end) {
  struct bpf_sock* socket = ops->sk;
  if (!socket) return 0;
  if (!bpf_sk_storage_get(&express_ends, socket, end, BPF_SK_STORAGE_GET_F_CREATE)) return 0;
  if (bpf_sock_hash_update(ops, &express_sockets, end, BPF_NOEXIST) != 0) {
    bpf_sk_storage_delete(&express_ends, socket);
    return 0;
  }
  bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
  return 1;
}

static __always_inline void make_offer(struct bpf_sock_ops* ops) {
  __u32 zero = 0;
  const struct sluice_express_state* state = bpf_map_lookup_elem(&express_state, &zero);
  if (!state || !state->admits) return;
  struct sluice_express_offer offer = {.sent = ops->snd_nxt, .received = ops->rcv_nxt};
  load_ends(ops, &offer.ends);
  struct sluice_express_flow flow = {};
  if (gateways_own(ops, state))
    flow.gateway = SLUICE_EXPRESS_ACTIVE;
  else if (invited(ops, &offer.ends, state))
    flow.gateway = SLUICE_EXPRESS_PASSIVE;
  else
    return;
  flow.ends = offer.ends;
  flow.from[0].allowed = flow.from[1].allowed = SLUICE_EXPRESS_BURST_BYTES;
  flow.from[SLUICE_EXPRESS_ACTIVE].start = offer.sent;
  flow.from[SLUICE_EXPRESS_PASSIVE].start = offer.received;
  struct sluice_express_end end = {.flow = bpf_get_socket_cookie(ops),
                                   .side = SLUICE_EXPRESS_ACTIVE};
  if (bpf_map_update_elem(&express_flows, &end.flow, &flow, BPF_NOEXIST) == 0) {
    if (enter(ops, &end)) {
      __u64* recent = recent_offer(ops);
      if (recent) *recent = bpf_ktime_get_ns();
      bpf_map_update_elem(&express_offers, &offer, &end.flow, BPF_ANY);
      return;
    }
    bpf_map_delete_elem(&express_flows, &end.flow);
  }
  struct sluice_express_counters* counters = counters_of(flow.gateway);
  if (counters) counters->refused++;
}

static __always_inline void take_offer(struct bpf_sock_ops* ops) {
  const __u64* recent = recent_offer(ops);
  if (!recent || !*recent || bpf_ktime_get_ns() - *recent > SLUICE_EXPRESS_RECENT_NS) return;
  struct sluice_express_offer offer = {.sent = ops->rcv_nxt, .received = ops->snd_nxt};
  load_ends(ops, &offer.ends);
  swap_ends(&offer.ends);
  const __u64* found = bpf_map_lookup_elem(&express_offers, &offer);
  if (!found) return;
  struct sluice_express_end end = {.flow = *found, .side = SLUICE_EXPRESS_PASSIVE};
  bpf_map_delete_elem(&express_offers, &offer);
  struct sluice_express_flow* flow = bpf_map_lookup_elem(&express_flows, &end.flow);
  if (!flow || !may_take(ops, flow)) return;
  struct sluice_express_counters* counters = counters_of(flow->gateway);
  if (!counters) return;
  if (!enter(ops, &end)) {
    counters->refused++;
    return;
  }
  /* Unless the other end is gone already. */
  if (__sync_val_compare_and_swap(&flow->joined, SLUICE_EXPRESS_APART, SLUICE_EXPRESS_JOINED) ==
      SLUICE_EXPRESS_APART)
    counters->entered++;
}

static __always_inline void end_of(struct bpf_sock_ops* ops) {
  struct bpf_sock* socket = ops->sk;
  if (!socket) return;
  const struct sluice_express_end* end = bpf_sk_storage_get(&express_ends, socket, 0, 0);
  if (!end) return;
  __u64 id = end->flow;
  struct sluice_express_flow* flow = bpf_map_lookup_elem(&express_flows, &id);
  if (!flow) return;
  struct sluice_express_counters* counters = counters_of(flow->gateway);
  __u32 was = __sync_lock_test_and_set(&flow->joined, SLUICE_EXPRESS_ENDED);
  if (was == SLUICE_EXPRESS_JOINED && counters) counters->ended++;
  bpf_map_delete_elem(&express_flows, &id);
}

SEC("sockops")
int sluice_express_enter(struct bpf_sock_ops* ops) {
  switch (ops->op) {
    case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
      make_offer(ops);
      break;
    case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
      take_offer(ops);
      break;
    case BPF_SOCK_OPS_STATE_CB:
      if (ops->args[1] == BPF_TCP_CLOSE) end_of(ops);
      break;
  }
  return 1;
}

/* A hello: kTLS comes after one at the earliest. */
static __always_inline int begins_like_tls(const struct sk_msg_md* msg) {
  const __u8* data = msg->data;
  const __u8* end = msg->data_end;
  if (data + 6 > end || data[0] != TLS_HANDSHAKE || data[1] != TLS_MAJOR) return 0;
  return data[2] <= TLS_LAST_MINOR && (data[5] == TLS_CLIENT_HELLO || data[5] == TLS_SERVER_HELLO);
}

/* What `speaker` has not read, as the kernel accounts for it: by either way, in truesize. */
static __always_inline int reads_along(const struct tcp_sock* speaker) {
  const struct sock* socket = (const struct sock*)speaker;
  return socket->sk_backlog.rmem_alloc.counter < SLUICE_EXPRESS_BURST_BYTES;
}

/* A send that began before the connection stood goes on by TCP, past this program: what the lane
 * then brought would be read before it. */
static __always_inline int begun_by_tcp(const struct tcp_sock* speaker,
                                        const struct sluice_express_direction* direction) {
  return speaker->write_seq != direction->start;
}

/* What goes by TCP speaks too. */
static __always_inline int by_tcp(const struct sluice_express_flow* flow,
                                  struct sluice_express_direction* direction,
                                  struct sluice_express_counters* counters, int from_gateway,
                                  __u32 size) {
  direction->tcp += size;
  if (!flow->joined) return SK_PASS;
  if (from_gateway)
    counters->tcp_from_gateway += size;
  else
    counters->tcp_to_gateway += size;
  return SK_PASS;
}

SEC("sk_msg")
int sluice_express_send(struct sk_msg_md* msg) {
  struct bpf_sock* socket = msg->sk;
  if (!socket) return SK_PASS;
  const struct sluice_express_end* own = bpf_sk_storage_get(&express_ends, socket, 0, 0);
  if (!own) return SK_PASS;
  struct sluice_express_end other = {.flow = own->flow, .side = !own->side};
  struct sluice_express_flow* flow = bpf_map_lookup_elem(&express_flows, &other.flow);
  if (!flow) return SK_PASS;
  struct sluice_express_counters* counters = counters_of(flow->gateway);
  if (!counters) return SK_PASS;
  struct sluice_express_direction* direction = other.side ? &flow->from[0] : &flow->from[1];
  struct sluice_express_direction* answers = other.side ? &flow->from[1] : &flow->from[0];
  const int from_gateway = flow->gateway == !other.side;
  const __u32 size = msg->size;
  __u32 leaves = 0;
  const struct tcp_sock* speaker = bpf_skc_to_tcp_sock(socket);
  if (!speaker) return SK_PASS;
  /* A word of who does not read what it was sent says nothing: such a writer would fill the
   * kernel's memory with answers. */
  if (reads_along(speaker)) answers->allowed = answers->sent + SLUICE_EXPRESS_BURST_BYTES;
  if (direction->left) return by_tcp(flow, direction, counters, from_gateway, size);
  if (!flow->joined || begun_by_tcp(speaker, direction)) {
    leaves = SLUICE_EXPRESS_REMOTE;
  } else if (answers->left == SLUICE_EXPRESS_REMOTE || answers->left == SLUICE_EXPRESS_TLS) {
    /* Whose peer's first bytes come by TCP takes itself for a connection outside the lane. */
    leaves = answers->left;
  } else if (begins_like_tls(msg)) {
    leaves = SLUICE_EXPRESS_TLS;
  } else if (from_gateway && socket->priority == SLUICE_EXPRESS_LEAVES) {
    leaves = SLUICE_EXPRESS_ASKED;
  } else if (direction->sent >= *(volatile __u64*)&direction->allowed) {
    leaves = SLUICE_EXPRESS_BURST;
  } else if (bpf_msg_redirect_hash(msg, &express_sockets, &other, BPF_F_INGRESS) == SK_PASS) {
    direction->sent += size;
    if (from_gateway)
      counters->from_gateway += size;
    else
      counters->to_gateway += size;
    return SK_PASS;
  } else {
    leaves = SLUICE_EXPRESS_GONE;
  }
  direction->left = leaves;
  asm volatile("" : "+r"(leaves)); /* else clang knows that it fits, and the verifier does not */
  if (leaves < SLUICE_EXPRESS_LEFT_REASONS) counters->left[leaves]++;
  return by_tcp(flow, direction, counters, from_gateway, size);
}

char LICENSE[] SEC("license") = "GPL and additional rights";
