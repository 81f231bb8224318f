/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* answer ARP -> back to the sender | drop. From intent, never by asking. */
#pragma once

#include "stages/guard.h"

struct arp_frame {
	__u8 destination[MAC_BYTES];
	__u8 source[MAC_BYTES];
	__be16 ethertype;
	struct arp_message arp;
} __attribute__((packed));

static __always_inline bool write_arp_reply(struct __sk_buff *skb, struct arp_frame *frame,
					    const __u8 *mac)
{
	struct arp_message request = frame->arp;

	copy_mac(frame->destination, request.sender_mac);
	copy_mac(frame->source, mac);
	frame->arp.operation = bpf_htons(ARP_REPLY);
	copy_mac(frame->arp.sender_mac, mac);
	__builtin_memcpy(frame->arp.sender_ip, request.target_ip, 4);
	copy_mac(frame->arp.target_mac, request.sender_mac);
	__builtin_memcpy(frame->arp.target_ip, request.sender_ip, 4);
	return !bpf_skb_store_bytes(skb, 0, frame, sizeof(*frame), 0);
}

/* Nobody known has the address: those may, of whom only their frames tell. */
static __always_inline int ask(struct packet *packet, enum drop_reason unknown)
{
	if (!ask_unknown(packet))
		return drop(packet, STAGE_ANSWER, unknown);
	return pass(packet, STAGE_ANSWER);
}

/* RFC 826. Replies that a VM sends go on to whom they are addressed. */
__noinline int answer_arp(struct __sk_buff *skb, struct packet *packet)
{
	__u8 target[ADDRESS_BYTES] __attribute__((aligned(4)));
	struct neighbor *neighbor;
	struct arp_frame frame;

	if (!packet)
		return OUTCOME_DROP;
	if (bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame)))
		return drop(packet, STAGE_ANSWER, DROP_MALFORMED);
	if (frame.arp.operation != bpf_htons(ARP_REQUEST)) {
		if (destination_mac(packet)[0] & 1 && !packet->is_announcement)
			return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED,
					    OUTCOME_CONSUMED);
		return pass(packet, STAGE_ANSWER);
	}
	if (packet->is_announcement &&
	    load_ipv4(frame.arp.target_ip) == load_ipv4(frame.arp.sender_ip))
		return pass(packet, STAGE_ANSWER);
	map_ipv4(target, load_ipv4(frame.arp.target_ip));
	neighbor = find_neighbor(packet, packet->network, target);
	if (!neighbor)
		return ask(packet, DROP_ARP_UNKNOWN);
	if (is_own_neighbor(packet, neighbor))
		return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED, OUTCOME_CONSUMED);
	if (!write_arp_reply(skb, &frame, neighbor->mac))
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	return decide_stage(packet, STAGE_ANSWER, DECISION_ARP_REPLY, OUTCOME_ANSWER);
}
