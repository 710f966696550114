/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A frame, looked through to addresses, protocol and ports. Reads by helper, relative to the
 * network header: the same for interfaces with and without a link layer, for linear and paged
 * buffers, and no pointer arithmetic to prove. `xdp` is a constant where it is called: the frame is
 * an xdp_md, and begins with an Ethernet header. Nothing here decides. */
#ifndef SLUICE_KERNEL_PACKET_BPF_H
#define SLUICE_KERNEL_PACKET_BPF_H

// clang-format off: the kernel's types come before the helpers that use them
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
// clang-format on

#include "kernel/abi_guard.h"

#define PACKET_MAX_VLAN_TAGS 2
#define PACKET_IP_OFFSET 0x1fff
#define TCP_FLAGS_OFFSET 13
#define TCP_SYN 0x02
#define TCP_ACK 0x10

#define PROTOCOL_HOPOPTS 0
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_AH 51
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_DSTOPTS 60
#define PROTOCOL_DCCP 33
#define PROTOCOL_SCTP 132
#define PROTOCOL_MOBILITY 135
#define PROTOCOL_UDPLITE 136
#define PROTOCOL_HIP 139
#define PROTOCOL_SHIM6 140

enum packet_parts {
  PACKET_HAS_PORTS = 1 << 0,
  PACKET_HAS_ICMP_TYPE = 1 << 1,
  PACKET_LATER_FRAGMENT = 1 << 2,
  PACKET_TOO_MANY_EXTENSIONS = 1 << 3,
  PACKET_TRUNCATED = 1 << 4,
  PACKET_IS_SYN = 1 << 5, /* TCP, SYN without ACK; looked at only when it is asked for */
};

struct packet {
  __be64 from[2]; /* IPv4 as ::ffff:a.b.c.d */
  __be64 to[2];
  __u32 segments;
  __u32 bytes;
  __u16 from_port; /* host order */
  __u16 to_port;
  __u16 protocol; /* or SLUICE_GUARD_NO_PROTOCOL */
  __u8 version;   /* 4 or 6 */
  __u8 parts;
  __u8 icmp_type;
  __u8 egress; /* the peer is the destination */
  __u8 wants_syn;
  __u16 transport; /* where its header begins, from the network header; with PACKET_HAS_PORTS */
};

enum packet_verdict { PACKET_OK = 0, PACKET_NOT_IP = 1, PACKET_MALFORMED = 2 };

/* The stretch of the packet that its own length field owns; padding behind it is not the packet. */
struct packet_cursor {
  __u32 offset; /* from the network header */
  __u32 left;   /* bytes from there to the end that the header states */
};

static __always_inline int packet_load(void* ctx, const bool xdp, __u32 offset, void* to,
                                       const __u32 length) {
  if (xdp) return bpf_xdp_load_bytes(ctx, ETH_HLEN + offset, to, length) ? -1 : 0;
  struct __sk_buff* skb = ctx;
  if (bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET) == 0) return 0;
  /* Either the packet ends before, or these bytes lie in a page: bring them in, and ask again. */
  __u32 all = skb->len;
  if (offset + length > all) return -1;
  __u32 want = offset + length + ETH_HLEN;
  if (bpf_skb_pull_data(skb, want < all ? want : all)) return -1;
  return bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET) ? -1 : 0;
}

/* For what need not be there: no second try. */
static __always_inline bool packet_load_at_once(void* ctx, const bool xdp, __u32 offset, void* to,
                                                const __u32 length) {
  if (xdp) return bpf_xdp_load_bytes(ctx, ETH_HLEN + offset, to, length) == 0;
  return bpf_skb_load_bytes_relative(ctx, offset, to, length, BPF_HDR_START_NET) == 0;
}

static __always_inline bool packet_is_vlan(__be16 type) {
  return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* What comes in has its network header at the first tag in the frame. What goes out may have got it
 * before its tags, and then it is behind them; a header's length of the same bytes tells. */
static __always_inline bool packet_network_is_behind(void* ctx, __u32 tags) {
  struct iphdr behind = {}, there = {};
  if (bpf_skb_load_bytes(ctx, ETH_HLEN + tags, &behind, sizeof(behind)) ||
      packet_load(ctx, false, 0, &there, sizeof(there)))
    return false;
  const __u32 *a = (const __u32*)&behind, *b = (const __u32*)&there;
  return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]));
}

