/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy -> deliver | flood | serve | drop
 *
 * Security groups (rules.h, ends.h) and connections (connection.h, track.h).
 * What opens a connection needs a rule of the sender's groups and one of the
 * receiver's; what belongs to one needs none until the policy changes. Comes
 * after switch and route, since the networks of both ends are a part of the
 * question, and before anything is answered.
 */
#pragma once

#include "stages/switch.h"
#include "stages/track.h"

static __always_inline bool asks_for_address(const struct packet *packet)
{
	return is_dhcp4_request(packet) || is_dhcp6_request(packet);
}

/* What Neutron lets pass without a rule: a port could not work without. */
static __always_inline bool needs_no_rule(const struct packet *packet)
{
	if (packet->ethertype_be == BE16_ARP || is_nd(packet) || asks_for_address(packet))
		return true;
	return is_ipv6(packet) && packet->key.l4_protocol == IPPROTO_ICMPV6 &&
	       packet->fragment != FRAGMENT_LATER &&
	       (packet->icmp_type == MLD_QUERY || packet->icmp_type == MLD_REPORT ||
		packet->icmp_type == MLD_DONE || packet->icmp_type == MLD2_REPORT);
}

/* What stays with heddle, or goes to many: the sender's rules alone. Who may
 * reply but not open must learn as well that a packet was too big. */
static __always_inline int judge_sender(struct packet *packet, int outcome)
{
	if (outcome == OUTCOME_DROP && packet->has_entry)
		return outcome;
	if (!may_leave(packet))
		return refuse_sender(packet);
	if (outcome == OUTCOME_DROP) /* the sender may be told why */
		return outcome;
	packet->to_rule = RULE_OPEN;
	return allow(packet, DECISION_POLICY_ALLOWED, outcome);
}

/* What needs no rule of its sender. Who is asked for an address, and is no server of
 * heddle's, has rules about that. */
static __always_inline int judge_free(struct packet *packet, int outcome)
{
	if (outcome == OUTCOME_DROP)
		return outcome;
	if (outcome == OUTCOME_PORT && asks_for_address(packet) && !is_zone(packet->to_ifindex) &&
	    !may_enter(packet, packet->to_ifindex))
		return refuse_receiver(packet, packet->to_ifindex);
	return decide_stage(packet, STAGE_POLICY, DECISION_PASS, outcome);
}

static __always_inline bool is_orphan(const struct packet *packet)
{
	return packet->fragment == FRAGMENT_LATER && !packet->trackable;
}

static __always_inline bool is_open(__u32 ifindex)
{
	struct port *port = find_port(ifindex);

	return is_zone(ifindex) || (port && port->flags & PORT_OPEN);
}

__noinline int stage_policy(struct __sk_buff *skb, struct packet *packet, int outcome)
{
	if (!packet)
		return OUTCOME_DROP;
	if (outcome == OUTCOME_CONSUMED || outcome == OUTCOME_ANSWER ||
	    (outcome == OUTCOME_DROP && !packet->icmp_error_type))
		return outcome;
	if (needs_no_rule(packet))
		return judge_free(packet, outcome);
	if (outcome != OUTCOME_PORT)
		return judge_sender(packet, outcome);
	if (is_orphan(packet)) {
		if (!is_open(packet->key.ifindex) || !is_open(packet->to_ifindex))
			return drop(packet, STAGE_POLICY, DROP_FRAGMENT_ORPHAN);
		return decide_stage(packet, STAGE_POLICY, DECISION_POLICY_OPEN, outcome);
	}
	if (is_icmp_error(packet)) {
		int related = judge_related(skb);

		if (related >= 0)
			return related;
	}
	return judge_tracked();
}
