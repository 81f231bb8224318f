/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors, and the packet that they quote. */
#pragma once

#include "stages/connection.h"

static __always_inline bool is_icmp_error(const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_LATER || !is_icmp(packet))
		return false;
	if (is_ipv6(packet)) /* known or not, RFC 4443 2.1 */
		return packet->icmp_type < ICMP6_ECHO_REQUEST;
	return packet->icmp_type == ICMP_DEST_UNREACH || packet->icmp_type == ICMP_REDIRECT ||
	       packet->icmp_type == ICMP_TIME_EXCEEDED ||
	       packet->icmp_type == ICMP_PARAMETER_PROBLEM;
}

/* Bytes of the packet; what follows it in the frame is none of its own. */
static __always_inline bool load_inside(struct __sk_buff *skb, const struct packet *packet,
					__u32 offset, void *to, __u32 bytes)
{
	return offset + bytes <= ETHERNET_BYTES + packet->l3_bytes &&
	       !bpf_skb_load_bytes(skb, offset, to, bytes);
}

static __always_inline bool load_quoted4(struct __sk_buff *skb, const struct packet *packet,
					 __u32 offset, struct flow_key *key, __u32 *l4_offset)
{
	struct iphdr ip;

	if (!load_inside(skb, packet, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    bpf_ntohs(ip.frag_off) & IPV4_FRAGMENT_OFFSET)
		return false;
	key->l4_protocol = ip.protocol;
	map_ipv4(key->source, ip.daddr);
	map_ipv4(key->destination, ip.saddr);
	*l4_offset = offset + ip.ihl * 4;
	return true;
}

/* In parts: the stack has no room for the whole header. */
static __always_inline bool load_quoted6(struct __sk_buff *skb, const struct packet *packet,
					 __u32 offset, struct flow_key *key, __u32 *l4_offset)
{
	struct header_chain chain = {
		.offset = offset + sizeof(struct ipv6hdr),
		.end = ETHERNET_BYTES + packet->l3_bytes,
	};
	__u8 version;

	if (!load_inside(skb, packet, offset, &version, 1) || version >> 4 != 6 ||
	    !load_inside(skb, packet, offset + offsetof(struct ipv6hdr, nexthdr), &chain.next, 1) ||
	    !load_inside(skb, packet, offset + offsetof(struct ipv6hdr, saddr), key->destination,
			 ADDRESS_BYTES) ||
	    !load_inside(skb, packet, offset + offsetof(struct ipv6hdr, daddr), key->source,
			 ADDRESS_BYTES))
		return false;
	if (skip_extensions(skb, &chain) || chain.fragment == FRAGMENT_LATER)
		return false;
	key->l4_protocol = chain.next;
	*l4_offset = chain.offset;
	return true;
}

static __always_inline bool is_echo_kind(const struct packet *packet, __be16 type_and_code_be)
{
	__u16 kind = bpf_ntohs(type_and_code_be);

	return is_ipv4(packet) ? kind == ICMP_ECHO << 8 || kind == ICMP_ECHOREPLY << 8 :
				 kind == ICMP6_ECHO_REQUEST << 8 || kind == ICMP6_ECHO_REPLY << 8;
}

/* Take the key in hand that a reply to the quoted packet has. False unless the
 * error goes to the sender of that packet. */
__noinline int load_quoted(struct __sk_buff *skb, struct packet *packet)
{
	struct flow_key key = {};
	__be16 ports[4] = {};
	__u32 offset, l4 = 0;

	if (!packet)
		return false;
	offset = packet->l4_offset + sizeof(struct icmp_header);
	if (!(is_ipv4(packet) ? load_quoted4(skb, packet, offset, &key, &l4) :
				load_quoted6(skb, packet, offset, &key, &l4)))
		return false;
	if (!same_address(key.destination, packet->key.destination))
		return false;
	key.ifindex = packet->key.ifindex;
	switch (key.l4_protocol) {
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: /* type and code, checksum, identifier */
		if (key.l4_protocol != packet->key.l4_protocol)
			break;
		if (!load_inside(skb, packet, l4, ports, sizeof(ports)) ||
		    !is_echo_kind(packet, ports[0]))
			return false;
		key.source_port_be = ports[2];
		key.destination_port_be = echo_counterpart(ports[0]);
		break;
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		if (!load_inside(skb, packet, l4, ports, sizeof(ports)))
			return false;
		key.source_port_be = ports[1];
		key.destination_port_be = ports[0];
	}
	packet->own = packet->key;
	packet->key = key;
	return true;
}
