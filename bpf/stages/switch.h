/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* switch -> deliver | flood | route | drop. By destination MAC, in one network. */
#pragma once

#include "shared/packet.h"
#include "stages/echo.h"
#include "stages/icmp_error.h"

/* 01:80:c2:00:00:00 to :0f stay on their link (IEEE 802.1Q table 8-1). */
static __always_inline bool is_link_reserved(const __u8 *mac)
{
	return mac[0] == 0x01 && mac[1] == 0x80 && mac[2] == 0xc2 && !mac[3] && !mac[4] &&
	       mac[5] <= 0x0f;
}

/* A packet to an address of heddle's own: ping and nothing else. */
static __always_inline int serve(struct __sk_buff *skb, struct packet *packet, enum stage stage)
{
	if (is_echo_request(packet)) {
		if (answer_echo(skb, packet) != OUTCOME_ANSWER)
			return drop(packet, stage, DROP_INTERNAL);
		return decide_stage(packet, stage, DECISION_ECHO_REPLY, OUTCOME_ANSWER);
	}
	if (packet->key.l4_protocol == IPPROTO_UDP)
		return drop_with_error(packet, stage, DROP_ROUTER_SERVICE,
				       is_ipv4(packet) ? ICMP_DEST_UNREACH : ICMP6_UNREACHABLE,
				       is_ipv4(packet) ? ICMP_PORT_UNREACH :
							 ICMP6_PORT_UNREACHABLE);
	return drop(packet, stage, DROP_ROUTER_SERVICE);
}

static __always_inline int drop_too_big(struct packet *packet, enum stage stage)
{
	return drop_with_error(packet, stage, DROP_TOO_BIG,
			       is_ipv4(packet) ? ICMP_DEST_UNREACH : ICMP6_TOO_BIG,
			       is_ipv4(packet) ? ICMP_FRAG_NEEDED : 0);
}

/* Is there a way to the other host, and is it wide enough? */
static __always_inline int check_path(struct packet *packet, enum stage stage)
{
	struct vtep *vtep = find_vtep(packet->to_host);

	if (!vtep)
		return drop(packet, stage, DROP_NO_VTEP);
	if (fits_path(packet, vtep))
		return OUTCOME_NEXT;
	packet->mtu = vtep->mtu;
	drop_too_big(packet, stage);
	packet->drop_reason = DROP_TUNNEL_MTU;
	return OUTCOME_DROP;
}

static __always_inline void aim_at_port(struct packet *packet, __u32 ifindex)
{
	packet->to_ifindex = ifindex;
	packet->to_host = 0;
}

static __always_inline void aim_at_host(struct packet *packet, __u32 host)
{
	packet->to_ifindex = zone_of(packet->network);
	packet->to_host = host;
}

/* Take note of who gets it: a port here, or one at another host. */
static __always_inline void aim(struct packet *packet, __u32 kind, __u32 target)
{
	struct port *port = kind == ENDPOINT_PORT ? find_port(target) : NULL;

	if (kind == ENDPOINT_REMOTE)
		aim_at_host(packet, target);
	else if (port && is_elsewhere(port))
		aim_at_host(packet, port->elsewhere);
	else
		aim_at_port(packet, target);
}

/* The packet has been aimed. */
static __always_inline int switch_to_port(struct packet *packet)
{
	bool is_remote = is_zone(packet->to_ifindex);

	if (packet->to_ifindex == packet->key.ifindex && !is_remote)
		return drop(packet, STAGE_SWITCH, DROP_TO_ITSELF);
	packet->to_network = packet->network;
	__builtin_memcpy(packet->sent_macs, packet->macs, sizeof(packet->sent_macs));
	if (packet->segment_bytes > packet->mtu)
		return drop_too_big(packet, STAGE_SWITCH);
	if (is_remote && check_path(packet, STAGE_SWITCH) == OUTCOME_DROP)
		return OUTCOME_DROP;
	return decide_stage(packet, STAGE_SWITCH,
			    is_remote ? DECISION_SWITCH_REMOTE : DECISION_SWITCH_UNICAST,
			    OUTCOME_PORT);
}

static __always_inline int switch_to_service(struct packet *packet)
{
	struct neighbor *neighbor = find_neighbor(packet, packet->network, packet->key.destination);

	if (!neighbor || neighbor->kind != ENDPOINT_SERVICE)
		return drop(packet, STAGE_SWITCH, DROP_NO_ROUTE);
	packet->to_network = packet->network;
	return decide_stage(packet, STAGE_SWITCH, DECISION_PASS, OUTCOME_SERVE);
}

static __always_inline bool is_port(__u32 endpoint_kind)
{
	return endpoint_kind == ENDPOINT_PORT || endpoint_kind == ENDPOINT_REMOTE;
}

/* Is it for the MAC that it comes from, behind an open port? That has been learned
 * meanwhile, but not from a traced packet. */
static __always_inline bool is_to_own_guest(const struct packet *packet)
{
	struct port *from = same_mac(source_mac(packet), destination_mac(packet)) ?
				    port_at(packet->key.ifindex) :
				    NULL;

	return from && from->flags & PORT_OPEN;
}

/* Of all other ports the MACs are known. */
static __always_inline int flood_unknown(struct packet *packet)
{
	if (is_to_own_guest(packet))
		return drop(packet, STAGE_SWITCH, DROP_TO_ITSELF);
	if (!ask_unknown(packet))
		return drop(packet, STAGE_SWITCH, DROP_UNKNOWN_MAC);
	packet->to_network = packet->network;
	if (packet->segment_bytes > packet->mtu)
		return drop_too_big(packet, STAGE_SWITCH);
	return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_FLOOD, OUTCOME_FLOOD);
}

static __always_inline int stage_switch(struct packet *packet)
{
	const __u8 *mac = destination_mac(packet);
	struct endpoint *endpoint;

	if (mac[0] & 1) {
		if (is_link_reserved(mac))
			return drop(packet, STAGE_SWITCH, DROP_LINK_RESERVED);
		packet->to_network = packet->network;
		return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_FLOOD, OUTCOME_FLOOD);
	}
	endpoint = find_endpoint(packet, packet->network, mac);
	if (!endpoint)
		return flood_unknown(packet);
	if (is_port(endpoint->kind)) {
		aim(packet, endpoint->kind, endpoint->target);
		return switch_to_port(packet);
	}
	if (packet->ethertype_be == BE16_ARP) /* a reply to ARP that heddle never sent */
		return decide_stage(packet, STAGE_SWITCH, DECISION_CONSUMED, OUTCOME_CONSUMED);
	if (endpoint->kind == ENDPOINT_SERVICE)
		return switch_to_service(packet);
	packet->router = endpoint->target;
	packet->router_network = packet->network;
	return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_TO_ROUTER, OUTCOME_NEXT);
}
