/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The monitor: counts what passes, by the service that it goes to and by the source that it comes
 * from. Only a SYN makes an entry, so that answers to the node's own connections make none; the
 * tables forget what was seen longest ago. */
#ifndef SLUICE_KERNEL_GUARD_MONITOR_BPF_H
#define SLUICE_KERNEL_GUARD_MONITOR_BPF_H

#include "kernel/guard_events.bpf.h"
#include "kernel/guard_maps.bpf.h"
#include "kernel/packet.bpf.h"

#define TCP_OFFSET_AND_FLAGS 12
#define TCP_RST 0x04

static __always_inline void guard_monitor_add(__u32 table,
                                              const struct sluice_guard_service_key* key,
                                              const struct sluice_guard_seen* seen) {
  void* map = bpf_map_lookup_elem(&guard_monitor_table, &table);
  if (!map) return;
  struct sluice_guard_seen* entry = bpf_map_lookup_elem(map, key);
  if (!entry) {
    if (seen->connections && bpf_map_update_elem(map, key, seen, BPF_NOEXIST)) {
      struct packet none = {.segments = 1};
      guard_tally(table == SLUICE_GUARD_MONITOR_SERVICES ? SLUICE_GUARD_NOTE_NO_MONITOR_SERVICE
                                                         : SLUICE_GUARD_NOTE_NO_MONITOR_SOURCE,
                  &none);
    }
    return;
  }
  entry->packets += seen->packets;
  entry->bytes += seen->bytes;
  entry->connections += seen->connections;
  entry->resets += seen->resets;
  entry->requests += seen->requests;
}

/* The first four bytes of a segment that begins an HTTP/1.1 request, or HTTP/2's preface. */
static __always_inline bool guard_begins_request(__u32 head) {
  switch (bpf_ntohl(head)) {
    case 0x47455420: /* "GET " */
    case 0x504f5354: /* "POST" */
    case 0x50555420: /* "PUT " */
    case 0x48454144: /* "HEAD" */
    case 0x44454c45: /* "DELE" */
    case 0x50415443: /* "PATC" */
    case 0x4f505449: /* "OPTI" */
    case 0x50524920: /* "PRI " */
      return true;
  }
  return false;
}

/* Four bytes behind the TCP header, which may lie in pages that reads from the network header do not
 * reach. Where the buffer begins, with a link layer or without, is found by the header itself. */
static __always_inline bool guard_load_payload(void* ctx, const bool xdp, const struct packet* p,
                                               __u32 offset, __u32* to) {
  __u64 own = 0, there = 0;
  if (packet_load_at_once(ctx, xdp, offset, to, sizeof(*to))) return true;
  if (xdp || !packet_load_at_once(ctx, xdp, p->transport, &own, sizeof(own))) return false;
  if (bpf_skb_load_bytes(ctx, ETH_HLEN + p->transport, &there, sizeof(there)) == 0 && there == own)
    return bpf_skb_load_bytes(ctx, ETH_HLEN + offset, to, sizeof(*to)) == 0;
  if (bpf_skb_load_bytes(ctx, p->transport, &there, sizeof(there)) == 0 && there == own)
    return bpf_skb_load_bytes(ctx, offset, to, sizeof(*to)) == 0;
  return false;
}

static __always_inline int guard_monitor(void* ctx, const bool xdp, const struct packet* p,
                                         __u32 flags) {
  __u8 head[2]; /* data offset, flags */
  if (!packet_load_at_once(ctx, xdp, p->transport + TCP_OFFSET_AND_FLAGS, head, sizeof(head)))
    return 0;
  struct sluice_guard_seen seen = {
      .packets = p->segments,
      .bytes = p->bytes,
      .connections = (head[1] & (TCP_SYN | TCP_ACK)) == TCP_SYN,
      .resets = !!(head[1] & TCP_RST),
  };
  __u32 begin = 0;
  if (!(head[1] & (TCP_SYN | TCP_RST)) &&
      guard_load_payload(ctx, xdp, p, p->transport + (head[0] >> 4) * 4, &begin))
    seen.requests = guard_begins_request(begin);
  if (flags & SLUICE_GUARD_MONITORS_SERVICES) {
    struct sluice_guard_service_key key = {.high = p->to[0], .low = p->to[1], .port = p->to_port};
    guard_monitor_add(SLUICE_GUARD_MONITOR_SERVICES, &key, &seen);
  }
  if (flags & SLUICE_GUARD_MONITORS_SOURCES) {
    struct sluice_guard_service_key key = {.high = p->from[0],
                                           .low = p->version == 4 ? p->from[1] : 0};
    guard_monitor_add(SLUICE_GUARD_MONITOR_SOURCES, &key, &seen);
  }
  return 0;
}

__attribute__((noinline)) int guard_monitor_tc(struct __sk_buff* skb, const struct packet* p,
                                               __u32 flags) {
  return p ? guard_monitor(skb, false, p, flags) : 0;
}
__attribute__((noinline)) int guard_monitor_xdp(struct xdp_md* frame, const struct packet* p,
                                                __u32 flags) {
  return p ? guard_monitor(frame, true, p, flags) : 0;
}

static __always_inline bool guard_is_monitored(const struct sluice_guard_slot* config,
                                               const struct packet* p) {
  return (config->flags & (SLUICE_GUARD_MONITORS_SERVICES | SLUICE_GUARD_MONITORS_SOURCES)) &&
         !p->egress && p->protocol == IPPROTO_TCP && (p->parts & PACKET_HAS_PORTS);
}

#endif
