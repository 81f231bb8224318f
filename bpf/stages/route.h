/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * route -> deliver | answer (ping) | drop, with an ICMP error where one is due
 *
 * Longest prefix in the router's table, then the neighbor by exact address.
 * A next hop may be another router; ROUTER_HOPS_MAX of them in a row.
 */
#pragma once

#include "stages/switch.h"

static __always_inline int unreachable(struct packet *packet, enum drop_reason reason, __u8 code4,
				       __u8 code6)
{
	return drop_with_error(packet, STAGE_ROUTE, reason,
			       is_ipv4(packet) ? ICMP_DEST_UNREACH : ICMP6_UNREACHABLE,
			       is_ipv4(packet) ? code4 : code6);
}

/* Addresses that stay on their link or host (RFC 1812 5.3.7, RFC 3927 7,
 * RFC 4291 2.5.6). */
static __always_inline bool is_routable(const struct packet *packet, const __u8 *source,
					const __u8 *destination)
{
	if (is_ipv4(packet))
		return destination[12] < 224 && destination[12] != 127 && destination[12] != 0 &&
		       !(destination[12] == 169 && destination[13] == 254) && source[12] != 127 &&
		       !(source[12] == 169 && source[13] == 254) && mapped_ipv4(source);
	return destination[0] != 0xff && !is_link_local6(destination) && !is_link_local6(source) &&
	       !is_unspecified(source) && !is_unspecified(destination);
}

/* A router has a link-local address on each of its links. */
static __always_inline bool is_router_link_local(const struct packet *packet)
{
	__u8 own[ADDRESS_BYTES] __attribute__((aligned(4)));

	if (!is_ipv6(packet))
		return false;
	link_local_of(own, destination_mac(packet));
	return same_address(own, packet->key.destination);
}

static __always_inline int serve_router(struct packet *packet)
{
	packet->to_network = packet->network;
	return decide_stage(packet, STAGE_ROUTE, DECISION_ROUTE_LOCAL, OUTCOME_SERVE);
}

static __always_inline struct route *find_route(const struct packet *packet, __u32 router,
						const __u8 *destination)
{
	struct route *route;
	struct route_key key = {
		.prefix_bits = 32 + 8 * ADDRESS_BYTES,
		.router = router,
	};

	copy_address(key.address, destination);
	route = bpf_map_lookup_elem(&routes, &key);
	return route && route->ip_version == (is_ipv4(packet) ? 4 : 6) ? route : NULL;
}

/* In a network with foreign members somebody may have it of whom nothing is known yet
 * (stages/solicit.h). */
static __always_inline int miss_neighbor(struct packet *packet, const __u8 *address)
{
	struct tunnel_network *network = find_tunnel_network(packet->to_network);

	packet->is_for_foreign = network && network->flags & TUNNEL_LEARN;
	copy_address(packet->wanted, address);
	return unreachable(packet, DROP_NO_NEIGHBOR, ICMP_HOST_UNREACH, ICMP6_ADDRESS_UNREACHABLE);
}

/* Last checks of a routed packet that has found its port. */
static __always_inline int route_to_port(struct packet *packet, const struct neighbor *neighbor,
					 const struct route *route)
{
	struct router_interface *interface = find_router_interface(packet->router, route->network);

	if (!interface)
		return drop(packet, STAGE_ROUTE, DROP_INTERNAL);
	if (neighbor->kind == ENDPOINT_PORT && neighbor->target == packet->key.ifindex &&
	    same_address(packet->key.source, packet->key.destination))
		packet->trackable = false; /* from one address to itself: no reply to tell apart */
	packet->mtu = interface->mtu;
	if (packet->segment_bytes > packet->mtu)
		return drop_too_big(packet, STAGE_ROUTE);
	aim(packet, neighbor->kind, neighbor->target);
	if (is_zone(packet->to_ifindex) && check_path(packet, STAGE_ROUTE) == OUTCOME_DROP)
		return OUTCOME_DROP;
	copy_mac(packet->sent_macs, neighbor->mac);
	copy_mac(packet->sent_macs + MAC_BYTES, interface->mac);
	return decide_stage(packet, STAGE_ROUTE,
			    route->kind == ROUTE_VIA ? DECISION_ROUTE_STATIC :
						       DECISION_ROUTE_CONNECTED,
			    OUTCOME_PORT);
}

/* One router: OUTCOME_NEXT when the packet goes to another one. */
static __always_inline int route_once(struct packet *packet)
{
	struct route *route = find_route(packet, packet->router, packet->key.destination);
	struct neighbor *neighbor;
	const __u8 *address;

	if (!route)
		return unreachable(packet, DROP_NO_ROUTE, ICMP_NET_UNREACH, ICMP6_NO_ROUTE);
	packet->route_bits = route->bits;
	if (route->kind == ROUTE_BLACKHOLE)
		return drop(packet, STAGE_ROUTE, DROP_BLACKHOLE);
	packet->to_network = route->network; /* rules about members of a group ask for it */
	if (route->kind == ROUTE_VIA)
		copy_address(packet->via, route->via);
	address = route->kind == ROUTE_VIA ? route->via : packet->key.destination;
	neighbor = find_neighbor(packet, route->network, address);
	if (neighbor && !is_port(neighbor->kind) && route->kind == ROUTE_CONNECTED)
		return serve_router(packet);
	if (packet->ttl <= packet->hops + 1)
		return drop_with_error(packet, STAGE_ROUTE, DROP_TTL_EXCEEDED,
				       is_ipv4(packet) ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED,
				       0);
	if (!neighbor)
		return miss_neighbor(packet, address);
	if (neighbor->kind == ENDPOINT_SERVICE)
		return unreachable(packet, DROP_NO_NEIGHBOR, ICMP_HOST_UNREACH,
				   ICMP6_ADDRESS_UNREACHABLE);
	packet->hops++;
	if (is_port(neighbor->kind))
		return route_to_port(packet, neighbor, route);
	packet->router = neighbor->target;
	packet->router_network = route->network;
	return OUTCOME_NEXT;
}

__noinline int stage_route(struct packet *packet)
{
	if (!packet)
		return OUTCOME_DROP;
	if (is_router_link_local(packet))
		return serve_router(packet);
	if (!is_routable(packet, packet->key.source, packet->key.destination))
		return drop(packet, STAGE_ROUTE, DROP_ROUTED_MULTICAST);
	for (int i = 0; i < ROUTER_HOPS_MAX; i++) {
		int outcome = route_once(packet);

		if (outcome != OUTCOME_NEXT)
			return outcome;
	}
	return drop(packet, STAGE_ROUTE, DROP_ROUTE_LOOP);
}
