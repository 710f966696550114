/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* At TC, of forwarded traffic: the ACK that answers a SYN cookie. nftables marks the SYN, but nothing
 * in this node remembers it: no half-open connection, no socket, so the ACK looks like one of a
 * connection that flows past Sluice. The kernel knows its own cookies; where it does, the ACK gets the
 * SYN's mark and is delivered to the listener, which makes the connection of it. Everything else
 * passes unchanged. Part of steer.bpf.c. */

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>

#define VERDICT_NEXT -1 /* TCX_NEXT, TC_ACT_UNSPEC: other programs still run */
#define WAY_FORWARD 2   /* WayIn::forward */
#define FRAGMENT_OFFSET 0x1fff

struct cookie_packet {
  union {
    struct iphdr v4;
    struct ipv6hdr v6;
  } ip;
  struct tcphdr tcp;
};

/* False: no plain TCP segment that a handshake may end with. */
static __always_inline bool read_ack(struct __sk_buff* skb, struct cookie_packet* p,
                                     struct flow* flow) {
  __u32 offset = sizeof(p->ip.v6);
  if (skb->protocol == bpf_htons(ETH_P_IP)) {
    if (bpf_skb_load_bytes_relative(skb, 0, &p->ip.v4, sizeof(p->ip.v4), BPF_HDR_START_NET))
      return false;
    if (p->ip.v4.protocol != IPPROTO_TCP || (p->ip.v4.frag_off & bpf_htons(FRAGMENT_OFFSET)))
      return false;
    offset = p->ip.v4.ihl * 4;
    flow->remote[2] = flow->local[2] = bpf_htonl(0xffff);
    flow->remote[3] = p->ip.v4.saddr;
    flow->local[3] = p->ip.v4.daddr;
  } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
    if (bpf_skb_load_bytes_relative(skb, 0, &p->ip.v6, sizeof(p->ip.v6), BPF_HDR_START_NET))
      return false;
    if (p->ip.v6.nexthdr != IPPROTO_TCP) return false;
    __builtin_memcpy(flow->remote, &p->ip.v6.saddr, 16);
    __builtin_memcpy(flow->local, &p->ip.v6.daddr, 16);
  } else {
    return false;
  }
  if (bpf_skb_load_bytes_relative(skb, offset, &p->tcp, sizeof(p->tcp), BPF_HDR_START_NET))
    return false;
  flow->remote_port = p->tcp.source; /* as sk_lookup has it, so that the hash picks the same worker */
  flow->local_port = bpf_ntohs(p->tcp.dest);
  return p->tcp.ack && !p->tcp.syn && !p->tcp.rst;
}

SEC("tc")
int sluice_cookie(struct __sk_buff* skb) {
  struct cookie_packet p = {};
  struct flow flow = {};
  if (!read_ack(skb, &p, &flow)) return VERDICT_NEXT;

  const struct sluice_steer_segment* segment =
      find_destination(&flow, IPPROTO_TCP, skb->ifindex);
  if (!segment) return VERDICT_NEXT;
  __u32 group = segment->group;
  const struct sluice_steer_group* owner = bpf_map_lookup_elem(&steer_groups, &group);
  if (!owner || owner->way != WAY_FORWARD) return VERDICT_NEXT;
  __u32 zero = 0;
  const struct sluice_steer_mark* mark = bpf_map_lookup_elem(&steer_mark, &zero);
  if (!mark) return VERDICT_NEXT;

  __u32 index = socket_of(&flow, segment);
  struct bpf_sock* socket = bpf_map_lookup_elem(&steer_sockets, &index);
  if (!socket) return VERDICT_NEXT;
  /* Says no at once while this listener has not sent a cookie in the last two minutes. */
  __u32 size = skb->protocol == bpf_htons(ETH_P_IP) ? sizeof(p.ip.v4) : sizeof(p.ip.v6);
  long unknown = bpf_tcp_check_syncookie(socket, &p.ip, size, &p.tcp, sizeof(p.tcp));
  bpf_sk_release(socket);
  if (unknown == 0) skb->mark = (skb->mark & ~mark->mask) | mark->value;
  return VERDICT_NEXT;
}
