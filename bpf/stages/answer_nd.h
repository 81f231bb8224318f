/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer neighbor and router solicitations -> back to the sender | drop
 * (RFC 4861; the messages were checked by guard_nd)
 */
#pragma once

#include "shared/checksum.h"
#include "stages/answer_arp.h"
#include "stages/guard.h"

#define ND_FLAG_ROUTER 0x80000000
#define ND_FLAG_SOLICITED 0x40000000
#define ND_FLAG_OVERRIDE 0x20000000

struct ipv6_frame {
	__u8 destination[MAC_BYTES];
	__u8 source[MAC_BYTES];
	__be16 ethertype;
	struct ipv6hdr ip;
} __attribute__((packed));

struct advertisement {
	struct nd_message nd;
	__u8 option_type;
	__u8 option_length; /* in units of 8 bytes */
	__u8 option_mac[MAC_BYTES];
};

struct ra_frame {
	struct ipv6_frame frame;
	__u8 message[RA_OPTIONS_MAX];
} __attribute__((packed));

_Static_assert(sizeof(struct ra_frame) <= SCRATCH_BYTES, "the answer is built in the scratch");

/* Who has the address: from intent, or, for a link-local one, whose MAC it
 * was made from. */
struct nd_owner {
	__u8 mac[MAC_BYTES];
	bool found, is_router, is_sender;
};

static __always_inline void find_owner(struct packet *packet, const __u8 *address,
				       struct nd_owner *owner)
{
	struct neighbor *neighbor = find_neighbor(packet, packet->network, address);
	struct endpoint *endpoint;

	if (neighbor) {
		copy_mac(owner->mac, neighbor->mac);
		owner->found = true;
		owner->is_router = neighbor->kind == ENDPOINT_ROUTER;
		owner->is_sender = is_own_neighbor(packet, neighbor);
		return;
	}
	if (!mac_of_link_local(owner->mac, address))
		return;
	endpoint = find_endpoint(packet, packet->network, owner->mac);
	if (!endpoint)
		return;
	owner->found = true;
	owner->is_router = endpoint->kind == ENDPOINT_ROUTER;
	owner->is_sender = endpoint->kind == ENDPOINT_PORT &&
			   endpoint->target == packet->key.ifindex;
}

/* Where an answer goes: to the asker, or to all nodes when it has no address. */
static __always_inline void address_answer(struct ipv6_frame *frame, const struct packet *packet,
					   const __u8 *from_mac, const __u8 *from_address)
{
	copy_mac(frame->source, from_mac);
	copy_address(&frame->ip.saddr, from_address);
	if (is_unspecified(packet->key.source)) {
		const __u8 all_nodes_mac[MAC_BYTES] = { 0x33, 0x33, 0, 0, 0, 1 };

		copy_mac(frame->destination, all_nodes_mac);
		frame->ip.daddr.in6_u.u6_addr32[0] = bpf_htonl(0xff020000);
		frame->ip.daddr.in6_u.u6_addr32[1] = 0;
		frame->ip.daddr.in6_u.u6_addr32[2] = 0;
		frame->ip.daddr.in6_u.u6_addr32[3] = bpf_htonl(1);
	} else {
		copy_mac(frame->destination, source_mac(packet));
		copy_address(&frame->ip.daddr, packet->key.source);
	}
}

static __always_inline void start_ipv6(struct ipv6_frame *frame, __u8 next_header,
				       __u16 payload_bytes, __u8 hop_limit)
{
	frame->ethertype = BE16_IPV6;
	frame->ip.version = 6;
	frame->ip.payload_len = bpf_htons(payload_bytes);
	frame->ip.nexthdr = next_header;
	frame->ip.hop_limit = hop_limit;
}

