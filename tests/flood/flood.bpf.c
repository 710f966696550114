// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// A sender as fast as the machine: run by BPF_PROG_TEST_RUN on live frames, it gives each TCP SYN
// another source and sends it out of an interface.
// clang-format off: the kernel's types come before the helpers that use them
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

struct flood_plan {
  __u32 interface_index;
  __u32 source;  // host order
  __u32 random;  // bits of it that are random
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct flood_plan);
} flood_plan SEC(".maps");

static __always_inline __u16 folded(__u64 sum) {
  for (int i = 0; i < 4; i++)
    sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)~sum;
}

SEC("xdp")
int flood(struct xdp_md* frame) {
  __u32 zero = 0;
  struct flood_plan* plan = bpf_map_lookup_elem(&flood_plan, &zero);
  void* data = (void*)(long)frame->data;
  void* end = (void*)(long)frame->data_end;
  struct ethhdr* link = data;
  struct iphdr* ip = (void*)(link + 1);
  struct tcphdr* tcp = (void*)(ip + 1);
  if (!plan || (void*)(tcp + 1) > end) return XDP_DROP;

  __u32 random = bpf_get_prandom_u32();
  ip->saddr = bpf_htonl((plan->source & ~plan->random) | (random & plan->random));
  tcp->source = bpf_htons(1024 + (bpf_get_prandom_u32() & 0x7fff));
  tcp->seq = random;
  ip->check = 0;
  tcp->check = 0;
  ip->check =
      folded((__u32)bpf_csum_diff(0, 0, (__be32*)ip, sizeof(*ip), 0));
  __u32 sum = bpf_csum_diff(0, 0, (__be32*)tcp, sizeof(*tcp), 0);
  __u64 whole = (__u64)sum + (ip->saddr & 0xffff) + (ip->saddr >> 16) +
                (ip->daddr & 0xffff) + (ip->daddr >> 16) + bpf_htons(IPPROTO_TCP) +
                bpf_htons(sizeof(*tcp));
  tcp->check = folded(whole);
  return bpf_redirect(plan->interface_index, 0);
}

char LICENSE[] SEC("license") = "GPL";
