/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Packets of forwarded connections as the programs at TC see them, and the entry that claims them.
 * Part of steer.bpf.c. */

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>

#define VERDICT_NEXT -1 /* TCX_NEXT, TC_ACT_UNSPEC: other programs still run */
#define WAY_FORWARD 2   /* WayIn::forward */
#define FRAGMENT 0x3fff /* more of them, or not the first: ports are not in each */
#define FRAGMENT_OFFSET 0x1fff
#define ICMP_HEADER 8 /* of both versions' errors; what they are about follows */
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMPV6_INFORMATION 128 /* from here on; types below are errors */

struct transit_packet {
  union {
    struct iphdr v4;
    struct ipv6hdr v6;
  } ip;
  struct tcphdr tcp; /* of UDP, the ports alone */
  bool is_v4;
  __u8 protocol;
};

/* False: neither a whole TCP segment nor UDP, or behind extension headers. The flow's ports are as
 * sk_lookup has them, so that the hash picks the same worker. */
static __always_inline bool read_transit(struct __sk_buff* skb, struct transit_packet* p,
                                         struct flow* flow) {
  __u32 offset = sizeof(p->ip.v6);
  if (skb->protocol == bpf_htons(ETH_P_IP)) {
    if (bpf_skb_load_bytes_relative(skb, 0, &p->ip.v4, sizeof(p->ip.v4), BPF_HDR_START_NET))
      return false;
    if (p->ip.v4.frag_off & bpf_htons(FRAGMENT)) return false;
    offset = p->ip.v4.ihl * 4;
    p->is_v4 = true;
    p->protocol = p->ip.v4.protocol;
    flow->remote[2] = flow->local[2] = bpf_htonl(0xffff);
    flow->remote[3] = p->ip.v4.saddr;
    flow->local[3] = p->ip.v4.daddr;
  } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
    if (bpf_skb_load_bytes_relative(skb, 0, &p->ip.v6, sizeof(p->ip.v6), BPF_HDR_START_NET))
      return false;
    p->protocol = p->ip.v6.nexthdr;
    __builtin_memcpy(flow->remote, &p->ip.v6.saddr, 16);
    __builtin_memcpy(flow->local, &p->ip.v6.daddr, 16);
  } else {
    return false;
  }
  if (p->protocol == IPPROTO_TCP) {
    if (bpf_skb_load_bytes_relative(skb, offset, &p->tcp, sizeof(p->tcp), BPF_HDR_START_NET))
      return false;
  } else if (p->protocol == IPPROTO_UDP) {
    if (bpf_skb_load_bytes_relative(skb, offset, &p->tcp, 4, BPF_HDR_START_NET)) return false;
  } else {
    return false;
  }
  flow->remote_port = p->tcp.source;
  flow->local_port = bpf_ntohs(p->tcp.dest);
  return true;
}

/* Of an ICMP error: the flow of the packet of TCP that it quotes, which went the other way, as that
 * connection's packets come in. `p`: as read_transit() has left it. */
static __always_inline bool read_icmp_error(struct __sk_buff* skb, const struct transit_packet* p,
                                            struct flow* flow) {
  __u32 at = p->is_v4 ? p->ip.v4.ihl * 4 : sizeof(p->ip.v6);
  __u32 length = sizeof(struct ipv6hdr);
  __be16 ports[2];
  __u8 type, protocol;
  if (p->protocol != (p->is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) return false;
  if (bpf_skb_load_bytes_relative(skb, at, &type, sizeof(type), BPF_HDR_START_NET)) return false;
  at += ICMP_HEADER;
  if (p->is_v4) {
    struct iphdr ip;
    if (type != ICMP_UNREACHABLE && type != ICMP_TIME_EXCEEDED) return false;
    if (bpf_skb_load_bytes_relative(skb, at, &ip, sizeof(ip), BPF_HDR_START_NET)) return false;
    if (ip.frag_off & bpf_htons(FRAGMENT_OFFSET)) return false;
    length = ip.ihl * 4;
    protocol = ip.protocol;
    flow->remote[2] = flow->local[2] = bpf_htonl(0xffff);
    flow->remote[3] = ip.daddr;
    flow->local[3] = ip.saddr;
  } else {
    struct ipv6hdr ip;
    if (type >= ICMPV6_INFORMATION) return false;
    if (bpf_skb_load_bytes_relative(skb, at, &ip, sizeof(ip), BPF_HDR_START_NET)) return false;
    protocol = ip.nexthdr;
    __builtin_memcpy(flow->remote, &ip.daddr, 16);
    __builtin_memcpy(flow->local, &ip.saddr, 16);
  }
  if (protocol != IPPROTO_TCP ||
      bpf_skb_load_bytes_relative(skb, at + length, ports, sizeof(ports), BPF_HDR_START_NET))
    return false;
  flow->remote_port = ports[1];
  flow->local_port = bpf_ntohs(ports[0]);
  return true;
}

static __always_inline bool opens_connection(const struct transit_packet* p) {
  return p->tcp.syn && !p->tcp.ack;
}

/* An ACK that a handshake may end with. */
static __always_inline bool may_answer_cookie(const struct transit_packet* p) {
  return p->tcp.ack && !p->tcp.syn && !p->tcp.rst;
}

/* The entry of way `forward` that claims the flow. */
static __always_inline const struct sluice_steer_segment* find_forward(const struct flow* flow,
                                                                       __u32 ifindex) {
  const struct sluice_steer_segment* segment = find_destination(flow, IPPROTO_TCP, ifindex);
  if (!segment) return 0;
  __u32 group = segment->group;
  const struct sluice_steer_group* owner = bpf_map_lookup_elem(&steer_groups, &group);
  return owner && owner->way == WAY_FORWARD ? segment : 0;
}

static __always_inline const struct sluice_steer_mark* transit_mark(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&steer_mark, &zero);
}

static __always_inline void set_transit_mark(struct __sk_buff* skb,
                                             const struct sluice_steer_mark* mark) {
  skb->mark = (skb->mark & ~mark->mask) | mark->value;
}

/* Whether the listener has sent the SYN cookie that this ACK answers. The kernel says no at once
 * while it has sent none in the last two minutes. */
static __always_inline bool answers_cookie(struct transit_packet* p, const struct flow* flow,
                                           const struct sluice_steer_segment* segment) {
  __u32 index = socket_of(flow, segment);
  struct bpf_sock* socket = bpf_map_lookup_elem(&steer_sockets, &index);
  if (!socket) return false;
  __u32 size = p->is_v4 ? sizeof(p->ip.v4) : sizeof(p->ip.v6);
  long unknown = bpf_tcp_check_syncookie(socket, &p->ip, size, &p->tcp, sizeof(p->tcp));
  bpf_sk_release(socket);
  return unknown == 0;
}
