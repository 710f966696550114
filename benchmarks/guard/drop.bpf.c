// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The least that can be done to a packet: what the guard is measured beside.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int drop(struct xdp_md* frame) {
  (void)frame;
  return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
