/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Room for what is learned from packets. Each port and each other host fills slots of
 * its own in turn, so that whoever speaks from more MACs or addresses than those
 * pushes out what was learned of itself alone.
 */
#pragma once

#include "shared/packet.h"

static __always_inline __u32 slot_owner(__u32 kind, __u32 target)
{
	return kind == ENDPOINT_REMOTE ? TUNNEL_ZONE | target : target;
}

static __always_inline __u32 slots_of(__u32 owner, __u32 kind)
{
	if (owner & TUNNEL_ZONE)
		return LEARNED_HOST_MAX;
	return kind == LEARNED_OPEN_MAC || kind == LEARNED_OPEN_ADDRESS ? OPEN_PORT_MAX :
									  PAIRS_PORT_MAX;
}

static __always_inline __u16 next_slot(__u32 owner, __u32 kind)
{
	struct learned_counts fresh = {}, *counts = bpf_map_lookup_elem(&learned_counts, &owner);

	if (!counts) {
		bpf_map_update_elem(&learned_counts, &owner, &fresh, BPF_NOEXIST);
		counts = bpf_map_lookup_elem(&learned_counts, &owner);
	}
	if (!counts || kind >= LEARNED_KIND_COUNT)
		return 0;
	return __sync_fetch_and_add(&counts->taken[kind], 1) % slots_of(owner, kind);
}

/* Remove the owner's row of a table; what another has learned since is not its own. */
#define FORGET(table, key, owner)                                                   \
	do {                                                                        \
		struct endpoint *row = bpf_map_lookup_elem(&(table), &(key));       \
                                                                                    \
		if (row && slot_owner(row->kind, row->target) == (owner))           \
			bpf_map_delete_elem(&(table), &(key));                      \
	} while (0)

/* A MAC stands in the first bytes of the address. */
static __always_inline void forget_learned(__u32 owner, __u32 kind, const struct address_key *gone)
{
	struct mac_key mac = { .network = gone->network };
	struct address_key key = *gone;

	copy_mac(mac.mac, key.address);
	switch (kind) {
	case LEARNED_OPEN_MAC:
		FORGET(open_macs, mac, owner);
		break;
	case LEARNED_OPEN_ADDRESS:
		FORGET(open_addresses, key, owner);
		break;
	case LEARNED_MAC:
		FORGET(learned_macs, mac, owner);
		break;
	case LEARNED_ADDRESS:
		FORGET(learned_addresses, key, owner);
		break;
	}
}

/* Note down what the owner is about to have learned, in place of its oldest. */
__noinline int take_slot(__u32 owner, __u32 kind, struct address_key *learned)
{
	struct learned_slot_key key = { .owner = owner, .kind = kind };
	struct address_key *oldest, item;

	if (!learned)
		return -1;
	key.slot = next_slot(owner, kind);
	oldest = bpf_map_lookup_elem(&learned_slots, &key);
	if (oldest)
		forget_learned(owner, kind, oldest);
	item = *learned; /* 6.1 wants values on the stack */
	bpf_map_update_elem(&learned_slots, &key, &item, BPF_ANY);
	return 0;
}
