/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse -> flow | (slow path) guard
 *
 * Reads Ethernet, IPv4/IPv6 and the ports into struct packet. The common
 * shapes are read in place; IPv6 extension headers take a function of their
 * own. Afterwards every header that a later stage relies on is known to be
 * inside the frame.
 */
#pragma once

#include <linux/tcp.h>
#include <linux/udp.h>

#include "shared/icmp.h"
#include "shared/packet.h"

/* Enough for all headers that are read in place. */
#define PULL_BYTES 128
#define IPV4_TCP_BYTES (ETHERNET_BYTES + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define IPV6_TCP_BYTES (ETHERNET_BYTES + sizeof(struct ipv6hdr) + sizeof(struct tcphdr))

#define EXTENSION_HEADERS_MAX 8

#define DHCP4_SERVER_PORT 67
#define DHCP4_CLIENT_PORT 68
#define DHCP6_CLIENT_PORT 546
#define DHCP6_SERVER_PORT 547

#define TCP_FLAGS_OFFSET 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->key.l4_protocol == (is_ipv4(packet) ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* Ports, or what stands for them: of ICMP the type, code and identifier. */
static __always_inline bool parse_l4(struct packet *packet, void *l4, void *end)
{
	switch (packet->key.l4_protocol) {
	case IPPROTO_TCP: {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > end || tcp->doff < 5)
			return false;
		packet->key.source_port_be = tcp->source;
		packet->key.destination_port_be = tcp->dest;
		packet->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
		packet->segment_bytes += tcp->doff * 4;
		return true;
	}
	case IPPROTO_UDP: {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end)
			return false;
		packet->key.source_port_be = udp->source;
		packet->key.destination_port_be = udp->dest;
		packet->segment_bytes += sizeof(*udp);
		return true;
	}
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE: {
		__be16 *ports = l4;

		if ((void *)(ports + 2) > end)
			return false;
		packet->key.source_port_be = ports[0];
		packet->key.destination_port_be = ports[1];
		packet->segment_bytes += 2 * sizeof(*ports);
		return true;
	}
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: {
		struct icmp_header *icmp = l4;

		if ((void *)(icmp + 1) > end)
			return false;
		packet->segment_bytes += sizeof(*icmp);
		if (!is_icmp(packet)) /* of the other IP version */
			return true;
		packet->icmp_type = icmp->type;
		packet->icmp_code = icmp->code;
		packet->key.destination_port_be = bpf_htons(icmp->type << 8 | icmp->code);
		if (icmp->type == ICMP_ECHO || icmp->type == ICMP_ECHOREPLY ||
		    icmp->type == ICMP6_ECHO_REQUEST || icmp->type == ICMP6_ECHO_REPLY)
			packet->key.source_port_be = icmp->echo.id;
		return true;
	}
	}
	return true;
}

/* Lengths that both families share: the IP packet must lie within the frame.
 * A GSO packet of more than 64 KiB says 0 (BIG TCP). */
static __always_inline bool parse_length(struct __sk_buff *skb, struct packet *packet,
					 __u32 l3_bytes, __u32 l3_header_bytes)
{
	__u32 present = skb->len - ETHERNET_BYTES;

	if (l3_bytes == (is_ipv6(packet) ? l3_header_bytes : 0) && skb->gso_size)
		l3_bytes = present;
	packet->l3_bytes = l3_bytes;
	return l3_bytes >= l3_header_bytes && l3_bytes <= present;
}

static __always_inline bool parse_ipv4(struct __sk_buff *skb, struct packet *packet, void *l3,
				       void *end)
{
	struct iphdr *ip = l3;
	__u32 header_bytes;
	__u16 fragment;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return false;
	header_bytes = ip->ihl * 4;
	if (!parse_length(skb, packet, bpf_ntohs(ip->tot_len), header_bytes))
		return false;
	packet->ttl = ip->ttl;
	packet->key.l4_protocol = ip->protocol;
	map_ipv4(packet->key.source, ip->saddr);
	map_ipv4(packet->key.destination, ip->daddr);
	packet->segment_bytes = header_bytes;
	fragment = bpf_ntohs(ip->frag_off);
	packet->identification = ip->id;
	if (fragment & IPV4_FRAGMENT_OFFSET) {
		packet->fragment = FRAGMENT_LATER;
		return true;
	}
	if (fragment & IPV4_MORE_FRAGMENTS)
		packet->fragment = FRAGMENT_FIRST;
	packet->l4_offset = ETHERNET_BYTES + header_bytes;
	return parse_l4(packet, l3 + header_bytes, end);
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT || next == IPPROTO_AH;
}

