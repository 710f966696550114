/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The tables of guard.bpf.c. What a rule means is compiled in user space (guard_tables.h) into
 * classes: a lookup per field gives the class of a packet in that field, a class says by a bit per
 * rule whether the rule's field (and that of its exception) matches, and the bits of all fields are
 * ANDed. */
#ifndef SLUICE_KERNEL_ABI_GUARD_H
#define SLUICE_KERNEL_ABI_GUARD_H

#include "kernel/abi.h"

#define SLUICE_GUARD_MAX_RULES 1024
#define SLUICE_GUARD_WORDS (SLUICE_GUARD_MAX_RULES / 64)
/* Twice the rules: those in force, and those that are being prepared. */
#define SLUICE_GUARD_COUNTERS (2 * SLUICE_GUARD_MAX_RULES)
#define SLUICE_GUARD_PORTS 65536
#define SLUICE_GUARD_MAX_PROTECT_GROUPS 64
#define SLUICE_GUARD_BAN_LENGTHS 8 /* per IP version */
#define SLUICE_GUARD_MAX_EXTENSIONS 8
#define SLUICE_GUARD_MAX_OWN_ADDRESSES 16384
#define SLUICE_GUARD_MAX_INTERFACES 8192 /* named by protect entries, both slots */
#define SLUICE_GUARD_EVENT_BYTES (256 * 1024)

/* Memory-mapped; one cache line, read once per packet. */
struct sluice_guard_state {
  __u64 epoch;        /* low bit: the slot in force */
  __u64 generation;   /* of the plan in force, for people */
  __u64 ban_lengths4; /* prefix lengths of bans, of the 128 bits, a byte each, the first zero byte
                         ends them */
  __u64 ban_lengths6;
  __u64 events_until; /* CLOCK_MONOTONIC ns: drops are sampled until then */
  __u64 refused_bans; /* written by user space alone: survives it */
  __u64 reserved[2];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_state) == 64, "sluice_guard_state");

enum sluice_guard_flags {
  SLUICE_GUARD_USES_FROM4 = 1 << 0,
  SLUICE_GUARD_USES_FROM6 = 1 << 1,
  SLUICE_GUARD_USES_TO4 = 1 << 2,
  SLUICE_GUARD_USES_TO6 = 1 << 3,
  SLUICE_GUARD_USES_FROM_PORTS = 1 << 4,
  SLUICE_GUARD_USES_TO_PORTS = 1 << 5,
  SLUICE_GUARD_USES_PROTOCOL = 1 << 6,
};

/* Bits of rules in the order of the policy file; bit 0 of word 0 is the first rule. */
struct sluice_guard_class {
  __u64 live; /* bit w: some bit of match in word w is set */
  struct {
    __u64 match;  /* the rule has no such field, or the field matches */
    __u64 except; /* the rule has an exception, and that has no such field, or the field matches */
  } word[SLUICE_GUARD_WORDS];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_class) == 8 + 16 * SLUICE_GUARD_WORDS,
                  "sluice_guard_class");

#define SLUICE_GUARD_NO_PROTOCOL 256 /* the packet's could not be found */
struct sluice_guard_slot {
  __u32 flags;
  /* Classes for a field that the packet does not have, or that no entry of its table matches. */
  __u32 default_from4;
  __u32 default_from6;
  __u32 default_to4;
  __u32 default_to6;
  __u32 default_from_port;
  __u32 default_to_port;
  __u32 rules;
  __u64 protect_any_port;        /* groups without to_ports */
  __u64 protect_any_interface;   /* groups without interfaces */
  struct sluice_guard_class all; /* of the rules that there are: for fields that no rule uses */
  __u64 drop[SLUICE_GUARD_WORDS];
  __u16 counter[SLUICE_GUARD_MAX_RULES];
  __u32 protocol_class[SLUICE_GUARD_NO_PROTOCOL + 2]; /* the last one is padding */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_slot) ==
                      48 + 8 + 16 * SLUICE_GUARD_WORDS + 8 * SLUICE_GUARD_WORDS + 2048 + 4 * 258,
                  "sluice_guard_slot");

/* At index slot * SLUICE_GUARD_PORTS + port; memory-mapped. */
struct sluice_guard_port {
  __u16 from_class;
  __u16 to_class;
  __u32 host; /* 1: of the node's own addresses, this port is protected */
  __u64 protect_groups;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_port) == 16, "sluice_guard_port");

