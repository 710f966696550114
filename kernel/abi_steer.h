/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The tables of steer.bpf.c. All precedence is resolved in user space (steer_table.h). */
#ifndef SLUICE_KERNEL_ABI_STEER_H
#define SLUICE_KERNEL_ABI_STEER_H

#include "kernel/abi.h"

/* A group is a listener reached by one way in; it has one socket per worker. */
#define SLUICE_STEER_MAX_GROUPS 1024
#define SLUICE_STEER_MAX_WORKERS 64
/* Counted for lookups that nobody claims. */
#define SLUICE_STEER_UNCLAIMED SLUICE_STEER_MAX_GROUPS

/* Where a packet came from, as far as sk_lookup can tell (it does not see the mark). */
enum sluice_steer_side {
  SLUICE_STEER_OUTSIDE = 0, /* from another interface than lo: ways local and forward */
  SLUICE_STEER_NODE = 1,    /* over lo: ways local and output */
  SLUICE_STEER_NAMED = 2,   /* and above: outside, interfaces that `protect` tells from others */
  SLUICE_STEER_SIDES = 256,
};

#define SLUICE_STEER_LO 1 /* the index of lo in every network namespace */
/* With a side of their own, both slots; lo: where what comes over it is told apart by source. */
#define SLUICE_STEER_MAX_INTERFACES 8192
struct sluice_steer_interface {
  __u32 index;
  __u32 slot;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_interface) == 8, "sluice_steer_interface");

/* Values of steer_ports. */
enum sluice_steer_port {
  SLUICE_STEER_PORT_STEERED = 1, /* nobody comes there directly */
  SLUICE_STEER_PORT_TPROXY = 2,  /* nftables looks our socket up by it: left to the kernel */
};

/* LPM key: IPv4 as ::ffff:a.b.c.d. prefixlen counts from `protocol`. */
#define SLUICE_STEER_KEY_HEAD_BITS 32
struct sluice_steer_key {
  __u32 prefixlen;
  __u8 protocol;
  __u8 side;
  __u16 source_class;
  __u8 address[16];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_key) == 24, "sluice_steer_key");

/* The port segments of one prefix: disjoint, sorted, `count` of them from index `first`. */
struct sluice_steer_ports {
  __u32 first;
  __u32 count;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_ports) == 8, "sluice_steer_ports");

struct sluice_steer_segment {
  __u16 first_port;
  __u16 last_port;
  __u16 group;
  __u8 workers; /* 1 to SLUICE_STEER_MAX_WORKERS */
  __u8 exit;    /* index in steer_exits; read at TC alone */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_segment) == 8, "sluice_steer_segment");

struct sluice_steer_source_key {
  __u32 prefixlen;
  __u8 address[16];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_source_key) == 20, "sluice_steer_source_key");

struct sluice_steer_counters {
  __u64 lookups;   /* that a segment claimed */
  __u64 assigned;
  __u64 no_socket; /* the worker's slot was empty */
  __u64 taken;     /* another program had assigned a socket already */
  __u64 arrived;   /* SYNs of forwarded connections at TC ingress that a segment claims */
  __u64 lapsed;    /* of those at the program that takes: nobody served, on_exit applied */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_counters) == 48, "sluice_steer_counters");

/* What packets of forwarded connections carry that are caught: `value` under `mask`. */
struct sluice_steer_mark {
  __u32 value;
  __u32 mask;
  __u32 judges; /* 0: new connections flow past; those that are proxied go on */
  __u32 reserved;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_mark) == 16, "sluice_steer_mark");

/* Of `steering: tc`: what becomes of a new connection, by the time to which somebody serves. Half
 * of the indexes belong to each slot. */
#define SLUICE_STEER_MAX_EXITS 128
struct sluice_steer_exit {
  __u64 until;     /* CLOCK_MONOTONIC, nanoseconds: then `on_exit` applies */
  __u8 closed;     /* on_exit: closed, else bypass */
  __u8 block_quic; /* UDP to port 443 is dropped while a connection would be caught */
  __u8 reserved[6];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_exit) == 16, "sluice_steer_exit");

#define SLUICE_STEER_MAX_OWN 4096 /* addresses of the node that the program at TC knows */

/* Who a group belongs to; read by user space alone, so that a successor finds the same groups again. */
struct sluice_steer_group {
  __u64 listener; /* FNV-1a of the listener's name */
  __u8 way;
  __u8 used;
  __u8 reserved[6];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_steer_group) == 16, "sluice_steer_group");

#endif
