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
#define SLUICE_GUARD_MAX_PROTECT_GROUPS 63
#define SLUICE_GUARD_BAN_LENGTHS 8 /* per IP version */
#define SLUICE_GUARD_MAX_EXTENSIONS 8
#define SLUICE_GUARD_MAX_OWN_ADDRESSES 16384
#define SLUICE_GUARD_MAX_INTERFACES 8192 /* named by protect entries or rules, both slots */
#define SLUICE_GUARD_EVENT_BYTES (256 * 1024)
#define SLUICE_GUARD_MAX_SOURCES 65536  /* with a SYN bucket at a time */
#define SLUICE_GUARD_MAX_SERVICES 16384 /* likewise */
#define SLUICE_GUARD_MAX_MONITORED 16384 /* services, and sources, that the monitor tells apart */

/* Memory-mapped; one cache line, read once per packet. */
struct sluice_guard_state {
  __u64 epoch;        /* low bit: the slot in force */
  __u64 generation;   /* of the plan in force, for people */
  __u64 ban_lengths4; /* prefix lengths of bans, of the 128 bits, a byte each, the first zero byte
                         ends them */
  __u64 ban_lengths6;
  __u64 events_until; /* CLOCK_MONOTONIC ns: drops are sampled until then */
  __u64 refused_bans; /* written by user space alone: survives it */
  __u64 revert_at;    /* CLOCK_MONOTONIC ns, its lowest bit that of the epoch it belongs to: from then
                         on the other slot is in force, with nobody alive; 0: never */
  __u64 frames;       /* 1: wherever the guard hangs, a frame begins with an Ethernet header */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_state) == 64, "sluice_guard_state");

enum sluice_guard_flags {
  SLUICE_GUARD_USES_FROM = 1 << 0,
  SLUICE_GUARD_USES_TO = 1 << 1,
  SLUICE_GUARD_USES_FROM_PORTS = 1 << 2,
  SLUICE_GUARD_USES_TO_PORTS = 1 << 3,
  SLUICE_GUARD_USES_PROTOCOL = 1 << 4,
  SLUICE_GUARD_USES_INTERFACES = 1 << 5, /* some rule has interfaces */
  SLUICE_GUARD_USES_LIMITS = 1 << 6,
  SLUICE_GUARD_USES_SOURCE_SYN = 1 << 7,
  SLUICE_GUARD_USES_SERVICE_SYN = 1 << 8,
  SLUICE_GUARD_AUDITS_SYN = 1 << 9, /* what the two would drop is counted, and passes */
  SLUICE_GUARD_MONITORS_SERVICES = 1 << 10,
  SLUICE_GUARD_MONITORS_SOURCES = 1 << 11,
};
enum sluice_guard_direction { SLUICE_GUARD_INGRESS = 0, SLUICE_GUARD_EGRESS = 1 };

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

/* --- prefixes: the class of an address ---------------------------------------------------------
 * IPv4 is "rank and leaf". A word of `top` stands for a /19: a bit for each /24 that some prefix
 * longer than /16 touches, and above the bits how many are set in all words before; together the
 * index of the /24's leaf. What no bit names has its /16's class in `coarse`, if prefixes of at
 * most /16 exist, or the default. Both are one value, so that the lookup is inlined.
 *
 * IPv6 is hashed. A bitmap of /32s that some prefix of at least that length touches (`gate`), behind
 * it a bitmap of (prefix, length), both one value too, and only where that bit is set, a table of
 * whole keys. Lengths are tried from the longest on, and an entry carries what the shorter ones
 * that cover it say. */
enum sluice_guard_field { SLUICE_GUARD_FROM = 0, SLUICE_GUARD_TO = 1, SLUICE_GUARD_FIELDS = 2 };

#define SLUICE_GUARD_TOP_WORDS (1 << 19)
struct sluice_guard_top4 {
  __u64 top[SLUICE_GUARD_TOP_WORDS];
  __u32 coarse[65536];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_top4) == 8 * SLUICE_GUARD_TOP_WORDS + 262144,
                  "sluice_guard_top4");
#define SLUICE_GUARD_GATE_WORDS (1 << 18)
#define SLUICE_GUARD_BITS_WORDS (1 << 19)
struct sluice_guard_gate6 {
  __u64 gate[SLUICE_GUARD_GATE_WORDS];
  __u64 bits[SLUICE_GUARD_BITS_WORDS]; /* of (prefix, length) */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_gate6) ==
                      8 * (SLUICE_GUARD_GATE_WORDS + SLUICE_GUARD_BITS_WORDS),
                  "sluice_guard_gate6");
/* A leaf's two highest bits say what it is:
 *   0  the whole /24 has the class in the low 32 bits
 *   1  bits 0..23 are three host bytes (repeated if fewer) of class 24..42; others have 43..61
 *   2  the low 32 bits are the index of a line: a bit for each host byte where another class
 *      begins, and the index of the first one's class among the runs */