/* One tag may be in the buffer's metadata (offload, or the stack took it out), others in the frame.
 */
static __always_inline __be16 packet_network_type(void* ctx, const bool xdp, bool egress,
                                                  __u32* offset) {
  __be16 type = 0;
  int tags = 0;
  if (xdp) {
    if (bpf_xdp_load_bytes(ctx, offsetof(struct ethhdr, h_proto), &type, sizeof(type))) return 0;
  } else {
    type = (__be16)((struct __sk_buff*)ctx)->protocol;
    tags = ((struct __sk_buff*)ctx)->vlan_present ? 1 : 0;
  }
  for (int i = 0; i < PACKET_MAX_VLAN_TAGS; i++) {
    struct {
      __be16 control;
      __be16 type;
    } tag;
    if (!packet_is_vlan(type) || tags >= PACKET_MAX_VLAN_TAGS) break;
    if (egress ? bpf_skb_load_bytes(ctx, ETH_HLEN + *offset, &tag, sizeof(tag))
               : packet_load(ctx, xdp, *offset, &tag, sizeof(tag)))
      return 0;
    *offset += sizeof(tag);
    type = tag.type;
    tags++;
  }
  if (egress && *offset && packet_network_is_behind(ctx, *offset)) *offset = 0;
  return type;
}

static __always_inline bool packet_protocol_has_ports(__u16 protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == PROTOCOL_SCTP ||
         protocol == PROTOCOL_DCCP || protocol == PROTOCOL_UDPLITE;
}

static __always_inline void packet_look_for_syn(void* ctx, const bool xdp, struct packet* p,
                                                const struct packet_cursor* at) {
  __u8 flags = 0;
  /* Ports and no flags: those are in a later fragment, of which nobody sees them (RFC 1858). Only
   * who hides a SYN sends such. */
  if (at->left <= TCP_FLAGS_OFFSET ||
      packet_load(ctx, xdp, at->offset + TCP_FLAGS_OFFSET, &flags, sizeof(flags)))
    flags = TCP_SYN;
  if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) p->parts |= PACKET_IS_SYN;
}

/* `early`: the four bytes at the cursor, where they are at hand already. */
static __always_inline void packet_transport(void* ctx, const bool xdp, struct packet* p,
                                             const struct packet_cursor* at, const __be16* early) {
  __be16 ports[2];
  if (packet_protocol_has_ports(p->protocol)) {
    if (at->left < sizeof(ports)) {
      p->parts |= PACKET_TRUNCATED;
      return;
    }
    if (early) {
      ports[0] = early[0];
      ports[1] = early[1];
    } else if (packet_load(ctx, xdp, at->offset, ports, sizeof(ports))) {
      p->parts |= PACKET_TRUNCATED;
      return;
    }
    p->from_port = bpf_ntohs(ports[0]);
    p->to_port = bpf_ntohs(ports[1]);
    p->parts |= PACKET_HAS_PORTS;
    p->transport = at->offset;
    if (p->wants_syn && p->protocol == IPPROTO_TCP) packet_look_for_syn(ctx, xdp, p, at);
  } else if (p->protocol == (p->version == 4 ? IPPROTO_ICMP : PROTOCOL_ICMPV6)) {
    if (at->left < 1 || packet_load(ctx, xdp, at->offset, &p->icmp_type, 1))
      p->parts |= PACKET_TRUNCATED;
    else
      p->parts |= PACKET_HAS_ICMP_TYPE;
  }
}

