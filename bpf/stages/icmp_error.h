/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP and ICMPv6 errors to the sender of a packet that goes no further
 * (RFC 792, 1122 3.2.2, 1191, 4443). The packet in hand becomes the error.
 */
#pragma once

#include "shared/budget.h"
#include "shared/checksum.h"
#include "stages/answer_nd.h"
#include "stages/echo.h"

/* As much of the packet as the RFCs want: 576 bytes of IPv4 in all (RFC 1812
 * 4.3.2.3), 1280 of IPv6 (RFC 4443 2.4 c). */
#define QUOTE4_BYTES_MAX (576 - sizeof(struct iphdr) - sizeof(struct icmp_header))
#define QUOTE6_BYTES_MAX (1280 - sizeof(struct ipv6hdr) - sizeof(struct icmp_header))
#define SUM_ROUNDS 3

struct icmp4_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct icmp_header icmp;
} __attribute__((packed));

struct icmp6_frame {
	struct ipv6_frame frame;
	struct icmp_header icmp;
} __attribute__((packed));

/* Nobody is told about an error of an error, a later fragment, or a packet
 * from or to many (RFC 1122 3.2.2, RFC 4443 2.4 e). */
static __always_inline bool may_report(const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_LATER || source_is_unspecified(packet) ||
	    destination_mac(packet)[0] & 1)
		return false;
	if (is_ipv4(packet)) {
		if (packet->key.destination[12] >= 224)
			return false;
		return packet->key.l4_protocol != IPPROTO_ICMP || packet->icmp_type == ICMP_ECHO ||
		       packet->icmp_type == ICMP_ECHOREPLY;
	}
	return packet->key.destination[0] != 0xff &&
	       (packet->key.l4_protocol != IPPROTO_ICMPV6 ||
		(packet->icmp_type >= ICMP6_ECHO_REQUEST && packet->icmp_type != ND_REDIRECT));
}

/* Of two hosts the one that makes the error accounts for it. */
static __always_inline struct icmp_budget *error_budget(const struct packet *packet)
{
	bool is_from_other_host = is_zone(packet->key.ifindex);
	struct port *port;
	__u32 slot;

	if (packet->arrived_in)
		return foreign_budget_of(packet->from_host, FOREIGN_ERRORS);
	port = find_port(is_from_other_host ? packet->to_ifindex : packet->key.ifindex);
	if (!port)
		return NULL;
	slot = port->counter_slot;
	return bpf_map_lookup_elem(&icmp_budgets, &slot);
}

/* Sum of bytes of the frame from offset on; any length up to 1536. */
static __always_inline __u32 sum_of_frame(struct __sk_buff *skb, struct scratch *space,
					  __u32 offset, __u32 length)
{
	__u64 sum = 0;

	for (int i = 0; i < SUM_ROUNDS; i++) {
		__u32 part = length < SUM_BYTES_MAX ? length : SUM_BYTES_MAX;

		if (!part)
			break;
		settle(part);
		part = ((part - 1) & (SUM_BYTES_MAX - 1)) + 1; /* bounds that 6.1 can follow */
		__builtin_memset(space->bytes, 0, SUM_BYTES_MAX);
		if (bpf_skb_load_bytes(skb, offset, space->bytes, part))
			break;
		sum += sum_of(space->bytes, SUM_BYTES_MAX);
		offset += part;
		length -= part;
	}
	return fold(sum);
}

/* Cut the packet to what is quoted and make room for the headers before it. */
static __always_inline bool make_room(struct __sk_buff *skb, __u32 quoted, __u32 room)
{
	return !bpf_skb_change_tail(skb, ETHERNET_BYTES + quoted, 0) &&
	       !bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0);
}

static __always_inline bool is_too_big(const struct packet *packet)
{
	return packet->drop_reason == DROP_TOO_BIG || packet->drop_reason == DROP_TUNNEL_MTU;
}

static __always_inline bool write_error4(struct __sk_buff *skb, struct packet *packet,
					 struct scratch *space, __u32 source_be)
{
	struct icmp4_frame *error = (struct icmp4_frame *)space->bytes;
	__u32 quoted = packet->l3_bytes < QUOTE4_BYTES_MAX ? packet->l3_bytes : QUOTE4_BYTES_MAX;
	__u64 sum;