/* Where a walk along extension headers is. */
struct header_chain {
	__u32 offset; /* in the frame, of the header in turn */
	__u32 end; /* of the packet */
	__u32 identification; /* of a fragment, in network order */
	__u8 next; /* kind of the header in turn */
	__u8 fragment; /* enum fragment_kind */
	__u8 pad[2];
};

/* Walk the extension headers to the upper layer, or to what a later fragment has in
 * its place. Returns a negative number when the chain is broken or too long. Type 59
 * (nothing follows) is an upper layer of its own. */
__noinline int skip_extensions(struct __sk_buff *skb, struct header_chain *chain)
{
	if (!chain)
		return -1;
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		__u8 kind = chain->next;
		__u8 header[8];

		if (!is_extension(kind))
			return 0;
		if (chain->offset + sizeof(header) > chain->end ||
		    bpf_skb_load_bytes(skb, chain->offset, header, sizeof(header)))
			return -1;
		chain->next = header[0];
		if (kind == IPPROTO_FRAGMENT) {
			__u16 fragment = header[2] << 8 | header[3];

			chain->offset += 8;
			__builtin_memcpy(&chain->identification, header + 4, 4);
			if (fragment & 0xfff8) {
				chain->fragment = FRAGMENT_LATER;
				return 0;
			}
			if (fragment & 1)
				chain->fragment = FRAGMENT_FIRST;
		} else if (kind == IPPROTO_AH) {
			chain->offset += (header[1] + 2) * 4;
		} else {
			chain->offset += (header[1] + 1) * 8;
		}
	}
	return is_extension(chain->next) ? -1 : 0;
}

/* The offset of the upper layer in the frame, 0 in a later fragment, or a negative
 * number when it can't be found. */
__noinline int parse_extensions(struct __sk_buff *skb, struct packet *packet)
{
	struct header_chain chain = { .offset = ETHERNET_BYTES + sizeof(struct ipv6hdr) };

	if (!packet)
		return -1;
	chain.end = ETHERNET_BYTES + packet->l3_bytes;
	chain.next = packet->key.l4_protocol;
	if (skip_extensions(skb, &chain))
		return -1;
	packet->key.l4_protocol = chain.next;
	packet->identification = chain.identification;
	packet->fragment = chain.fragment;
	return chain.fragment == FRAGMENT_LATER ? 0 : chain.offset;
}

/* Ports behind extension headers: pull what may lie outside the linear part. */
static __always_inline bool parse_behind_extensions(struct __sk_buff *skb, struct packet *packet)
{
	int offset = parse_extensions(skb, packet);
	void *data, *end;

	if (offset < 0 || offset > ETHERNET_BYTES + packet->l3_bytes)
		return false;
	packet->l4_offset = offset;
	if (!offset)
		return true;
	packet->segment_bytes = offset - ETHERNET_BYTES;
	bpf_skb_pull_data(skb, offset + 20 < skb->len ? offset + 20 : skb->len);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (offset > 0x3fff || data + offset > end)
		return false;
	return parse_l4(packet, data + offset, end);
}

static __always_inline bool parse_ipv6(struct __sk_buff *skb, struct packet *packet, void *l3,
				       void *end)
{
	struct ipv6hdr *ip = l3;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	if (!parse_length(skb, packet, bpf_ntohs(ip->payload_len) + sizeof(*ip), sizeof(*ip)))
		return false;
	packet->ttl = ip->hop_limit;
	packet->key.l4_protocol = ip->nexthdr;
	copy_address(packet->key.source, &ip->saddr);
	copy_address(packet->key.destination, &ip->daddr);
	if (is_mapped(packet->key.source) || is_mapped(packet->key.destination))
		return false;
	packet->segment_bytes = sizeof(*ip);
	if (is_extension(ip->nexthdr))
		return parse_behind_extensions(skb, packet);
	packet->l4_offset = ETHERNET_BYTES + sizeof(*ip);
	return parse_l4(packet, ip + 1, end);
}

