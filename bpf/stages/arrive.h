/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * arrive -> policy | flood | gateway | on to the host that has the port now | drop
 *
 * What came from another host has been guarded, answered and routed there. Left to
 * do is to find its port by the destination MAC, and to learn where it came from
 * what no intent says.
 */
#pragma once

#include "shared/foreign.h"
#include "stages/answer_nd.h"
#include "stages/switch.h"
#include "stages/tunnel.h"

/* ---- learning ----------------------------------------------------------------- */

/* The host behind a source MAC: who sent the envelope, unless that was a relay. 0:
 * not another host, so nothing is to be learned. */
static __always_inline __u32 holder_of_source(const struct packet *packet)
{
	struct mac_key key = { .network = packet->network };
	struct endpoint *endpoint;

	copy_mac(key.mac, source_mac(packet));
	endpoint = bpf_map_lookup_elem(&macs, &key);
	if (!endpoint)
		return packet->from_host;
	return endpoint->kind == ENDPOINT_REMOTE ? endpoint->target : 0;
}

/* The address that an ARP message or a neighbor advertisement speaks for; where frames
 * alone tell who is there, a solicitation as well. */
static __always_inline bool load_announced(struct __sk_buff *skb, const struct packet *packet,
					   __u8 *address, bool learns_all)
{
	struct nd_message nd;

	if (learns_all && is_ipv6(packet))
		return load_spoken_for(skb, packet, address) && !is_no_source(address) &&
		       !is_unspecified(address) && !is_link_local6(address);
	if (packet->ethertype_be == BE16_ARP)
		return load_announced_ipv4(skb, packet, address);
	if (!is_nd(packet) || packet->icmp_type != ND_NEIGHBOR_ADVERT || packet->ttl != ND_HOP_LIMIT ||
	    !load_nd(skb, packet, &nd))
		return false;
	copy_address(address, nd.target);
	return !is_no_source(address) && !is_link_local6(address);
}

static __always_inline void learn_mac(const struct packet *packet, __u32 host)
{
	struct endpoint fresh = { .kind = ENDPOINT_REMOTE, .target = host };
	struct mac_key key = { .network = packet->network };
	struct address_key item = {};
	struct endpoint *known;

	copy_mac(key.mac, source_mac(packet));
	known = bpf_map_lookup_elem(&learned_macs, &key);
	if (known && known->kind == ENDPOINT_REMOTE && known->target == host)
		return;
	item.network = key.network;
	copy_mac(item.address, key.mac);
	take_slot(slot_owner(ENDPOINT_REMOTE, host), LEARNED_MAC, &item);
	bpf_map_update_elem(&learned_macs, &key, &fresh, BPF_ANY);
}

/* Allowed address pairs are announced to the whole network. Of members of which only
 * their frames tell, each frame says where its MAC is. */
__noinline int learn_arrived(struct __sk_buff *skb, struct packet *packet, int learns_macs)
{
	struct neighbor holder = { .kind = ENDPOINT_REMOTE };
	struct address_key key = {};
	bool is_announcement;

	if (!packet || source_mac(packet)[0] & 1)
		return -1;
	key.network = packet->network;
	holder.target = holder_of_source(packet);
	if (!holder.target)
		return 0;
	is_announcement = load_announced(skb, packet, key.address, learns_macs);
	if ((learns_macs || is_announcement) && holder.target == packet->from_host)
		learn_mac(packet, holder.target);
	if (!is_announcement || bpf_map_lookup_elem(&addresses, &key))
		return 0;
	copy_mac(holder.mac, source_mac(packet));
	put_learned_address(&key, &holder);
	return 0;
}

/* ---- guard of foreign machines -------------------------------------------------- */

static __always_inline bool speaks_by_arp_for_another(struct __sk_buff *skb,
						      const struct packet *packet)
{
	__u8 sender[ADDRESS_BYTES] __attribute__((aligned(4)));
	struct arp_message arp;

	if (bpf_skb_load_bytes(skb, ETHERNET_BYTES, &arp, sizeof(arp)))
		return false;
	map_ipv4(sender, load_ipv4(arp.sender_ip));
	return is_of_another(packet, sender);
}

