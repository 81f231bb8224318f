/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * That the rules of both ends have allowed a connection, kept for the next one: most
 * connections ask what one before them has asked, from another source port. A no is
 * not kept, since rules that allow more advance no epoch. Each CPU has its own
 * answers, so that none is read while it is written.
 */
#pragma once

#include "stages/ends.h"

#define ANSWERS_MAX 1024 /* a power of two */

/* All that the question is made of (ask_for), but for its direction. */
struct answer {
	__u8 source[ADDRESS_BYTES];
	__u8 destination[ADDRESS_BYTES];
	__u32 from_ifindex;
	__u32 to_ifindex;
	__u32 network;
	__u32 to_network;
	__u32 epoch; /* of these two networks: a change that allows less advances both */
	__u32 reply_epoch;
	__u16 destination_port_be;
	__be16 ethertype_be; /* 0: no question was asked yet */
	__u8 l4_protocol;
	__u8 pad[3];
	/* The answer. */
	__u32 from_rule;
	__u32 to_rule;
	__u32 stateless; /* as judge_opening has it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ANSWERS_MAX);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

static __always_inline struct answer *answer_place(const struct packet *packet)
{
	__u32 place = packet->key.ifindex * HASH_FACTOR;

	place = (place ^ mapped_ipv4(packet->key.source)) * HASH_FACTOR;
	place = (place ^ place >> 16 ^ mapped_ipv4(packet->key.destination)) * HASH_FACTOR;
	place = (place ^ place >> 16 ^ packet->key.destination_port_be) * HASH_FACTOR;
	place = place >> 16 & (ANSWERS_MAX - 1);
	return bpf_map_lookup_elem(&answers, &place);
}

static __always_inline bool is_answer_to(const struct answer *answer, const struct packet *packet)
{
	return answer->ethertype_be == packet->ethertype_be &&
	       same_address(answer->source, packet->key.source) &&
	       same_address(answer->destination, packet->key.destination) &&
	       answer->from_ifindex == packet->key.ifindex &&
	       answer->to_ifindex == packet->to_ifindex && answer->network == packet->network &&
	       answer->to_network == packet->to_network && answer->epoch == packet->epoch &&
	       answer->reply_epoch == packet->reply_epoch &&
	       answer->destination_port_be == packet->key.destination_port_be &&
	       answer->l4_protocol == packet->key.l4_protocol;
}

static __always_inline void keep_answer(struct answer *answer, const struct packet *packet,
					int stateless)
{
	copy_address(answer->source, packet->key.source);
	copy_address(answer->destination, packet->key.destination);
	answer->from_ifindex = packet->key.ifindex;
	answer->to_ifindex = packet->to_ifindex;
	answer->network = packet->network;
	answer->to_network = packet->to_network;
	answer->epoch = packet->epoch;
	answer->reply_epoch = packet->reply_epoch;
	answer->destination_port_be = packet->key.destination_port_be;
	answer->ethertype_be = packet->ethertype_be;
	answer->l4_protocol = packet->key.l4_protocol;
	answer->from_rule = packet->from_rule;
	answer->to_rule = packet->to_rule;
	answer->stateless = stateless;
}

/* What judge_opening says of the packet in hand. A traced packet asks the rules
 * themselves, and leaves no answer. */
static __always_inline int judge_or_recall(struct packet *packet)
{
	struct answer *answer = packet->trace ? NULL : answer_place(packet);
	int stateless;

	if (answer && is_answer_to(answer, packet)) {
		packet->from_rule = answer->from_rule;
		packet->to_rule = answer->to_rule;
		return answer->stateless;
	}
	stateless = judge_opening(packet, packet->key.ifindex, packet->to_ifindex, false);
	if (answer && stateless >= 0)
		keep_answer(answer, packet, stateless);
	return stateless;
}
