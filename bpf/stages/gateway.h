/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gateway -> answer | policy | deliver to another host | drop
 *
 * Routers for machines behind foreign VTEPs. Each host that has a router's rows is
 * this router, with the same MAC and addresses, and answers and routes what reaches
 * it; which host that is makes no difference, and may change with each frame. Frames
 * of heddle's hosts never come here, so that none is routed at two hosts.
 */
#pragma once

#include "stages/arrive.h"
#include "stages/deliver.h"
#include "stages/route.h"

/* Answers to what routers asked (solicit.h) have been learned when they come here. */
static __always_inline int answer_foreign(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->router)
		return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED, OUTCOME_CONSUMED);
	return packet->ethertype_be == BE16_ARP ? answer_arp(skb, packet) : answer_nd(skb, packet);
}

/* Does the way back to the source lead to where the packet came from? Rules about the
 * members of a group rest on that. */
static __always_inline bool is_plausible_source(const struct packet *packet)
{
	struct route *back = find_route_back(packet->router, packet);

	if (is_link_local6(packet->key.source))
		return true; /* routed nowhere, but may ping the router */
	return back && back->network == packet->network &&
	       !(back->kind == ROUTE_VIA && is_of_another(packet, back->via));
}

/* The connection is one of the network of its port, as any with another host; but the
 * next packet may come from another network as well, or by another host. */
static __always_inline void enter_network_of_port(struct packet *packet)
{
	struct flow_key key;

	packet->key.ifindex = zone_of(packet->to_network);
	key = packet->key; /* 6.1 wants keys on the stack */
	packet->has_entry = bpf_map_lookup_elem(&flows, &key);
	packet->is_movable = true;
	packet->epoch_slot = packet->to_network % EPOCH_SLOTS;
	packet->epoch = current_epoch(packet->epoch_slot);
}

static __always_inline int stage_gateway(struct __sk_buff *skb, struct packet *packet)
{
	int outcome;

	if (packet->ethertype_be == BE16_ARP || is_nd(packet))
		return answer_foreign(skb, packet);
	if (!is_plausible_source(packet))
		return drop(packet, STAGE_GUARD, DROP_SOURCE_IP);
	packet->arrived_in = packet->network;
	outcome = stage_route(packet);
	if (outcome == OUTCOME_SERVE)
		return serve(skb, packet, STAGE_ROUTE);
	/* Another host of heddle's asks the rules of its port, a foreign one has none. */
	if (outcome != OUTCOME_PORT || is_zone(packet->to_ifindex))
		return outcome;
	enter_network_of_port(packet);
	return stage_policy(skb, packet, outcome);
}

static __always_inline int deliver_routed(struct __sk_buff *skb, struct packet *packet)
{
	struct changes changes = { .macs = packet->sent_macs, .hops = packet->hops };
	struct vtep *vtep;

	if (!rewrite(skb, changes))
		return drop(packet, STAGE_DELIVER, DROP_INTERNAL);
	if (!is_zone(packet->to_ifindex))
		return deliver_arrived(skb, packet);
	vtep = find_vtep(packet->to_host);
	if (!vtep)
		return drop(packet, STAGE_DELIVER, DROP_NO_VTEP);
	decide_stage(packet, STAGE_DELIVER, DECISION_DELIVER_TUNNEL, OUTCOME_PORT);
	if (packet->trackable)
		give_hash(skb, packet);
	return send_to_host(skb, vtep, packet->device, packet->to_network, 0);
}
