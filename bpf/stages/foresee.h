/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The reply to a SYN, decided before it comes. Nearly each one is answered by the
 * port that gets it, with the MACs and addresses that the SYN has shown, and along
 * the same router or none. Then all that the reply's stages would say follows from
 * the opener's way and three lookups, and it is spared the slow path. Whatever could
 * make the stages say anything else leaves it to them.
 */
#pragma once

#include "stages/flow.h"
#include "stages/route.h"

static __always_inline bool has_address(__u32 network, const __u8 *address, __u32 ifindex,
					const __u8 *mac)
{
	struct neighbor *neighbor = find_assigned(network, address);

	return neighbor && neighbor->kind == ENDPOINT_PORT && neighbor->target == ifindex &&
	       same_mac(neighbor->mac, mac);
}

/* guard: would the receiver speak for itself? */
static __always_inline bool may_answer(const struct packet *packet, const struct port *to)
{
	return same_mac(packet->sent_macs, to->mac) &&
	       has_address(packet->to_network, packet->key.destination, packet->to_ifindex, to->mac);
}

/* switch: would the MAC of the sender lead to it? */
static __always_inline bool switches_back(const struct packet *packet)
{
	struct mac_key key = { .network = packet->network };
	struct endpoint *endpoint;

	copy_mac(key.mac, source_mac(packet));
	endpoint = bpf_map_lookup_elem(&macs, &key);
	return endpoint && endpoint->kind == ENDPOINT_PORT &&
	       endpoint->target == packet->key.ifindex;
}

/* route: would the same router know the sender on its own link? */
static __always_inline bool routes_back(const struct packet *packet)
{
	struct route *route;

	if (packet->hops != 1 || packet->decisions[STAGE_ROUTE] != DECISION_ROUTE_CONNECTED ||
	    !is_routable(packet, packet->key.destination, packet->key.source))
		return false;
	route = find_route(packet, packet->router, packet->key.source);
	return route && route->kind == ROUTE_CONNECTED && route->network == packet->network &&
	       has_address(packet->network, packet->key.source, packet->key.ifindex,
			   source_mac(packet));
}

static __always_inline bool is_foreseeable(const struct packet *packet, const struct port *from,
					   const struct port *to)
{
	if (packet->is_movable || is_elsewhere(from) || is_elsewhere(to))
		return false;
	return may_answer(packet, to) &&
	       (packet->hops ? routes_back(packet) : switches_back(packet));
}

/* Write down what the reply's stages would, if that is beyond doubt: neither has intent
 * changed since the SYN's first stage read any. A function of its own for the sake
 * of the stack. */
__noinline int foresee(struct packet *packet, struct port *from, struct port *to,
		       struct flow *reply)
{
	if (!packet || !from || !to || !reply)
		return -1;
	if (current_epoch(packet->epoch_slot) != packet->epoch ||
	    !is_foreseeable(packet, from, to))
		return -1;
	reply->flags = write_ends(reply, to, from);
	copy_mac(reply->received_macs, packet->sent_macs + MAC_BYTES);
	copy_mac(reply->received_macs + MAC_BYTES, packet->sent_macs);
	copy_mac(reply->sent_macs, source_mac(packet));
	copy_mac(reply->sent_macs + MAC_BYTES,
		 packet->hops ? destination_mac(packet) : packet->sent_macs);
	reply->to_network = packet->network;
	reply->epoch_slot = packet->to_network % EPOCH_SLOTS;
	reply->epoch = packet->reply_epoch;
	reply->mtu = from->mtu;
	reply->hops = packet->hops;
	reply->ifindex = packet->key.ifindex;
	return 0;
}