#define SLUICE_GUARD_LEAF_KIND 62
#define SLUICE_GUARD_LEAF_WHOLE 0ULL
#define SLUICE_GUARD_LEAF_HOSTS 1ULL
#define SLUICE_GUARD_LEAF_RUNS 2ULL
#define SLUICE_GUARD_LEAF_CLASS_BITS 19
#define SLUICE_GUARD_MAX_CLASSES (1 << 22) /* 24 bits hold them in a bucket */

/* Arrays of u64, at index (slot * fields + field) * kinds + kind. */
enum sluice_guard_words_kind {
  SLUICE_GUARD_LEAVES4 = 0,
  SLUICE_GUARD_RUNS4 = 1,
  SLUICE_GUARD_WORDS_KINDS = 2,
};
/* Arrays of 64-byte lines, likewise. */
enum sluice_guard_lines_kind {
  SLUICE_GUARD_STARTS4 = 0,
  SLUICE_GUARD_BUCKETS6 = 1,
  SLUICE_GUARD_LINES_KINDS = 2,
};
struct sluice_guard_line {
  union {
    struct {
      __u64 starts[4]; /* bit h % 64 of word h / 64; the first bit of all is set */
      __u64 base;
    } runs;
    struct {
      __u64 high[3]; /* the prefix, host order */
      __u64 low[3];
      __u32 tag[3]; /* length | class << 8; 0: free */
      __u32 more;   /* 1: a key that belongs here is in the next bucket */
    } bucket;
  };
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_line) == 64, "sluice_guard_line");
#define SLUICE_GUARD_MAX_PROBES 32

enum sluice_guard_prefixes_flags {
  SLUICE_GUARD_HAS_TOP4 = 1 << 0,
  SLUICE_GUARD_HAS_COARSE4 = 1 << 1,
};
struct sluice_guard_prefixes {
  __u64 seed;
  __u64 default_live4; /* of the default classes */
  __u64 default_live6;
  __u32 default4; /* of what no prefix names */
  __u32 default6;
  __u32 flags;
  __u32 lengths;   /* how many; 0: no IPv6 prefix */
  __u32 gated;     /* the first so many of them are at least 32 */
  __u32 gate_mask; /* bits of the gate that are used, less one */
  __u32 bits_mask; /* bits of the bitmap, less one */
  __u32 bucket_mask;
  __u32 reserved[2];
  __u8 length[128]; /* longest first */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_prefixes) == 24 + 40 + 128, "sluice_guard_prefixes");

/* The hash of a prefix, computed alike by both sides. */
static inline __attribute__((always_inline)) __u64 sluice_guard_hash6(__u64 seed, __u64 high,
                                                                      __u64 low, __u32 length) {
  __u64 hash = (high ^ seed) * 0x9e3779b97f4a7c15ULL;
  hash ^= hash >> 32;
  hash = (hash ^ low ^ ((__u64)length << 56)) * 0xbf58476d1ce4e5b9ULL;
  return hash ^ hash >> 31;
}
static inline __attribute__((always_inline)) __u32 sluice_guard_gate6_bit(__u64 seed, __u64 high) {
  __u64 hash = ((high >> 32) ^ (seed & 0xffffffff)) * 0x9e3779b97f4a7c15ULL;
  return (__u32)(hash >> 32);
}

/* --- the slot ----------------------------------------------------------------------------------
 */

struct sluice_guard_rate {
  __u64 interval; /* ns for one packet; 0: no limit */
  __u64 burst;    /* packets at once, at least 1 */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_rate) == 16, "sluice_guard_rate");

#define SLUICE_GUARD_NO_PROTOCOL 256 /* the packet's could not be found */
struct sluice_guard_slot {
  __u32 flags;
  __u32 rules;
  __u32 default_from_port; /* classes of packets without ports */
  __u32 default_to_port;
  __u16 default_from_port_live;
  __u16 default_to_port_live;
  __u32 reserved;
  struct sluice_guard_prefixes prefixes[SLUICE_GUARD_FIELDS];
  __u64 protect_any_port;        /* groups without to_ports */
  __u64 protect_any_interface;   /* groups without interfaces */
  struct sluice_guard_class all; /* of the rules that there are: for fields that no rule uses */
  struct sluice_guard_class place[2]; /* by direction, of interfaces without an entry */
  __u64 drop[SLUICE_GUARD_WORDS];
  __u64 limit[SLUICE_GUARD_WORDS];
  __u64 audit[SLUICE_GUARD_WORDS]; /* rules that count what they would do */
  struct sluice_guard_rate source_syn;
  struct sluice_guard_rate service_syn;
  __u16 counter[SLUICE_GUARD_MAX_RULES];
  struct {
    __u32 id;
    __u32 live;
  } protocol_class[SLUICE_GUARD_NO_PROTOCOL + 1];
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_slot) ==
                      24 + 2 * 192 + 16 + 3 * (8 + 16 * SLUICE_GUARD_WORDS) +
                          3 * 8 * SLUICE_GUARD_WORDS + 32 + 2048 + 8 * 257,
                  "sluice_guard_slot");

