/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many packets a port may send and get, and how much it may flood. A rate
 * is kept as one number, the time up to which it is used up (GCRA, ITU-T I.371
 * annex A): a packet passes when that lies no more than a burst ahead.
 */
#pragma once

#include "shared/packet.h"

#define FLOOD_UNIT_NS (1000000000ull / FLOOD_UNITS_PER_SECOND)
#define FLOOD_AHEAD_NS 1000000000ull

static __always_inline struct pace *pace_of(__u32 slot)
{
	return bpf_map_lookup_elem(&paces, &slot);
}

/* Two CPUs may both take the last packet of a burst, which is cheaper than a lock. */
static __always_inline void use_up(__u64 *until, __u64 now, __u64 ns)
{
	__u64 start = *until;

	if (start < now)
		*until = now + ns;
	else
		__sync_fetch_and_add(until, ns);
}

static __always_inline bool within_rate(__u64 *until, __u64 packet_ns, __u32 burst, bool spend)
{
	__u64 now = bpf_ktime_get_ns();

	if (*until > now && *until + packet_ns > now + burst * packet_ns)
		return false;
	if (spend)
		use_up(until, now, packet_ns);
	return true;
}

static __always_inline bool may_send(const struct port *port, bool spend)
{
	struct pace *pace = port->from_vm_packet_ns ? pace_of(port->counter_slot) : NULL;

	return !pace || within_rate(&pace->from_vm, port->from_vm_packet_ns, port->packet_burst,
				    spend);
}

static __always_inline bool may_receive(const struct port *port, bool spend)
{
	struct pace *pace = port->to_vm_packet_ns ? pace_of(port->counter_slot) : NULL;

	return !pace || within_rate(&pace->to_vm, port->to_vm_packet_ns, port->packet_burst, spend);
}

/* The copies of a flooded packet are known when it is too late: they are paid
 * for by those that follow. */
static __always_inline bool may_flood(const struct port *port)
{
	struct pace *pace = pace_of(port->counter_slot);

	return pace && pace->flood <= bpf_ktime_get_ns() + FLOOD_AHEAD_NS;
}

static __always_inline void pay_flood(const struct port *port, const __u8 *mac, __u32 copies)
{
	struct pace *pace = pace_of(port->counter_slot);
	__u64 units = copies + (mac[0] == 0xff ? FLOOD_UNITS_BROADCAST : FLOOD_UNITS_MULTICAST);

	if (pace)
		use_up(&pace->flood, bpf_ktime_get_ns(), units * FLOOD_UNIT_NS);
}