static __always_inline int packet_parse_v4(void* ctx, const bool xdp, __u32 offset,
                                           struct packet* p) {
  struct {
    struct iphdr ip;
    __be16 ports[2];
  } head;
  bool early = packet_load_at_once(ctx, xdp, offset, &head, sizeof(head));
  if (!early && packet_load(ctx, xdp, offset, &head.ip, sizeof(head.ip))) return PACKET_MALFORMED;
  if (head.ip.version != 4 || head.ip.ihl < 5) return PACKET_MALFORMED;
  __u32 total = bpf_ntohs(head.ip.tot_len);
  if (total == 0 && p->bytes > 0xffff)
    total = 0xffffffff; /* BIG TCP: longer than the field can say */
  if (total < sizeof(head.ip)) return PACKET_MALFORMED;

  /* ::ffff:a.b.c.d by 32-bit stores: the second half of the key is one word of the header each. */
  p->version = 4;
  p->from[0] = 0;
  p->from[1] = bpf_cpu_to_be64(0x0000ffff00000000ULL | bpf_ntohl(head.ip.saddr));
  p->to[0] = 0;
  p->to[1] = bpf_cpu_to_be64(0x0000ffff00000000ULL | bpf_ntohl(head.ip.daddr));
  p->protocol = head.ip.protocol;
  if (head.ip.frag_off & bpf_htons(PACKET_IP_OFFSET)) {
    p->parts |= PACKET_LATER_FRAGMENT;
    return PACKET_OK;
  }
  __u32 length = head.ip.ihl * 4;
  struct packet_cursor at = {.offset = offset + length,
                             .left = total > length ? total - length : 0};
  packet_transport(ctx, xdp, p, &at, early && length == sizeof(head.ip) ? head.ports : 0);
  return PACKET_OK;
}

static __always_inline bool packet_is_extension(__u8 next) {
  return next == PROTOCOL_HOPOPTS || next == PROTOCOL_ROUTING || next == PROTOCOL_FRAGMENT ||
         next == PROTOCOL_DSTOPTS || next == PROTOCOL_AH || next == PROTOCOL_MOBILITY ||
         next == PROTOCOL_HIP || next == PROTOCOL_SHIM6;
}

/* Steps over one extension header. Returns false when the walk ends: truncated, or a later
 * fragment. */
static __always_inline bool packet_step(void* ctx, const bool xdp, struct packet* p,
                                        struct packet_cursor* at, __u8* next) {
  struct {
    __u8 next;
    __u8 length;
    __be16 fragment;
  } head;
  __u32 size = 8;
  if (at->left < 8 || packet_load(ctx, xdp, at->offset, &head, sizeof(head))) {
    p->parts |= PACKET_TRUNCATED;
    return false;
  }
  if (*next == PROTOCOL_FRAGMENT) {
    if (head.fragment & bpf_htons(0xfff8)) {
      p->parts |= PACKET_LATER_FRAGMENT;
      p->protocol = head.next;
      return false;
    }
  } else if (*next == PROTOCOL_AH) {
    size = (head.length + 2) * 4; /* RFC 4302: in words, less two */
  } else {
    size = (head.length + 1) * 8;
  }
  if (size > at->left) {
    p->parts |= PACKET_TRUNCATED;
    return false;
  }
  at->offset += size;
  at->left -= size;
  *next = head.next;
  return true;
}

static __always_inline int packet_parse_v6(void* ctx, const bool xdp, __u32 offset,
                                           struct packet* p) {
  struct {
    struct ipv6hdr ip;
    __be16 ports[2];
  } head;
  bool early = packet_load_at_once(ctx, xdp, offset, &head, sizeof(head));
  if (!early && packet_load(ctx, xdp, offset, &head.ip, sizeof(head.ip))) return PACKET_MALFORMED;
  if (head.ip.version != 6) return PACKET_MALFORMED;
  p->version = 6;
  __builtin_memcpy(p->from, &head.ip.saddr, 16);
  __builtin_memcpy(p->to, &head.ip.daddr, 16);

  __u8 next = head.ip.nexthdr;
  struct packet_cursor at = {.offset = offset + sizeof(head.ip),
                             .left = bpf_ntohs(head.ip.payload_len)};
  /* RFC 2675: a jumbogram says 0 here, and its length in a hop-by-hop option; BIG TCP says 0 too.
   */
  if (at.left == 0 && (next == PROTOCOL_HOPOPTS || p->bytes > 0xffff)) at.left = 0xffff0000;
  const __be16* ports = early ? head.ports : 0;
  for (int i = 0; i < SLUICE_GUARD_MAX_EXTENSIONS; i++) {
    if (!packet_is_extension(next)) break;
    ports = 0;
    if (!packet_step(ctx, xdp, p, &at, &next)) return PACKET_OK;
  }
  if (packet_is_extension(next)) {
    p->parts |= PACKET_TOO_MANY_EXTENSIONS;
    return PACKET_OK;
  }
  p->protocol = next;
  packet_transport(ctx, xdp, p, &at, ports);
  return PACKET_OK;
}