/* At index slot * SLUICE_GUARD_PORTS + port; memory-mapped. */
#define SLUICE_GUARD_HOST_PORT (1ULL << 63) /* of the node's own addresses, it is protected */
struct sluice_guard_port {
  __u16 from_class;
  __u16 to_class;
  __u16 from_live; /* `live` of these classes */
  __u16 to_live;
  __u64 protect_groups;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_port) == 16, "sluice_guard_port");

/* Tries of `protect`: value u64, the groups; by slot. */
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
/* Value: a class, the rules that hold on that interface in that direction. */
struct sluice_guard_place_key {
  __u32 index;
  __u16 slot;
  __u16 direction;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_place_key) == 8, "sluice_guard_place_key");

/* SYN buckets: value u64, the theoretical arrival time (GCRA), CLOCK_MONOTONIC ns. */
struct sluice_guard_source_key {
  __u64 high; /* an IPv6 source by its /64 */
  __u64 low;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_source_key) == 16, "sluice_guard_source_key");
struct sluice_guard_service_key {
  __u64 high;
  __u64 low;
  __u32 port;
  __u32 reserved;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_service_key) == 24, "sluice_guard_service_key");

/* What the monitor saw of TCP packets that came in and passed; a source has port 0. Per CPU. */
enum sluice_guard_monitor { SLUICE_GUARD_MONITOR_SERVICES = 0, SLUICE_GUARD_MONITOR_SOURCES = 1 };
struct sluice_guard_seen {
  __u64 packets; /* segments */
  __u64 bytes;
  __u64 connections; /* SYNs */
  __u64 resets;
  __u64 requests; /* buffers that begin like an HTTP request: an estimate */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_seen) == 40, "sluice_guard_seen");

/* IPv4 as ::ffff:a.b.c.d; network order; bits beyond the length are zero. */
struct sluice_guard_ban_key {
  __u64 high;
  __u64 low;
  __u32 length; /* 1 to 128 */
  __u32 reserved;
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_ban_key) == 24, "sluice_guard_ban_key");

/* A hashed bitmap of all bans: most packets end at it, without a lookup. Bits may be set that no ban
 * has; none is missing. Memory-mapped. In host order: what differs must be in the low bits. */
#define SLUICE_GUARD_BAN_GATE_WORDS (1 << 16)
static inline __attribute__((always_inline)) __u32 sluice_guard_ban_bit(__u64 high, __u64 low,
                                                                        __u32 length) {
  return sluice_guard_hash6(0x5bd1e9955bd1e995ULL, high, low, length) &
         (SLUICE_GUARD_BAN_GATE_WORDS * 64 - 1);
}

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
struct sluice_guard_rule_count {
  __u64 packets; /* that the rule matched */
  __u64 bytes;
  __u64 dropped;    /* packets of them that it dropped */
  __u64 would_drop; /* or would have, if it did not audit */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_guard_rule_count) == 32, "sluice_guard_rule_count");

/* Whose a counter is; read by user space alone, so that a successor finds its counters again. */
#define SLUICE_GUARD_NAME_TEXT 112
struct sluice_guard_name {
  __u64 hash; /* FNV-1a of the whole name */
  __u8 used;
  __u8 action; /* GuardAction */
  __u16 order; /* among the rules in force; 65535: prepared; 65534: in force again if a trial ends so */
  __u8 audit;
  __u8 reserved;
  __u16 before; /* while on trial: 1 + its order among the rules before; 0: none of them */
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
  SLUICE_GUARD_DROP_LIMIT,
  SLUICE_GUARD_DROP_BAN,
  SLUICE_GUARD_DROP_SOURCE_SYN,
  SLUICE_GUARD_DROP_SERVICE_SYN,
  SLUICE_GUARD_REASONS,
};
#define SLUICE_GUARD_FIRST_DROP SLUICE_GUARD_DROP_RULE
/* What was odd about packets that were judged nevertheless; counted behind the reasons. */
enum sluice_guard_note {
  SLUICE_GUARD_NOTE_FRAGMENT = SLUICE_GUARD_REASONS, /* a later fragment: judged without ports */
  SLUICE_GUARD_NOTE_EXTENSIONS, /* more than eight IPv6 headers: judged by addresses alone */
  SLUICE_GUARD_NOTE_TRUNCATED,  /* ends before its ports: judged without */
  SLUICE_GUARD_NOTE_AUDIT,      /* would have been dropped, but the rule or limit only audits */
  SLUICE_GUARD_NOTE_UNREPORTED, /* dropped while somebody watched, and not among the sample */
  SLUICE_GUARD_NOTE_NO_SOURCE,  /* no SYN bucket could be made for its source */
  SLUICE_GUARD_NOTE_NO_SERVICE, /* or its service */
  SLUICE_GUARD_NOTE_NO_MONITOR_SERVICE, /* the monitor could not make an entry */
  SLUICE_GUARD_NOTE_NO_MONITOR_SOURCE,
  SLUICE_GUARD_NOTE_LOST, /* events of the sample that found the ring full */
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
  __u16 counter;  /* of the rule that decided, or SLUICE_GUARD_NO_RULE */
  __u8 reason;
  __u8 version; /* 4 or 6 */
  __u8 audit;   /* 1: it passed, for that rule or limit only audits */
  __u8 egress;
  __u32 bytes;
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
