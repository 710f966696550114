/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What is never dropped. Asked only when a ban or a rule names the packet. */
#ifndef SLUICE_KERNEL_GUARD_PROTECT_BPF_H
#define SLUICE_KERNEL_GUARD_PROTECT_BPF_H

#include "kernel/guard_maps.bpf.h"
#include "kernel/packet.bpf.h"

static __always_inline __u64 guard_peer_groups(__u32 slot, __u8 version, const __be64* address) {
  __u64* groups = 0;
  if (version == 4) {
    struct sluice_guard_key4 key = {.length = 32};
    __builtin_memcpy(key.address, (const __u8*)address + 12, 4);
    void* trie = bpf_map_lookup_elem(&guard_tries4, &slot);
    groups = trie ? bpf_map_lookup_elem(trie, &key) : 0;
  } else {
    struct sluice_guard_key6 key = {.length = 128};
    __builtin_memcpy(key.address, address, 16);
    void* trie = bpf_map_lookup_elem(&guard_tries6, &slot);
    groups = trie ? bpf_map_lookup_elem(trie, &key) : 0;
  }
  return groups ? *groups : 0;
}

/* Destination unreachable, time exceeded, parameter problem (RFC 792); for IPv6 the errors (RFC
 * 4443), MLD (RFC 2710, 3810) and neighbour discovery (RFC 4861). Without them path MTU discovery
 * and the neighbour cache die. */
static __always_inline bool guard_is_vital_icmp(const struct packet* p) {
  if (!(p->parts & PACKET_HAS_ICMP_TYPE)) return false;
  __u8 type = p->icmp_type;
  if (p->version == 4) return type == 3 || type == 11 || type == 12;
  return (type >= 1 && type <= 4) || (type >= 130 && type <= 137) || type == 143;
}

/* RFC 2131: both ends use 67 and 68. RFC 8415: clients listen on 546, servers and relays on 547,
 * and may send from any. */
static __always_inline bool guard_is_dhcp(const struct packet* p) {
  if (p->protocol != IPPROTO_UDP || !(p->parts & PACKET_HAS_PORTS)) return false;
  if (p->version == 6) return p->to_port == 546 || p->to_port == 547;
  return (p->to_port == 67 || p->to_port == 68) && (p->from_port == 67 || p->from_port == 68);
}

__attribute__((noinline)) int guard_is_protected(const struct packet* p, __u32 slot,
                                                 __u32 interface_index) {
  struct sluice_guard_slot* config = bpf_map_lookup_elem(&guard_slots, &slot);
  if (!p || !config) return false;
  if (guard_is_vital_icmp(p) || guard_is_dhcp(p)) return true;

  /* What the node sends is looked at from the other side: the peer is the destination, and the
   * port is the node's own, the source. So an entry spares a connection both ways. */
  const __be64* peer = p->egress ? p->to : p->from;
  const __be64* own = p->egress ? p->from : p->to;
  __u64 groups = config->protect_any_port;
  if (p->parts & PACKET_HAS_PORTS) {
    __u32 index = slot * SLUICE_GUARD_PORTS + (p->egress ? p->from_port : p->to_port);
    struct sluice_guard_port* port = bpf_map_lookup_elem(&guard_ports, &index);
    if (port) {
      /* On the stack: kernels before 6.2 take no packet's memory for a map's key. */
      __be64 key[2] = {own[0], own[1]};
      if ((port->protect_groups & SLUICE_GUARD_HOST_PORT) && bpf_map_lookup_elem(&guard_own, key))
        return true;
      groups |= port->protect_groups & ~SLUICE_GUARD_HOST_PORT;
    }
  }
  if (!groups) return false;
  __u64 limited = groups & ~config->protect_any_interface;
  if (limited) {
    struct sluice_guard_interface_key key = {.index = interface_index, .slot = slot};
    __u64* named = bpf_map_lookup_elem(&guard_ifaces, &key);
    groups &= config->protect_any_interface | (named ? *named : 0);
    if (!groups) return false;
  }
  return (guard_peer_groups(slot, p->version, peer) & groups) != 0;
}

#endif