static __always_inline bool speaks_by_nd_for_another(struct __sk_buff *skb,
						     const struct packet *packet)
{
	struct nd_message nd;

	return is_nd(packet) && packet->icmp_type == ND_NEIGHBOR_ADVERT &&
	       load_nd(skb, packet, &nd) && is_of_another(packet, nd.target);
}

/* Nobody has guarded what they send: addresses that intent gave to somebody else are
 * not theirs, all others may be. */
__noinline int guard_foreign(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return OUTCOME_DROP;
	if (packet->ethertype_be == BE16_ARP)
		return speaks_by_arp_for_another(skb, packet) ?
			       drop(packet, STAGE_GUARD, DROP_ARP_SPOOF) :
			       pass(packet, STAGE_GUARD);
	if (is_of_another(packet, packet->key.source))
		return drop(packet, STAGE_GUARD, DROP_SOURCE_IP);
	if (speaks_by_nd_for_another(skb, packet))
		return drop(packet, STAGE_GUARD, DROP_ND_SPOOF);
	return pass(packet, STAGE_GUARD);
}

/* ---- questions about routers --------------------------------------------------- */

static __always_inline bool is_arp_about_router(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 target[ADDRESS_BYTES] __attribute__((aligned(4)));
	struct neighbor *neighbor;
	struct arp_message arp;

	if (bpf_skb_load_bytes(skb, ETHERNET_BYTES, &arp, sizeof(arp)) ||
	    arp.operation != bpf_htons(ARP_REQUEST) || arp.protocol_type != BE16_IPV4 ||
	    arp.hardware_bytes != MAC_BYTES || arp.protocol_bytes != 4)
		return false;
	map_ipv4(target, load_ipv4(arp.target_ip));
	neighbor = find_assigned(packet->network, target);
	return neighbor && neighbor->kind == ENDPOINT_ROUTER;
}

/* RFC 4861 6.1.1, 7.1.1 */
static __always_inline bool is_nd_about_router(struct __sk_buff *skb, struct packet *packet)
{
	__u32 network = packet->network;
	struct nd_owner owner = {};
	struct nd_message nd;

	if (!is_nd(packet) || packet->fragment || packet->ttl != ND_HOP_LIMIT || packet->icmp_code)
		return false;
	if (packet->icmp_type == ND_ROUTER_SOLICIT)
		return bpf_map_lookup_elem(&ra_templates, &network);
	if (packet->icmp_type != ND_NEIGHBOR_SOLICIT || !load_nd(skb, packet, &nd))
		return false;
	find_owner(packet, nd.target, &owner);
	return owner.is_router;
}

/* Does a foreign machine ask for a router? No host has answered it yet. */
__noinline int is_about_router(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return false;
	return packet->ethertype_be == BE16_ARP ? is_arp_about_router(skb, packet) :
						  is_nd_about_router(skb, packet);
}

/* ---- where to, where from ------------------------------------------------------ */

/* Foreign hosts of a network reach each other without us: what one of them floods, as
 * it does not know the way, would come back by every host of heddle's. */
static __always_inline bool is_between_foreign(const struct packet *packet, __u32 host)
{
	struct vtep *vtep = find_vtep(host);

	return vtep && vtep->flags & VTEP_FOREIGN && is_from_foreign(packet);
}

static __always_inline int arrive_elsewhere(struct packet *packet, __u32 host)
{
	if (is_between_foreign(packet, host))
		return drop(packet, STAGE_SWITCH, DROP_UNKNOWN_MAC);
	packet->to_host = host;
	return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_REMOTE, OUTCOME_MOVED);
}

