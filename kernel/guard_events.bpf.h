/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Counting, and a sample of drops for people who watch. */
#ifndef SLUICE_KERNEL_GUARD_EVENTS_BPF_H
#define SLUICE_KERNEL_GUARD_EVENTS_BPF_H

#include "kernel/guard_maps.bpf.h"
#include "kernel/packet.bpf.h"

static __always_inline void guard_tally(__u32 what, const struct packet* p) {
  struct sluice_guard_count* count = bpf_map_lookup_elem(&guard_tallies, &what);
  if (!count) return;
  count->packets += p->segments;
  count->bytes += p->bytes;
}

static __always_inline void guard_notes(const struct packet* p) {
  if (p->parts & PACKET_LATER_FRAGMENT) guard_tally(SLUICE_GUARD_NOTE_FRAGMENT, p);
  if (p->parts & PACKET_TOO_MANY_EXTENSIONS) guard_tally(SLUICE_GUARD_NOTE_EXTENSIONS, p);
  if (p->parts & PACKET_TRUNCATED) guard_tally(SLUICE_GUARD_NOTE_TRUNCATED, p);
}

static __always_inline bool guard_may_report(__u64 now) {
  __u32 zero = 0;
  struct sluice_guard_budget* budget = bpf_map_lookup_elem(&guard_budget, &zero);
  if (!budget) return false;
  __u64 window = now / SLUICE_GUARD_EVENT_WINDOW;
  if (budget->window != window) {
    budget->window = window;
    budget->used = 0;
  }
  return budget->used++ < SLUICE_GUARD_EVENTS_PER_WINDOW;
}

/* `reason` of what was dropped, or, with `audit`, would have been. */
static __always_inline void guard_report(const struct packet* p,
                                         const struct sluice_guard_state* state, __u32 reason,
                                         __u32 counter, bool audit, __u32 interface_index) {
  if (!state->events_until) return;
  __u64 now = bpf_ktime_get_ns();
  if (now >= state->events_until) return;
  struct sluice_guard_event* event = 0;
  if (guard_may_report(now)) {
    event = bpf_ringbuf_reserve(&guard_events, sizeof(*event), 0);
    if (!event) guard_tally(SLUICE_GUARD_NOTE_LOST, p);
  }
  if (!event) {
    guard_tally(SLUICE_GUARD_NOTE_UNREPORTED, p);
    return;
  }
  event->when = now;
  __builtin_memcpy(event->from, p->from, 16);
  __builtin_memcpy(event->to, p->to, 16);
  bool ports = p->parts & PACKET_HAS_PORTS;
  event->from_port = ports ? p->from_port : SLUICE_GUARD_NO_PORT;
  event->to_port = ports ? p->to_port : SLUICE_GUARD_NO_PORT;
  event->interface_index = interface_index;
  event->protocol = p->protocol;
  event->counter = counter;
  event->reason = reason;
  event->version = p->version;
  event->audit = audit;
  event->egress = p->egress;
  event->bytes = p->bytes;
  bpf_ringbuf_submit(event, 0);
}

#endif