/* Tries: value u64, the class, or for `protect` the groups. At index slot * SLUICE_GUARD_TRIES +
 * trie. */
enum sluice_guard_trie {
  SLUICE_GUARD_TRIE_FROM = 0,
  SLUICE_GUARD_TRIE_TO = 1,
  SLUICE_GUARD_TRIE_PROTECT = 2,
  SLUICE_GUARD_TRIES = 3,
};
struct sluice_guard_key4 {
  __u32 length; /* 0 to 32 */
  __u8 address[4];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_key4) == 8, "sluice_guard_key4");
struct sluice_guard_key6 {
  __u32 length;
  __u8 address[16];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_key6) == 20, "sluice_guard_key6");

struct sluice_guard_interface_key {
  __u32 index;
  __u32 slot;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_interface_key) == 8, "sluice_guard_interface_key");

/* IPv4 as ::ffff:a.b.c.d; network order; bits beyond the length are zero. */
struct sluice_guard_ban_key {
  __u64 high;
  __u64 low;
  __u32 length; /* 1 to 128 */
  __u32 reserved;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_ban_key) == 24, "sluice_guard_ban_key");

#define SLUICE_GUARD_REASON_TEXT 64
struct sluice_guard_ban {
  __u64 expires; /* CLOCK_MONOTONIC ns */
  __u64 packets;
  __u64 bytes;
  char reason[SLUICE_GUARD_REASON_TEXT]; /* ends with a zero */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_ban) == 88, "sluice_guard_ban");

struct sluice_guard_count {
  __u64 packets;
  __u64 bytes;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_count) == 16, "sluice_guard_count");

/* Whose a counter is; read by user space alone, so that a successor finds its counters again. */
#define SLUICE_GUARD_NAME_TEXT 112
struct sluice_guard_name {
  __u64 hash; /* FNV-1a of the whole name */
  __u8 used;
  __u8 action; /* GuardAction */
  __u16 order; /* among the rules in force; 65535: not in force */
  __u32 reserved;
  char text[SLUICE_GUARD_NAME_TEXT]; /* cut; ends with a zero */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_name) == 128, "sluice_guard_name");

/* What became of a packet: exactly one of these. */
enum sluice_guard_reason {
  SLUICE_GUARD_PASS = 0,     /* no drop rule and no ban names it */
  SLUICE_GUARD_PASS_PROTECT, /* a ban or a rule named it, and protect won */
  SLUICE_GUARD_PASS_NOT_IP,
  SLUICE_GUARD_PASS_MALFORMED, /* too broken to hold both addresses */
  SLUICE_GUARD_DROP_RULE,
  SLUICE_GUARD_DROP_BAN,
  SLUICE_GUARD_REASONS,
};
/* What was odd about packets that were judged nevertheless; counted behind the reasons. */
enum sluice_guard_note {
  SLUICE_GUARD_NOTE_FRAGMENT = SLUICE_GUARD_REASONS, /* a later fragment: judged without ports */
  SLUICE_GUARD_NOTE_EXTENSIONS, /* more than eight IPv6 headers: judged by addresses alone */
  SLUICE_GUARD_NOTE_TRUNCATED,  /* ends before its ports: judged without */
  SLUICE_GUARD_TALLIES,
};

#define SLUICE_GUARD_NO_RULE 65535
#define SLUICE_GUARD_NO_PORT 0xffffffffU
struct sluice_guard_event {
  __u64 when; /* CLOCK_MONOTONIC ns */
  __u8 from[16];
  __u8 to[16];
  __u32 from_port; /* or SLUICE_GUARD_NO_PORT */
  __u32 to_port;
  __u32 interface_index;
  __u16 protocol; /* or SLUICE_GUARD_NO_PROTOCOL */
  __u16 counter;  /* of the first matching drop rule, or SLUICE_GUARD_NO_RULE */
  __u32 reason;
  __u32 version; /* 4 or 6 */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_event) == 64, "sluice_guard_event");

/* Per CPU: how many events this tenth of a second has had. */
struct sluice_guard_budget {
  __u64 window;
  __u64 used;
};
#define SLUICE_GUARD_EVENT_WINDOW 100000000ULL
#define SLUICE_GUARD_EVENTS_PER_WINDOW 10

#endif