/* A port that stands by gets it: its VM finds it waiting when it goes on here. */
static __always_inline int arrive_at(struct packet *packet, const struct endpoint *endpoint)
{
	struct port *port;

	switch (endpoint->kind) {
	case ENDPOINT_PORT:
		port = find_port(endpoint->target);
		if (port && port->flags & PORT_AWAY)
			return arrive_elsewhere(packet, port->elsewhere);
		aim_at_port(packet, endpoint->target);
		return switch_to_port(packet);
	case ENDPOINT_REMOTE:
		return arrive_elsewhere(packet, endpoint->target);
	case ENDPOINT_ROUTER:
		if (!is_from_foreign(packet))
			break; /* its host would have routed it */
		packet->router = endpoint->target;
		packet->router_network = packet->network;
		return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_TO_ROUTER, OUTCOME_NEXT);
	}
	return drop(packet, STAGE_SWITCH, DROP_UNKNOWN_MAC);
}

static __always_inline int stage_arrive(struct __sk_buff *skb, struct packet *packet)
{
	struct tunnel_network *network = find_tunnel_network(packet->network);
	const __u8 *mac = destination_mac(packet);
	struct endpoint *endpoint;
	bool is_foreign;

	if (!network)
		return drop(packet, STAGE_TUNNEL, DROP_UNKNOWN_VNI);
	packet->mtu = network->mtu;
	is_foreign = is_from_foreign(packet);
	if (is_foreign && guard_foreign(skb, packet) == OUTCOME_DROP)
		return OUTCOME_DROP;
	if (is_from_open_port(packet))
		learn_open(skb, packet, ENDPOINT_REMOTE, first_sender(packet));
	else
		learn_arrived(skb, packet, network->flags & TUNNEL_LEARN);
	if (is_foreign && is_about_router(skb, packet))
		return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_TO_ROUTER, OUTCOME_NEXT);
	if (mac[0] & 1) {
		if (is_link_reserved(mac))
			return drop(packet, STAGE_SWITCH, DROP_LINK_RESERVED);
		return decide_stage(packet, STAGE_SWITCH, DECISION_SWITCH_FLOOD, OUTCOME_FLOOD);
	}
	endpoint = find_endpoint(packet, packet->network, mac);
	if (endpoint)
		return arrive_at(packet, endpoint);
	if (has_open_ports(packet->network)) /* not on to other hosts */
		return flood_unknown(packet);
	return drop(packet, STAGE_SWITCH, DROP_UNKNOWN_MAC);
}

static __always_inline struct route *find_route_back(__u32 router, const struct packet *packet)
{
	struct route_key key = { .prefix_bits = 32 + 8 * ADDRESS_BYTES, .router = router };
	struct route *route;

	copy_address(key.address, packet->key.source);
	route = bpf_map_lookup_elem(&routes, &key);
	if (!route || route->kind == ROUTE_BLACKHOLE ||
	    route->ip_version != (is_ipv4(packet) ? 4 : 6))
		return NULL;
	return route;
}

/* Rules about members of a group ask for the network of the sender, but the envelope
 * names the receiver's. When a router sent the frame, the way back to the sender's
 * address leads there. */
__noinline int find_network_of_sender(struct packet *packet)
{
	struct mac_key mac = {};
	struct endpoint *endpoint;
	__u32 router;

	if (!packet)
		return -1;
	mac.network = packet->network;
	copy_mac(mac.mac, source_mac(packet));
	endpoint = bpf_map_lookup_elem(&macs, &mac);
	if (!endpoint || endpoint->kind != ENDPOINT_ROUTER)
		return 0;
	router = endpoint->target;
	for (int i = 0; i < ROUTER_HOPS_MAX; i++) {
		struct route *route = find_route_back(router, packet);
		struct neighbor *neighbor;

		if (!route)
			return 0;
		packet->network = route->network;
		if (route->kind != ROUTE_VIA)
			return 0;
		neighbor = find_assigned(route->network, route->via);
		if (!neighbor || neighbor->kind != ENDPOINT_ROUTER)
			return 0;
		router = neighbor->target;
	}
	return 0;
}
