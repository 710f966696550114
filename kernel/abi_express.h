/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The tables of express.bpf.c: connections between two sockets of this machine, of which one is the
 * gateway's, whose bytes go from one to the other without TCP in between. */
#ifndef SLUICE_KERNEL_ABI_EXPRESS_H
#define SLUICE_KERNEL_ABI_EXPRESS_H

#include "kernel/abi.h"

#define SLUICE_EXPRESS_MAX_FLOWS 65536
#define SLUICE_EXPRESS_MAX_OFFERS 4096
/* Bytes that a direction hands over at most until the other one speaks, having read all but as
 * many: nothing else would ever hold a sender back. A message may go beyond it by what the kernel
 * takes at once (544 KiB). */
#define SLUICE_EXPRESS_BURST_BYTES (256 * 1024)
/* The value of TCP_SAVE_SYN, which means nothing to a socket that connects, by which the gateway
 * says that a connection of its own may go by the lane (gateway/upstream/connector.cc). */
#define SLUICE_EXPRESS_SIGN 2
/* The value of SO_PRIORITY by which the gateway turns a direction of its own to TCP, at a moment
 * when it knows that all it handed over has been read (gateway/express.h). */
#define SLUICE_EXPRESS_LEAVES 5

/* Written by user space alone; element 0. */
struct sluice_express_state {
  __u64 netns;  /* the cookie of the gateway's network namespace */
  __u32 mark;   /* of the gateway's own sockets, under mask */
  __u32 mask;   /* 0: they carry none */
  __u32 admits; /* enum sluice_express_admits */
  __u32 reserved;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_state) == 24, "sluice_express_state");

/* Whose connections may enter from now on; 0: nobody's. */
enum sluice_express_admits {
  SLUICE_EXPRESS_UPSTREAMS = 1, /* that the gateway opens */
  SLUICE_EXPRESS_GUESTS = 2,    /* that are steered to a listener */
  SLUICE_EXPRESS_BINDS = 4,     /* that connect to where a listener is bound */
};

/* When an offer was last made whose ports fall there: what nobody offered is known by one load.
 * CLOCK_MONOTONIC, nanoseconds. */
#define SLUICE_EXPRESS_RECENT 4096
#define SLUICE_EXPRESS_RECENT_NS (2 * 1000 * 1000 * 1000ULL)

/* Both ends as one of them sees them. IPv4 as ::ffff:a.b.c.d; ports in host order. */
struct sluice_express_ends {
  __u32 local[4];
  __u32 remote[4];
  __u16 local_port;
  __u16 remote_port;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_ends) == 36, "sluice_express_ends");

/* A connection, whatever network namespaces its ends are in: two that have equal addresses differ
 * in what both ends agreed on, their next sequence numbers. */
struct sluice_express_offer {
  struct sluice_express_ends ends;
  __u32 sent;
  __u32 received;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_offer) == 44, "sluice_express_offer");

/* Where a listener with `express: both` is bound: an address (:: and ::ffff:0.0.0.0 are all of a
 * version), and a port. */
struct sluice_express_service {
  __u32 address[4];
  __u32 port;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_service) == 20, "sluice_express_service");

enum sluice_express_side {
  SLUICE_EXPRESS_ACTIVE = 0, /* who connected */
  SLUICE_EXPRESS_PASSIVE = 1,
  SLUICE_EXPRESS_SIDES = 2,
};

/* A socket in the lane: what its socket storage holds, and its key in the hash of sockets. */
struct sluice_express_end {
  __u64 flow; /* the cookie of the socket that connected */
  __u32 side;
  __u32 reserved;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_end) == 16, "sluice_express_end");

/* Why a direction goes by TCP, for good. */
enum sluice_express_left {
  SLUICE_EXPRESS_STAYS = 0,
  SLUICE_EXPRESS_REMOTE = 1, /* the other end is not of this machine, or another's lane has it, or
                                bytes had gone by TCP before */
  SLUICE_EXPRESS_BURST = 2,  /* much was sent without a word from the other end */
  SLUICE_EXPRESS_TLS = 3,    /* a record of TLS: the kernel may encrypt it on the way */
  SLUICE_EXPRESS_GONE = 4,   /* the other end closed */
  SLUICE_EXPRESS_ASKED = 5,  /* the gateway chose TCP: a long answer, or a silent reader */
  SLUICE_EXPRESS_LEFT_REASONS = 6,
};

/* Written by the sender under its socket's lock, but for `allowed`. */
struct sluice_express_direction {
  __u64 sent;    /* bytes handed over */
  __u64 tcp;     /* bytes by TCP */
  __u64 allowed; /* `sent` goes up to it until the other direction speaks; written by that one */
  __u32 left;    /* enum sluice_express_left */
  __u32 start;   /* the sequence number of its first byte by TCP */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_direction) == 32, "sluice_express_direction");

enum sluice_express_joined {
  SLUICE_EXPRESS_APART = 0,
  SLUICE_EXPRESS_JOINED = 1, /* both ends are in */
  SLUICE_EXPRESS_ENDED = 2,  /* one of them closed */
};

struct sluice_express_flow {
  struct sluice_express_ends ends; /* as who connected sees them */
  __u32 gateway;                   /* enum sluice_express_side */
  __u32 joined;                    /* enum sluice_express_joined */
  __u32 reserved;
  struct sluice_express_direction from[SLUICE_EXPRESS_SIDES];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_flow) == 48 + 64, "sluice_express_flow");

/* Per CPU; by flow's kind: 0 the gateway connected (upstreams), 1 it was connected to (clients). */
struct sluice_express_counters {
  __u64 entered;    /* connections that both ends entered */
  __u64 ended;      /* of them */
  __u64 to_gateway; /* bytes handed over */
  __u64 from_gateway;
  __u64 tcp_to_gateway; /* bytes by TCP of connections that entered */
  __u64 tcp_from_gateway;
  __u64 refused; /* not taken: no room, or another program has the socket */
  __u64 left[SLUICE_EXPRESS_LEFT_REASONS]; /* directions, by reason */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_express_counters) == 7 * 8 + 6 * 8,
                  "sluice_express_counters");

#endif
