/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* `steering: tc`: forwarded connections are taken where they come in, before anybody sends their
 * packets past netfilter. Part of steer.bpf.c.
 *
 * What is taken gets the mark by which policy routing delivers it here, a SYN its listener's socket
 * as well, and ends the chain: the programs behind would forward it. What is not taken passes on. A
 * SYN is judged, everything else (ICMP errors, too) follows the socket that it belongs to, so that
 * what was open before flows past, and what is proxied is finished whatever becomes of the policy.
 */

#define HTTPS 443

static __always_inline bool is_own(const struct flow* flow) {
  return bpf_map_lookup_elem(&steer_own, flow->local) != 0;
}

/* The state of the connection's socket in this namespace; 0: there is none. A listener is none. */
static __always_inline int connection_state(struct __sk_buff* skb, const struct flow* flow,
                                            bool is_v4) {
  struct bpf_sock_tuple tuple = {};
  __u32 size = sizeof(tuple.ipv4);
  if (is_v4) {
    tuple.ipv4.saddr = flow->remote[3];
    tuple.ipv4.daddr = flow->local[3];
    tuple.ipv4.sport = flow->remote_port;
    tuple.ipv4.dport = bpf_htons(flow->local_port);
  } else {
    size = sizeof(tuple.ipv6);
    __builtin_memcpy(tuple.ipv6.saddr, flow->remote, 16);
    __builtin_memcpy(tuple.ipv6.daddr, flow->local, 16);
    tuple.ipv6.sport = flow->remote_port;
    tuple.ipv6.dport = bpf_htons(flow->local_port);
  }
  struct bpf_sock* socket = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
  if (!socket) return 0;
  int state = socket->state;
  bpf_sk_release(socket);
  return state == BPF_TCP_LISTEN ? 0 : state;
}

/* Whether somebody serves what the segment's entry catches. */
static __always_inline bool is_held(const struct sluice_steer_exit* exit) {
  return bpf_ktime_get_ns() < *(volatile const __u64*)&exit->until;
}

static __always_inline const struct sluice_steer_exit* exit_of(
    const struct sluice_steer_segment* segment) {
  __u32 index = segment->exit;
  return bpf_map_lookup_elem(&steer_exits, &index);
}

/* HTTP/3 would pass by an entry that catches port 443. */
static __always_inline int judge_quic(struct __sk_buff* skb, const struct flow* flow) {
  if (flow->local_port != HTTPS) return VERDICT_NEXT;
  const struct sluice_steer_segment* segment = find_forward(flow, skb->ifindex);
  const struct sluice_steer_exit* exit = segment ? exit_of(segment) : 0;
  if (!exit || !exit->block_quic) return VERDICT_NEXT;
  return exit->closed || is_held(exit) ? TC_ACT_SHOT : VERDICT_NEXT;
}

static __always_inline int take(struct __sk_buff* skb, const struct sluice_steer_mark* mark) {
  set_transit_mark(skb, mark);
  return TC_ACT_OK;
}

/* `waits`: the connection before at these ports is in TIME_WAIT, where the kernel itself asks for
 * the listener (sk_lookup answers), and a socket given here would be in its way. */
static __always_inline int judge_syn(struct __sk_buff* skb, const struct flow* flow,
                                     const struct sluice_steer_mark* mark, bool waits) {
  const struct sluice_steer_segment* segment = find_forward(flow, skb->ifindex);
  if (!segment) return VERDICT_NEXT;
  const struct sluice_steer_exit* exit = exit_of(segment);
  struct sluice_steer_counters* counters = counters_of(segment->group);
  if (!exit || !counters) return VERDICT_NEXT;
  counters->arrived++;
  int without = exit->closed ? TC_ACT_SHOT : VERDICT_NEXT;
  if (!is_held(exit)) {
    counters->lapsed++;
    return without;
  }
  __u32 index = socket_of(flow, segment);
  struct bpf_sock* socket = bpf_map_lookup_elem(&steer_sockets, &index);
  if (!socket) {
    counters->no_socket++;
    return without;
  }
  /* Kernels before 6.6 refuse sockets of SO_REUSEPORT: there sk_lookup gives the packet its socket,
   * and counts it. */
  if (!waits && bpf_sk_assign(skb, socket, 0) == 0) {
    counters->lookups++;
    counters->assigned++;
  }
  bpf_sk_release(socket);
  return take(skb, mark);
}

/* Errors about what is proxied are sent to the address that we speak for. */
static __always_inline int take_icmp_error(struct __sk_buff* skb, const struct transit_packet* p,
                                           const struct sluice_steer_mark* mark) {
  struct flow flow = {};
  if (!read_icmp_error(skb, p, &flow) || is_own(&flow)) return VERDICT_NEXT;
  return connection_state(skb, &flow, p->is_v4) != 0 ? take(skb, mark) : VERDICT_NEXT;
}

SEC("tc")
int sluice_take(struct __sk_buff* skb) {
  struct transit_packet p = {};
  struct flow flow = {};
  const struct sluice_steer_mark* mark = transit_mark();
  if (!mark) return VERDICT_NEXT;
  if (!read_transit(skb, &p, &flow)) return take_icmp_error(skb, &p, mark);
  if (is_own(&flow)) return VERDICT_NEXT;
  if (p.protocol == IPPROTO_UDP) return mark->judges ? judge_quic(skb, &flow) : VERDICT_NEXT;

  bool opens = opens_connection(&p);
  int state = connection_state(skb, &flow, p.is_v4);
  bool waits = state == BPF_TCP_TIME_WAIT;
  if (state != 0 && !(opens && waits)) return take(skb, mark);
  if (opens) return mark->judges ? judge_syn(skb, &flow, mark, waits) : VERDICT_NEXT;

  if (!may_answer_cookie(&p)) return VERDICT_NEXT;
  const struct sluice_steer_segment* segment = find_forward(&flow, skb->ifindex);
  return segment && answers_cookie(&p, &flow, segment) ? take(skb, mark) : VERDICT_NEXT;
}
