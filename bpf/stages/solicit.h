/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A router asks for a neighbor that only frames can tell of: by ARP or ND, those
 * foreign hosts that are members of its network. The packet that made it ask is
 * dropped; the answer is learned as any from there (stages/arrive.h).
 */
#pragma once

#include "shared/budget.h"
#include "shared/checksum.h"
#include "stages/answer_nd.h"
#include "stages/deliver.h"

#define QUESTION_NS 1000000000ull /* between two for one address (RFC 1122 2.3.2.1) */
#define QUESTIONS_MAX 3 /* in vain, before the sender is told (RFC 4861 10) */
#define GIVEN_UP_NS 5000000000ull /* then nobody is asked for so long */

/* What of the packet in hand stays behind the question, as zeros: a packet whose
 * checksum a device is to fill in can't be cut before that. Room for the largest
 * IPv4 header, or an extension header, and that of TCP up to its checksum. */
#define REST_BYTES 80

/* In ND the rest is an option, which nobody knows and everybody ignores (RFC 4861 4.3,
 * RFC 4727 5): a receiver could cut no packet there that is still without its checksum. The
 * sum of zeros, filled in, leaves that of the message as it is. */
#define ND_OPTION_EXPERIMENT 253

struct arp_question {
	struct arp_frame frame;
	__u8 rest[REST_BYTES];
} __attribute__((packed));

struct solicitation {
	struct advertisement message; /* the same layout */
	__u8 rest_type;
	__u8 rest_length; /* in units of 8 bytes */
	__u8 rest[REST_BYTES - 2];
} __attribute__((packed));

struct nd_question {
	struct ipv6_frame frame;
	struct solicitation solicitation;
} __attribute__((packed));

/* ---- whether to ask ---------------------------------------------------------- */

/* A port pays as for what it floods, a foreign host by a share of its own. */
static __always_inline bool may_ask(const struct packet *packet)
{
	struct port *port;

	if (packet->arrived_in)
		return take_token(foreign_budget_of(packet->from_host, FOREIGN_QUESTIONS), true);
	port = find_port(packet->key.ifindex);
	return port && may_flood(port);
}

/* Decide about a packet that found no neighbor where one may be behind a foreign host:
 * it is dropped since a question was sent, or since nobody answered QUESTIONS_MAX of
 * them. Sets packet->asks when one is to be sent now. */
__noinline int consider_question(struct packet *packet)
{
	struct asked_neighbor fresh = {}, *asked;
	struct address_key key = {};
	__u64 now = bpf_ktime_get_ns(), silence = GIVEN_UP_NS;

	if (!packet || packet->drop_reason != DROP_NO_NEIGHBOR || !packet->icmp_error_type)
		return -1;
	key.network = packet->to_network;
	copy_address(key.address, packet->wanted);
	asked = bpf_map_lookup_elem(&asked_neighbors, &key);
	if (asked)
		silence = now - asked->asked_at;
	if (asked && silence < GIVEN_UP_NS)
		fresh.questions = asked->questions;
	if (silence >= QUESTION_NS && fresh.questions == QUESTIONS_MAX)
		return 0;
	packet->icmp_error_type = 0;
	packet->drop_reason = DROP_NEIGHBOR_ASKED;
	if (silence < QUESTION_NS || packet->trace)
		return 0;
	if (!may_ask(packet)) {
		packet->drop_reason = DROP_FLOOD_LIMIT;
		return 0;
	}
	fresh.asked_at = now;
	fresh.questions++;
	bpf_map_update_elem(&asked_neighbors, &key, &fresh, BPF_ANY);
	packet->asks = true;
	return 0;
}

/* ---- the question -------------------------------------------------------------- */

/* Make the packet in hand the question, whatever it was. */
static __always_inline bool become_question(struct __sk_buff *skb, const void *question,
					    __u32 bytes)
{
	return !bpf_skb_change_tail(skb, ETHERNET_BYTES + REST_BYTES, 0) &&
	       !bpf_skb_adjust_room(skb, bytes - ETHERNET_BYTES - REST_BYTES, BPF_ADJ_ROOM_MAC,
				    0) &&
	       !bpf_skb_store_bytes(skb, 0, question, bytes, 0);
}

