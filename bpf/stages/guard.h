/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * guard -> answer | drop
 *
 * A VM speaks for itself alone: its MAC, its addresses, and no service that is
 * the network's to give (DHCP, router advertisement).
 */
#pragma once

#include "shared/neighbors.h"
#include "shared/packet.h"
#include "stages/parse.h"

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

#define ND_ROUTER_SOLICIT 133
#define ND_ROUTER_ADVERT 134
#define ND_NEIGHBOR_SOLICIT 135
#define ND_NEIGHBOR_ADVERT 136
#define ND_REDIRECT 137
#define ND_OPTION_SOURCE_MAC 1
#define ND_OPTION_TARGET_MAC 2
#define ND_OPTIONS_MAX 8
#define ND_HOP_LIMIT 255

#define MLD_QUERY 130
#define MLD_REPORT 131
#define MLD_DONE 132
#define MLD2_REPORT 143

struct arp_message {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[MAC_BYTES];
	__u8 sender_ip[4];
	__u8 target_mac[MAC_BYTES];
	__u8 target_ip[4];
} __attribute__((packed));

struct nd_message {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__u8 target[ADDRESS_BYTES];
};

static __always_inline __u32 load_ipv4(const __u8 *bytes)
{
	__u32 address;

	__builtin_memcpy(&address, bytes, sizeof(address));
	return address;
}

/* Many and the loopback, whatever prefix is routed to a port or paired with it
 * (RFC 1122 3.2.1.3, RFC 4291 2.5.3 and 2.7). */
static __always_inline bool is_no_source(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (is_mapped(address))
		return address[12] >= 224 || address[12] == 127;
	return address[0] == 0xff ||
	       (!words[0] && !words[1] && !words[2] && words[3] == bpf_htonl(1));
}

/* May this port send from the address? Its own ones, the link-local one of
 * its MAC, the prefixes that are routed to it, and those of its address pairs,
 * each with the MAC that it goes with. */
static __always_inline bool owns_address(const struct packet *packet, const struct port *port,
					 const __u8 *address)
{
	bool has_own_mac = same_mac(source_mac(packet), port->mac);
	struct neighbor *neighbor = find_assigned(port->network, address);

	if (has_own_mac && neighbor && is_own_neighbor(packet, neighbor))
		return true;
	if (has_own_mac && is_link_local6(address)) {
		__u8 own[ADDRESS_BYTES] __attribute__((aligned(4)));

		link_local_of(own, port->mac);
		if (same_address(own, address))
			return true;
	}
	return !is_no_source(address) &&
	       has_pair(packet->key.ifindex, source_mac(packet), address);
}

static __always_inline void learn_from(struct packet *packet, const struct port *port,
				       const __u8 *address)
{
	struct address_key key = { .network = port->network };

	copy_address(key.address, address);
	learn(packet, &key);
}

/* Another MAC than the port's is good only together with an address of one of
 * its pairs: without one, the MAC is what is wrong. */
static __always_inline int refuse(struct packet *packet, const struct port *port,
				  enum drop_reason reason)
{
	return drop(packet, STAGE_GUARD,
		    same_mac(source_mac(packet), port->mac) ? reason : DROP_SOURCE_MAC);
}

__noinline int guard_arp(struct __sk_buff *skb, struct packet *packet)
{
	struct arp_message arp;
	__u8 sender[ADDRESS_BYTES] __attribute__((aligned(4)));
	struct port *port;

	if (!packet)
		return OUTCOME_DROP;
	port = find_port(packet->key.ifindex);
	if (!port || bpf_skb_load_bytes(skb, ETHERNET_BYTES, &arp, sizeof(arp)))
		return drop(packet, STAGE_GUARD, DROP_MALFORMED);
	if (arp.hardware_type != bpf_htons(ARP_HARDWARE_ETHERNET) || arp.protocol_type != BE16_IPV4 ||
	    arp.hardware_bytes != MAC_BYTES || arp.protocol_bytes != 4 ||
	    (arp.operation != bpf_htons(ARP_REQUEST) && arp.operation != bpf_htons(ARP_REPLY)))
		return refuse(packet, port, DROP_MALFORMED);
	if (!same_mac(arp.sender_mac, source_mac(packet)))
		return refuse(packet, port, DROP_ARP_SPOOF);
	map_ipv4(sender, load_ipv4(arp.sender_ip));
	/* A probe for a free address has no sender yet (RFC 5227 2.1.1). */
	if (!mapped_ipv4(sender) && same_mac(arp.sender_mac, port->mac) &&
	    arp.operation == bpf_htons(ARP_REQUEST))
		return pass(packet, STAGE_GUARD);
	if (!owns_address(packet, port, sender))
		return refuse(packet, port, DROP_ARP_SPOOF);
	learn_from(packet, port, sender);
	return pass(packet, STAGE_GUARD);
}

