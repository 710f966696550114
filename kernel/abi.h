/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What BPF programs and C++ agree on. Fixed widths, no padding that is not named, checked on both sides.
 * Change a layout, a map's key or its flags, and raise the version: the pins of another version are left alone. */
#ifndef SLUICE_KERNEL_ABI_H
#define SLUICE_KERNEL_ABI_H

#include <linux/types.h>

#define SLUICE_ABI_VERSION 4

/* Every rule set has two slots; the low bit of the epoch says which is read. */
#define SLUICE_SLOTS 2

/* BPF_F_INNER_MAP of linux/bpf.h: inner arrays may differ in size. */
#define SLUICE_F_INNER_MAP (1U << 12)

#ifdef __cplusplus
#define SLUICE_ABI_ASSERT(condition, text) static_assert(condition, text)
#else
#define SLUICE_ABI_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* The one word that a program reads once per packet. Memory-mapped: a switch is a store. */
struct sluice_state {
  __u64 epoch;      /* low bit: the slot in force */
  __u64 generation; /* of the plan in force, for people */
};
SLUICE_ABI_ASSERT(sizeof(struct sluice_state) == 16, "sluice_state");

#endif