static __always_inline int packet_parse(void* ctx, const bool xdp, struct packet* p) {
  __u32 offset = 0;
  __be16 type = packet_network_type(ctx, xdp, !xdp && p->egress, &offset);
  p->protocol = SLUICE_GUARD_NO_PROTOCOL;
  if (type == bpf_htons(ETH_P_IP)) return packet_parse_v4(ctx, xdp, offset, p);
  if (type == bpf_htons(ETH_P_IPV6)) return packet_parse_v6(ctx, xdp, offset, p);
  return PACKET_NOT_IP;
}

/* --- the plain packet ----------------------------------------------------------------------------
 * Ethernet, then IP without tag, option or extension header, no later fragment, and its ports lie
 * in the frame's first part: read where it lies, without a call. Most packets are like that, and a
 * call costs 5 to 10 ns where returns are guarded against speculation. False: nothing was decided,
 * and packet_parse says what the packet is. Both say the same (tests/kernel runs both). */
static __always_inline bool packet_plain_transport(const void* at, const void* end, __u32 left,
                                                   struct packet* p) {
  const __be16* ports = at;
  if ((const void*)(ports + 2) > end || left < sizeof(*ports) * 2) return false;
  if (packet_protocol_has_ports(p->protocol)) {
    if (p->wants_syn && p->protocol == IPPROTO_TCP) {
      const __u8* flags = at + TCP_FLAGS_OFFSET;
      if ((const void*)(flags + 1) > end || left <= TCP_FLAGS_OFFSET) return false;
      if ((*flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) p->parts = PACKET_IS_SYN;
    }
    p->from_port = bpf_ntohs(ports[0]);
    p->to_port = bpf_ntohs(ports[1]);
    p->parts |= PACKET_HAS_PORTS;
  } else if (p->protocol == (p->version == 4 ? IPPROTO_ICMP : PROTOCOL_ICMPV6)) {
    p->icmp_type = *(const __u8*)at;
    p->parts = PACKET_HAS_ICMP_TYPE;
  }
  return true;
}

static __always_inline bool packet_parse_plain(const void* frame, const void* end, __be16 type,
                                               struct packet* p) {
  const void* network = frame + ETH_HLEN;
  if (type == bpf_htons(ETH_P_IP)) {
    const struct iphdr* ip = network;
    if ((const void*)(ip + 1) > end || *(const __u8*)network != 0x45 ||
        (ip->frag_off & bpf_htons(PACKET_IP_OFFSET)))
      return false;
    p->version = 4;
    p->from[1] = bpf_cpu_to_be64(0x0000ffff00000000ULL | bpf_ntohl(ip->saddr));
    p->to[1] = bpf_cpu_to_be64(0x0000ffff00000000ULL | bpf_ntohl(ip->daddr));
    p->protocol = ip->protocol;
    p->transport = sizeof(*ip);
    __u32 total = bpf_ntohs(ip->tot_len);
    return total > sizeof(*ip) && packet_plain_transport(ip + 1, end, total - sizeof(*ip), p);
  }
  if (type != bpf_htons(ETH_P_IPV6)) return false;
  const struct ipv6hdr* ip = network;
  if ((const void*)(ip + 1) > end || *(const __u8*)network >> 4 != 6) return false;
  __u8 next = ip->nexthdr;
  if (next != IPPROTO_TCP && next != IPPROTO_UDP && next != PROTOCOL_ICMPV6) return false;
  /* By words: what is read as a word below must not have been written in parts. */
  const __be64* addresses = network + offsetof(struct ipv6hdr, saddr);
  p->version = 6;
  p->from[0] = addresses[0];
  p->from[1] = addresses[1];
  p->to[0] = addresses[2];
  p->to[1] = addresses[3];
  p->protocol = next;
  p->transport = sizeof(*ip);
  return packet_plain_transport(ip + 1, end, bpf_ntohs(ip->payload_len), p);
}

/* Global: the verifier proves it once and on its own, whatever calls it. So with the other
 * functions that are not inlined. */
__attribute__((noinline)) int packet_parse_tc(struct __sk_buff* skb, struct packet* p) {
  return p ? packet_parse(skb, false, p) : PACKET_NOT_IP;
}
__attribute__((noinline)) int packet_parse_xdp(struct xdp_md* frame, struct packet* p) {
  return p ? packet_parse(frame, true, p) : PACKET_NOT_IP;
}

#endif