/* Whose address an ARP message gives away, if with the MAC that it comes from. */
static __always_inline bool load_announced_ipv4(struct __sk_buff *skb, const struct packet *packet,
						__u8 *address)
{
	struct arp_message arp;

	if (bpf_skb_load_bytes(skb, ETHERNET_BYTES, &arp, sizeof(arp)) ||
	    arp.protocol_type != BE16_IPV4 || arp.protocol_bytes != 4 ||
	    !same_mac(arp.sender_mac, source_mac(packet)) || !load_ipv4(arp.sender_ip))
		return false;
	map_ipv4(address, load_ipv4(arp.sender_ip));
	return true;
}

/* A solicitation or advertisement, with its target. */
static __always_inline bool load_nd(struct __sk_buff *skb, const struct packet *packet,
				    struct nd_message *nd)
{
	return packet->l4_offset + sizeof(*nd) <= ETHERNET_BYTES + packet->l3_bytes &&
	       !bpf_skb_load_bytes(skb, packet->l4_offset, nd, sizeof(*nd));
}

/* The MAC that an ND message gives away must be the one it comes from. */
static __always_inline bool nd_options_honest(struct __sk_buff *skb, const struct packet *packet,
					      __u32 offset)
{
	__u32 end = ETHERNET_BYTES + packet->l3_bytes;

	for (int i = 0; i < ND_OPTIONS_MAX; i++) {
		struct {
			__u8 type, length;
			__u8 mac[MAC_BYTES];
		} option;

		if (offset == end)
			return true;
		if (offset + sizeof(option) > end ||
		    bpf_skb_load_bytes(skb, offset, &option, sizeof(option)) || !option.length)
			return false;
		if ((option.type == ND_OPTION_SOURCE_MAC || option.type == ND_OPTION_TARGET_MAC) &&
		    !same_mac(option.mac, source_mac(packet)))
			return false;
		offset += option.length * 8;
	}
	return false;
}

/* RFC 4861 6.1, 7.1; fragments of ND are refused as RFC 6980 asks. */
__noinline int guard_nd(struct __sk_buff *skb, struct packet *packet)
{
	struct nd_message nd;
	struct port *port;
	__u32 options;

	if (!packet)
		return OUTCOME_DROP;
	port = find_port(packet->key.ifindex);
	if (!port)
		return drop(packet, STAGE_GUARD, DROP_UNKNOWN_PORT);
	if (packet->icmp_type == ND_ROUTER_ADVERT || packet->icmp_type == ND_REDIRECT)
		return drop(packet, STAGE_GUARD, DROP_ROUTER_ADVERTISEMENT);
	if (packet->fragment || packet->ttl != ND_HOP_LIMIT || packet->icmp_code)
		return drop(packet, STAGE_GUARD, DROP_ND_SPOOF);
	options = packet->l4_offset + 8;
	if (packet->icmp_type != ND_ROUTER_SOLICIT) {
		if (!load_nd(skb, packet, &nd))
			return drop(packet, STAGE_GUARD, DROP_MALFORMED);
		if (packet->icmp_type == ND_NEIGHBOR_ADVERT) {
			if (!owns_address(packet, port, nd.target))
				return drop(packet, STAGE_GUARD, DROP_ND_SPOOF);
			learn_from(packet, port, nd.target);
		}
		options = packet->l4_offset + sizeof(nd);
	}
	if (!nd_options_honest(skb, packet, options))
		return drop(packet, STAGE_GUARD, DROP_ND_SPOOF);
	return pass(packet, STAGE_GUARD);
}

static __always_inline bool has_ports(const struct packet *packet, __u8 protocol, __u16 source,
				      __u16 destination)
{
	return packet->key.l4_protocol == protocol && packet->fragment != FRAGMENT_LATER &&
	       packet->key.source_port_be == bpf_htons(source) &&
	       packet->key.destination_port_be == bpf_htons(destination);
}

