/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A traced packet is one that BPF_PROG_TEST_RUN sends with TRACE_MARK. It walks
 * the same stages over the same maps, but writes to no flow, counter or budget;
 * what each stage decided is left in the trace's slot.
 */
#pragma once

#include "shared/packet.h"

static __always_inline void record_trace(const struct packet *packet)
{
	__u32 slot = packet->trace - 1;
	struct trace_record *record = bpf_map_lookup_elem(&traces, &slot);

	if (!record)
		return;
	for (int stage = 0; stage < STAGE_COUNT; stage++)
		record->decisions[stage] = packet->decisions[stage];
	record->drop_reason = packet->drop_reason;
	record->to_ifindex = packet->to_ifindex;
	record->to_host = packet->to_host;
	record->copies = packet->copies;
	record->host_copies = packet->host_copies;
	record->router = packet->router;
	record->to_network = packet->to_network;
	record->cached_ifindex = packet->cached_ifindex;
	record->route_bits = packet->route_bits;
	record->hops = packet->hops;
	record->blamed_ifindex = packet->blamed_ifindex;
	record->from_rule = packet->from_rule;
	record->to_rule = packet->to_rule;
	record->connection_state = packet->connection_state;
	copy_address(record->via, packet->via);
}
