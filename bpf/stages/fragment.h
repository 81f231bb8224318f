/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse -> fragment -> flow
 *
 * Only the first fragment of a packet has ports. They are kept for the later
 * ones, which then belong to the same flow. A later one that overtakes the
 * first is an orphan, about which policy decides.
 */
#pragma once

#include "stages/parse.h"
#include "stages/trace.h"

#define FRAGMENT_LIFETIME_NS 30000000000ull /* as Linux' reassembly, net.ipv4.ipfrag_time */

__noinline int stage_fragment(struct __sk_buff *skb, struct packet *packet)
{
	struct fragment_key key = {};
	struct fragment *known;

	if (!packet)
		return -1;
	key.ifindex = packet->key.ifindex;
	key.identification = packet->identification;
	key.l4_protocol = is_ipv4(packet) ? packet->key.l4_protocol : 0;
	copy_address(key.source, packet->key.source);
	copy_address(key.destination, packet->key.destination);
	if (packet->fragment == FRAGMENT_FIRST) {
		struct fragment first = {
			.seen_at = bpf_ktime_get_coarse_ns(),
			.source_port_be = packet->key.source_port_be,
			.destination_port_be = packet->key.destination_port_be,
			.l4_protocol = packet->key.l4_protocol,
		};

		if ((packet->trackable || is_multicast(packet)) && !trace_of(skb))
			bpf_map_update_elem(&fragments, &key, &first, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known || bpf_ktime_get_coarse_ns() - known->seen_at > FRAGMENT_LIFETIME_NS)
		return 0;
	packet->key.source_port_be = known->source_port_be;
	packet->key.destination_port_be = known->destination_port_be;
	packet->key.l4_protocol = known->l4_protocol;
	if (is_icmp(packet))
		packet->icmp_type = bpf_ntohs(known->destination_port_be) >> 8;
	packet->trackable = !is_multicast(packet);
	return 0;
}