	if (!make_room(skb, quoted, sizeof(error->ip) + sizeof(error->icmp)))
		return false;
	sum = sum_of_frame(skb, space, sizeof(*error), quoted);
	__builtin_memset(error, 0, sizeof(*error));
	copy_mac(error->ethernet.h_dest, source_mac(packet));
	copy_mac(error->ethernet.h_source, destination_mac(packet));
	error->ethernet.h_proto = BE16_IPV4;
	error->ip.version = 4;
	error->ip.ihl = 5;
	error->ip.tos = 0xc0; /* internetwork control, RFC 1812 4.3.2.5 */
	error->ip.tot_len = bpf_htons(sizeof(error->ip) + sizeof(error->icmp) + quoted);
	error->ip.ttl = ANSWER_TTL;
	error->ip.protocol = IPPROTO_ICMP;
	error->ip.saddr = source_be;
	error->ip.daddr = mapped_ipv4(packet->key.source);
	error->ip.check = finish_checksum(sum_of(&error->ip, sizeof(error->ip)));
	error->icmp.type = packet->icmp_error_type;
	error->icmp.code = packet->icmp_error_code;
	if (is_too_big(packet))
		error->icmp.too_big.mtu = bpf_htons(packet->mtu);
	sum += sum_of(&error->icmp, sizeof(error->icmp));
	error->icmp.checksum = finish_checksum(sum);
	return !bpf_skb_store_bytes(skb, 0, error, sizeof(*error), 0);
}

static __always_inline bool write_error6(struct __sk_buff *skb, struct packet *packet,
					 struct scratch *space, const __u8 *source)
{
	struct icmp6_frame *error = (struct icmp6_frame *)space->bytes;
	__u32 quoted = packet->l3_bytes < QUOTE6_BYTES_MAX ? packet->l3_bytes : QUOTE6_BYTES_MAX;
	__u32 payload = sizeof(error->icmp) + quoted;
	__u64 sum;

	if (!make_room(skb, quoted, sizeof(error->frame.ip) + sizeof(error->icmp)))
		return false;
	sum = sum_of_frame(skb, space, sizeof(*error), quoted);
	__builtin_memset(error, 0, sizeof(*error));
	start_ipv6(&error->frame, IPPROTO_ICMPV6, payload, ANSWER_TTL);
	address_answer(&error->frame, packet, destination_mac(packet), source);
	error->icmp.type = packet->icmp_error_type;
	error->icmp.code = packet->icmp_error_code;
	if (is_too_big(packet))
		error->icmp.mtu6 = bpf_htonl(packet->mtu);
	sum += sum_of(&error->icmp, sizeof(error->icmp));
	sum += pseudo_header_sum6(source, packet->key.source, IPPROTO_ICMPV6, payload);
	error->icmp.checksum = finish_checksum(sum);
	return !bpf_skb_store_bytes(skb, 0, error, sizeof(*error), 0);
}

/* The router speaks with its address on the side the packet came from; where
 * no router is involved, the destination speaks. */
static __always_inline void error_source(const struct packet *packet, __u8 *address)
{
	struct router_interface *interface =
		find_router_interface(packet->router, packet->router_network);

	if (!interface) {
		copy_address(address, packet->key.destination);
		return;
	}
	copy_address(address, is_ipv4(packet) ? interface->address4 : interface->address6);
	if (!is_unspecified(address))
		return;
	if (is_ipv4(packet))
		copy_address(address, packet->key.destination);
	else
		link_local_of(address, interface->mac);
}

static __always_inline enum decision error_decision(const struct packet *packet)
{
	if (is_too_big(packet))
		return DECISION_ICMP_TOO_BIG;
	if (packet->drop_reason == DROP_TTL_EXCEEDED)
		return DECISION_ICMP_TIME_EXCEEDED;
	return DECISION_ICMP_UNREACHABLE;
}

/* Turn the dropped packet into the error it causes. Tells whether there is one
 * to send; the stage that dropped it keeps the drop reason either way. */
__noinline int report_error(struct __sk_buff *skb, struct packet *packet)
{
	__u8 source[ADDRESS_BYTES] __attribute__((aligned(4)));
	struct scratch *space = scratch();
	struct icmp_budget *budget;

	if (!packet)
		return OUTCOME_DROP;
	budget = error_budget(packet);
	if (!budget || !space || !may_report(packet))
		return OUTCOME_DROP;
	if (!take_token(budget, !packet->trace)) {
		packet->decisions[STAGE_DELIVER] = DECISION_ICMP_LIMITED;
		return OUTCOME_DROP;
	}
	error_source(packet, source);
	if (!(is_ipv4(packet) ? write_error4(skb, packet, space, mapped_ipv4(source)) :
				write_error6(skb, packet, space, source)))
		return OUTCOME_DROP;
	packet->decisions[STAGE_DELIVER] = error_decision(packet);
	return OUTCOME_ANSWER;
}