static __always_inline bool write_arp_question(struct __sk_buff *skb, const struct packet *packet,
					       struct scratch *space,
					       const struct router_interface *asker)
{
	struct arp_question *question = (struct arp_question *)space->bytes;
	struct arp_message *arp = &question->frame.arp;
	__u32 sender = mapped_ipv4(asker->address4), target = mapped_ipv4(packet->wanted);

	__builtin_memset(question, 0, sizeof(*question));
	__builtin_memset(question->frame.destination, 0xff, MAC_BYTES);
	copy_mac(question->frame.source, asker->mac);
	question->frame.ethertype = BE16_ARP;
	arp->hardware_type = bpf_htons(ARP_HARDWARE_ETHERNET);
	arp->protocol_type = BE16_IPV4;
	arp->hardware_bytes = MAC_BYTES;
	arp->protocol_bytes = 4;
	arp->operation = bpf_htons(ARP_REQUEST);
	copy_mac(arp->sender_mac, asker->mac);
	__builtin_memcpy(arp->sender_ip, &sender, 4);
	__builtin_memcpy(arp->target_ip, &target, 4);
	return become_question(skb, question, sizeof(*question));
}

/* To the solicited-node address of the target (RFC 4861 4.3, RFC 4291 2.7.1). */
static __always_inline void address_solicitation(struct ipv6_frame *frame, const __u8 *target)
{
	__u8 *group = frame->ip.daddr.in6_u.u6_addr8;

	group[0] = 0xff;
	group[1] = 0x02;
	group[11] = 0x01;
	group[12] = 0xff;
	__builtin_memcpy(group + 13, target + 13, 3);
	frame->destination[0] = frame->destination[1] = 0x33;
	__builtin_memcpy(frame->destination + 2, group + 12, 4);
}

static __always_inline bool write_nd_question(struct __sk_buff *skb, const struct packet *packet,
					      struct scratch *space,
					      const struct router_interface *asker)
{
	struct nd_question *question = (struct nd_question *)space->bytes;
	struct solicitation *solicitation = &question->solicitation;
	struct advertisement *message = &solicitation->message;
	__u8 source[ADDRESS_BYTES] __attribute__((aligned(4)));
	__u64 sum;

	__builtin_memset(question, 0, sizeof(*question));
	copy_address(source, asker->address6);
	if (is_unspecified(source))
		link_local_of(source, asker->mac);
	start_ipv6(&question->frame, IPPROTO_ICMPV6, sizeof(*solicitation), ND_HOP_LIMIT);
	address_solicitation(&question->frame, packet->wanted);
	copy_mac(question->frame.source, asker->mac);
	copy_address(&question->frame.ip.saddr, source);
	message->nd.type = ND_NEIGHBOR_SOLICIT;
	copy_address(message->nd.target, packet->wanted);
	message->option_type = ND_OPTION_SOURCE_MAC;
	message->option_length = 1;
	copy_mac(message->option_mac, asker->mac);
	solicitation->rest_type = ND_OPTION_EXPERIMENT;
	solicitation->rest_length = REST_BYTES / 8;
	sum = pseudo_header_sum6(source, (const __u8 *)&question->frame.ip.daddr, IPPROTO_ICMPV6,
				 sizeof(*solicitation));
	sum += sum_of(solicitation, sizeof(*solicitation));
	message->nd.checksum = finish_checksum(sum);
	return become_question(skb, question, sizeof(*question));
}

/* Apart from the flooding, for the sake of the stack. */
__noinline int write_question(struct __sk_buff *skb, struct packet *packet)
{
	struct router_interface *asker;
	struct scratch *space = scratch();
	bool is_written;

	if (!packet || !space)
		return false;
	asker = find_router_interface(packet->router, packet->to_network);
	if (!asker)
		return false;
	is_written = is_ipv4(packet) ? write_arp_question(skb, packet, space, asker) :
				       write_nd_question(skb, packet, space, asker);
	packet->network = packet->to_network;
	packet->segment_bytes = 0; /* passes everywhere */
	packet->is_for_open = false;
	return is_written;
}

/* Flood the question to the foreign hosts of the network. A port pays for it. */
static __always_inline void solicit(struct __sk_buff *skb, struct packet *packet,
				    const struct port *payer)
{
	const __u8 broadcast[MAC_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (!write_question(skb, packet))
		return;
	flood_other_hosts(skb, packet, 0);
	if (payer)
		pay_flood(payer, broadcast, packet->host_copies);
}