/* Neighbor discovery is looked at one by one. */
static __always_inline bool is_nd(const struct packet *packet)
{
	return is_ipv6(packet) && packet->key.l4_protocol == IPPROTO_ICMPV6 &&
	       packet->fragment != FRAGMENT_LATER && packet->icmp_type >= 133 &&
	       packet->icmp_type <= 137;
}

static __always_inline bool is_echo(const struct packet *packet)
{
	return is_ipv4(packet) ? packet->icmp_type == ICMP_ECHO ||
					 packet->icmp_type == ICMP_ECHOREPLY :
				 packet->icmp_type == ICMP6_ECHO_REQUEST ||
					 packet->icmp_type == ICMP6_ECHO_REPLY;
}

static __always_inline bool is_multicast(const struct packet *packet)
{
	return packet->macs[0] & 1;
}

static __always_inline bool is_between(const struct packet *packet, __u16 one, __u16 other)
{
	__be16 source = packet->key.source_port_be, destination = packet->key.destination_port_be;

	return (source == bpf_htons(one) && destination == bpf_htons(other)) ||
	       (source == bpf_htons(other) && destination == bpf_htons(one));
}

/* From a client to a server, or back. */
static __always_inline bool is_dhcp(const struct packet *packet)
{
	return packet->key.l4_protocol == IPPROTO_UDP &&
	       (is_between(packet, DHCP4_CLIENT_PORT, DHCP4_SERVER_PORT) ||
		is_between(packet, DHCP6_CLIENT_PORT, DHCP6_SERVER_PORT));
}

/* Does this packet have a flow? Of ICMP only echo has: an error belongs to the
 * flow that it quotes, and the rest to none. DHCP has none, since it
 * is answered. A later fragment has one as soon as its ports are known. */
static __always_inline bool is_trackable(const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_LATER || is_multicast(packet) || is_dhcp(packet))
		return false;
	return !is_icmp(packet) || (is_echo(packet) && !packet->icmp_code);
}

/* How much of the frame must be linear. Not a byte more than the headers: the
 * GSO packets of TCP are clones that hold nothing else there, and pulling data
 * into a clone costs a tenth of the throughput. */
static __always_inline __u32 bytes_to_read(void *data, void *end)
{
	struct ethhdr *ethernet = data;
	__u8 *l3 = (__u8 *)(ethernet + 1);

	if ((void *)(l3 + 1) > end)
		return PULL_BYTES;
	if (ethernet->h_proto == BE16_IPV4 && *l3 == IPV4_WITHOUT_OPTIONS)
		return IPV4_TCP_BYTES;
	if (ethernet->h_proto == BE16_IPV6)
		return IPV6_TCP_BYTES;
	return PULL_BYTES;
}

static __always_inline int stage_parse(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	bool whole = false;

	if (end - data < skb->len && data + bytes_to_read(data, end) > end) {
		bpf_skb_pull_data(skb, skb->len < PULL_BYTES ? skb->len : PULL_BYTES);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		ethernet = data;
	}
	if ((void *)(ethernet + 1) > end)
		return drop(packet, STAGE_PARSE, DROP_MALFORMED);
	__builtin_memcpy(packet->macs, ethernet, 2 * MAC_BYTES);
	packet->ethertype_be = ethernet->h_proto;
	if (skb->vlan_present)
		return drop(packet, STAGE_PARSE, DROP_VLAN_TAGGED);
	if (is_ipv4(packet))
		whole = parse_ipv4(skb, packet, ethernet + 1, end);
	else if (is_ipv6(packet))
		whole = parse_ipv6(skb, packet, ethernet + 1, end);
	else if (packet->ethertype_be == BE16_ARP)
		return pass(packet, STAGE_PARSE);
	else if (packet->ethertype_be == bpf_htons(ETH_P_8021Q) ||
		 packet->ethertype_be == bpf_htons(ETH_P_8021AD))
		return drop(packet, STAGE_PARSE, DROP_VLAN_TAGGED);
	else
		return drop(packet, STAGE_PARSE, DROP_UNSUPPORTED_ETHERTYPE);
	/* So far segment_bytes is the length of all headers. */
	if (!whole || packet->segment_bytes > packet->l3_bytes)
		return drop(packet, STAGE_PARSE, DROP_MALFORMED);
	if (skb->gso_size)
		packet->segment_bytes += skb->gso_size;
	else
		packet->segment_bytes = packet->l3_bytes;
	packet->trackable = is_trackable(packet);
	return pass(packet, STAGE_PARSE);
}