/* Neighbor advertisement, RFC 4861 7.2.4. */
__noinline int answer_neighbor(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		struct ipv6_frame frame;
		struct advertisement advertisement;
	} __attribute__((packed)) answer = {};
	struct advertisement advertisement = {};
	struct nd_owner owner = {};
	__u32 flags = ND_FLAG_OVERRIDE;
	__u32 sum;

	if (!packet)
		return OUTCOME_DROP;
	if (!load_nd(skb, packet, &advertisement.nd))
		return drop(packet, STAGE_ANSWER, DROP_MALFORMED);
	find_owner(packet, advertisement.nd.target, &owner);
	if (!owner.found)
		return ask(packet, DROP_ND_UNKNOWN);
	if (owner.is_sender)
		return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED, OUTCOME_CONSUMED);
	flags |= owner.is_router ? ND_FLAG_ROUTER : 0;
	flags |= is_unspecified(packet->key.source) ? 0 : ND_FLAG_SOLICITED;
	advertisement.nd.type = ND_NEIGHBOR_ADVERT;
	advertisement.nd.code = 0;
	advertisement.nd.checksum = 0;
	advertisement.nd.flags = bpf_htonl(flags);
	advertisement.option_type = ND_OPTION_TARGET_MAC;
	advertisement.option_length = 1;
	copy_mac(advertisement.option_mac, owner.mac);
	start_ipv6(&answer.frame, IPPROTO_ICMPV6, sizeof(advertisement), ND_HOP_LIMIT);
	address_answer(&answer.frame, packet, owner.mac, advertisement.nd.target);
	sum = pseudo_header_sum6(advertisement.nd.target, (const __u8 *)&answer.frame.ip.daddr,
				 IPPROTO_ICMPV6, sizeof(advertisement));
	advertisement.nd.checksum =
		finish_checksum((__u64)sum + sum_of(&advertisement, sizeof(advertisement)));
	answer.advertisement = advertisement;
	if (bpf_skb_change_tail(skb, sizeof(answer), 0) ||
	    bpf_skb_store_bytes(skb, 0, &answer, sizeof(answer), 0))
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	return decide_stage(packet, STAGE_ANSWER, DECISION_ND_ADVERTISEMENT, OUTCOME_ANSWER);
}

/* Router advertisement from the network's template, RFC 4861 6.2.6. */
__noinline int answer_router(struct __sk_buff *skb, struct packet *packet)
{
	__u8 router_address[ADDRESS_BYTES] __attribute__((aligned(4)));
	struct ipv6_frame frame = {};
	struct ra_template *template;
	struct scratch *space = scratch();
	struct ra_frame *answer;
	__u32 network, length;
	__u64 sum;

	if (!packet)
		return OUTCOME_DROP;
	network = packet->network;
	template = bpf_map_lookup_elem(&ra_templates, &network);
	if (!template || !space)
		return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED, OUTCOME_CONSUMED);
	length = template->length;
	if (length < 16 || length > RA_OPTIONS_MAX)
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	link_local_of(router_address, template->router_mac);
	start_ipv6(&frame, IPPROTO_ICMPV6, length, ND_HOP_LIMIT);
	address_answer(&frame, packet, template->router_mac, router_address);
	answer = (struct ra_frame *)space->bytes;
	answer->frame = frame;
	__builtin_memcpy(answer->message, template->message, RA_OPTIONS_MAX);
	sum = pseudo_header_sum6(router_address, (const __u8 *)&frame.ip.daddr, IPPROTO_ICMPV6,
				 length);
	sum += sum_of(answer->message, RA_OPTIONS_MAX);
	*(__u16 *)(answer->message + 2) = finish_checksum(sum);
	if (!replace_frame(skb, answer, sizeof(frame) + length, sizeof(*answer)))
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	return decide_stage(packet, STAGE_ANSWER, DECISION_ROUTER_ADVERTISEMENT, OUTCOME_ANSWER);
}

static __always_inline int answer_nd(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->icmp_type == ND_NEIGHBOR_SOLICIT)
		return answer_neighbor(skb, packet);
	if (packet->icmp_type == ND_ROUTER_SOLICIT)
		return answer_router(skb, packet);
	return pass(packet, STAGE_ANSWER);
}