static __always_inline bool is_dhcp4_request(const struct packet *packet)
{
	return is_ipv4(packet) &&
	       has_ports(packet, IPPROTO_UDP, DHCP4_CLIENT_PORT, DHCP4_SERVER_PORT);
}

static __always_inline bool is_dhcp6_request(const struct packet *packet)
{
	return is_ipv6(packet) &&
	       has_ports(packet, IPPROTO_UDP, DHCP6_CLIENT_PORT, DHCP6_SERVER_PORT);
}

/* What a client without an address yet may send from 0.0.0.0 or ::. */
static __always_inline bool may_be_unspecified(const struct packet *packet)
{
	if (is_ipv4(packet))
		return is_dhcp4_request(packet);
	if (packet->key.l4_protocol != IPPROTO_ICMPV6 || packet->fragment)
		return false;
	switch (packet->icmp_type) {
	case ND_ROUTER_SOLICIT:
	case ND_NEIGHBOR_SOLICIT:
	case MLD_REPORT:
	case MLD_DONE:
	case MLD2_REPORT:
		return true;
	}
	return false;
}

static __always_inline bool source_is_unspecified(const struct packet *packet)
{
	return is_ipv4(packet) ? !mapped_ipv4(packet->key.source) :
				 is_unspecified(packet->key.source);
}

static __always_inline int guard_ip(struct __sk_buff *skb, struct packet *packet,
				    const struct port *port)
{
	if (source_is_unspecified(packet)) {
		if (!may_be_unspecified(packet) || !same_mac(source_mac(packet), port->mac))
			return refuse(packet, port, DROP_SOURCE_IP);
	} else if (!owns_address(packet, port, packet->key.source)) {
		return refuse(packet, port, DROP_SOURCE_IP);
	}
	if ((is_ipv4(packet) && has_ports(packet, IPPROTO_UDP, DHCP4_SERVER_PORT, DHCP4_CLIENT_PORT)) ||
	    (is_ipv6(packet) && has_ports(packet, IPPROTO_UDP, DHCP6_SERVER_PORT, DHCP6_CLIENT_PORT)))
		return drop(packet, STAGE_GUARD, DROP_DHCP_SERVER);
	if (is_nd(packet))
		return guard_nd(skb, packet);
	return pass(packet, STAGE_GUARD);
}

/* The address that an ARP message speaks for, or a neighbor solicitation or
 * advertisement whose MACs are those it comes from. */
static __always_inline bool load_spoken_for(struct __sk_buff *skb, const struct packet *packet,
					    __u8 *address)
{
	struct nd_message nd;

	if (packet->ethertype_be == BE16_ARP)
		return load_announced_ipv4(skb, packet, address);
	if (!is_nd(packet) || packet->fragment || packet->ttl != ND_HOP_LIMIT ||
	    (packet->icmp_type != ND_NEIGHBOR_SOLICIT && packet->icmp_type != ND_NEIGHBOR_ADVERT) ||
	    !load_nd(skb, packet, &nd) ||
	    !nd_options_honest(skb, packet, packet->l4_offset + sizeof(nd)))
		return false;
	copy_address(address, packet->icmp_type == ND_NEIGHBOR_ADVERT ? nd.target :
									packet->key.source);
	return true;
}

/* Who is behind an open port, or behind those of another host. */
__noinline int learn_open(struct __sk_buff *skb, struct packet *packet, __u32 kind, __u32 target)
{
	struct address_key key = {};

	if (!packet)
		return -1;
	key.network = packet->network;
	learn_open_mac(packet, kind, target);
	if (load_spoken_for(skb, packet, key.address) && !is_no_source(key.address))
		learn_open_address(packet, &key, kind, target);
	return 0;
}

static __always_inline int stage_guard(struct __sk_buff *skb, struct packet *packet,
				       const struct port *port)
{
	if (port->flags & PORT_OPEN) {
		learn_open(skb, packet, ENDPOINT_PORT, packet->key.ifindex);
		return pass(packet, STAGE_GUARD);
	}
	if (packet->ethertype_be == BE16_ARP)
		return guard_arp(skb, packet);
	return guard_ip(skb, packet, port);
}
