/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the rules of the two ends of a packet say: those of its sender about
 * leaving, those of its receiver about entering.
 */
#pragma once

#include "stages/connection.h"
#include "stages/rules.h"

/* Ask on behalf of one end. is_turned: about the direction in which the
 * connection was opened, while the packet in hand goes the other way. */
static __always_inline struct question *ask_for(const struct packet *packet, __u32 ifindex,
						enum direction direction, bool is_turned)
{
	struct question *ask = question();
	bool peer_is_source = (direction == TO_VM) != is_turned;
	struct flow_key reverse;

	if (!ask)
		return NULL;
	ask->ifindex = ifindex;
	ask->direction = direction;
	ask->ip_version = is_ipv4(packet) ? 4 : 6;
	ask->peer_network = peer_is_source ? packet->network : packet->to_network;
	copy_address(ask->peer, peer_is_source ? packet->key.source : packet->key.destination);
	ask->protocol = packet->key.l4_protocol;
	reverse_key(&reverse, &packet->key, 0);
	ask->port = bpf_ntohs(is_turned ? reverse.destination_port_be :
					  packet->key.destination_port_be);
	return ask;
}

/* What the rules of one end say: minus a drop reason, or whether the one that
 * allows it is stateless. Leaves its number in the packet. An end at another host
 * is judged there. */
static __always_inline int judge_end(struct packet *packet, __u32 ifindex, enum direction direction,
				     bool is_turned)
{
	struct question *ask;
	__u32 rule;

	if (is_zone(ifindex))
		return 0;
	ask = ask_for(packet, ifindex, direction, is_turned);
	rule = ask ? find_rule(ask) : RULE_NONE;
	if (direction == FROM_VM)
		packet->from_rule = rule;
	else
		packet->to_rule = rule;
	packet->blamed_ifindex = rule ? 0 : ifindex;
	if (!ask || !rule)
		return direction == FROM_VM ? -DROP_POLICY_FROM_VM : -DROP_POLICY_TO_VM;
	return ask->is_stateless;
}

/* The sender's own rules, about this packet alone. */
__noinline int may_leave(struct packet *packet)
{
	return packet && judge_end(packet, packet->key.ifindex, FROM_VM, false) >= 0;
}

/* A receiver's own rules, about this packet alone. */
__noinline int may_enter(struct packet *packet, __u32 ifindex)
{
	return packet && judge_end(packet, ifindex, TO_VM, false) >= 0;
}

static __always_inline int refuse_sender(struct packet *packet)
{
	packet->icmp_error_type = 0;
	return drop(packet, STAGE_POLICY, DROP_POLICY_FROM_VM);
}

static __always_inline int refuse_receiver(struct packet *packet, __u32 ifindex)
{
	packet->blamed_ifindex = ifindex;
	return drop(packet, STAGE_POLICY, DROP_POLICY_TO_VM);
}

static __always_inline int allow(struct packet *packet, enum decision decision, int outcome)
{
	bool is_open = (packet->from_rule == RULE_OPEN || is_zone(packet->key.ifindex)) &&
		       (packet->to_rule == RULE_OPEN || is_zone(packet->to_ifindex));

	return decide_stage(packet, STAGE_POLICY,
			    decision == DECISION_POLICY_ALLOWED && is_open ? DECISION_POLICY_OPEN :
									     decision,
			    outcome);
}

/* ---- both ends ---------------------------------------------------------------- */

#define STATELESS_BOTH (CONNECTION_STATELESS_FROM | CONNECTION_STATELESS_TO)

/* Which ends are stateless, as bits, or minus a drop reason. One at another host
 * counts as the one that is here: there the same is done, the other way round. */
__noinline int judge_opening(struct packet *packet, __u32 from, __u32 to, int is_reply)
{
	int at_from, at_to;

	if (!packet)
		return -DROP_INTERNAL;
	at_from = judge_end(packet, from, FROM_VM, is_reply);
	if (at_from < 0)
		return at_from;
	at_to = judge_end(packet, to, TO_VM, is_reply);
	if (at_to < 0)
		return at_to;
	if (is_zone(from))
		at_from = at_to;
	if (is_zone(to))
		at_to = at_from;
	return (at_from ? CONNECTION_STATELESS_FROM : 0) | (at_to ? CONNECTION_STATELESS_TO : 0);
}
