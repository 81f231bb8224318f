/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* deliver: to one port, back to the sender, or a copy to each port of the network. */
#pragma once

#include "stages/drop.h"
#include "stages/flow.h"
#include "stages/pace.h"
#include "stages/policy.h"

struct flood {
	struct __sk_buff *skb;
	struct packet *packet;
	__u32 from, next, copies, bytes, trace;
	bool is_free; /* of the receivers' rules */
};

/* May the next port have its copy? Its rules and rate say no in its name. */
static __always_inline bool may_have_copy(struct flood *flood, const struct port *to)
{
	struct packet *packet = flood->packet;

	if (!flood->is_free && !may_enter(packet, flood->next))
		packet->drop_reason = DROP_POLICY_TO_VM;
	else if (!may_receive(to, !flood->trace))
		packet->drop_reason = DROP_PACKET_RATE_TO_VM;
	else
		return true;
	packet->blamed_ifindex = flood->next;
	if (!flood->trace)
		account_drop(flood->skb, packet);
	packet->drop_reason = DROP_NONE;
	return false;
}

/* One step along the ring of the network's ports. */
static long flood_step(__u32 index, struct flood *flood)
{
	struct port *to;

	if (flood->next == flood->from)
		return 1;
	to = find_port(flood->next);
	if (!to)
		return 1;
	if (may_have_copy(flood, to)) {
		flood->copies++;
		if (!flood->trace) {
			count(to->counter_slot, TO_VM, flood->bytes);
			bpf_clone_redirect(flood->skb, flood->next, 0);
		}
	}
	flood->next = to->flood_next;
	return 0;
}

static __always_inline int deliver_copies(struct __sk_buff *skb, struct packet *packet,
					  const struct port *from)
{
	struct flood flood = {
		.skb = skb,
		.packet = packet,
		.is_free = needs_no_rule(packet) && !is_dhcp4_request(packet) &&
			   !is_dhcp6_request(packet),
		.from = packet->key.ifindex,
		.next = from->flood_next,
		.bytes = skb->len,
		.trace = packet->trace,
	};
	struct changes changes = { .mark = from->flags & PORT_DSCP, .dscp = from->dscp };

	if (!may_flood(from))
		return drop(packet, STAGE_DELIVER, DROP_FLOOD_LIMIT);
	if (from->shaper && !packet->is_shaped && !packet->trace)
		return redirect_through(skb, from->shaper, from->counter_slot,
					SHAPED_FLOOD_MARK | packet->key.ifindex);
	if (!rewrite(skb, changes))
		return drop(packet, STAGE_DELIVER, DROP_INTERNAL);
	bpf_loop(COUNTER_SLOTS, flood_step, &flood, 0);
	if (!packet->trace)
		pay_flood(from, destination_mac(packet), flood.copies);
	packet->blamed_ifindex = 0;
	packet->copies = flood.copies;
	packet->to_network = packet->network;
	decide_stage(packet, STAGE_DELIVER, DECISION_DELIVER_COPIES, OUTCOME_FLOOD);
	return TC_ACT_SHOT; /* the copies are on their way, the original is done with */
}

static __always_inline int deliver_back(struct __sk_buff *skb, struct packet *packet,
					const struct port *from)
{
	if (!packet->trace)
		count(from->counter_slot, TO_VM, skb->len);
	packet->to_ifindex = packet->key.ifindex;
	packet->to_network = packet->network;
	if (!packet->decisions[STAGE_DELIVER])
		decide_stage(packet, STAGE_DELIVER, DECISION_DELIVER_BACK, OUTCOME_ANSWER);
	return redirect_to(packet->key.ifindex, false);
}

static __always_inline int deliver_to_port(struct __sk_buff *skb, struct packet *packet,
					   struct port *from)
{
	struct port *to = find_port(packet->to_ifindex);
	struct changes changes = {
		.macs = packet->sent_macs,
		.hops = packet->hops,
		.mark = from->flags & PORT_DSCP,
		.dscp = from->dscp,
	};
	bool to_peer;

	if (!to) /* it leaves just now */
		return drop(packet, STAGE_DELIVER, DROP_NO_NEIGHBOR);
	if (!may_receive(to, !packet->trace)) {
		packet->blamed_ifindex = packet->to_ifindex;
		return drop(packet, STAGE_DELIVER, DROP_PACKET_RATE_TO_VM);
	}
	to_peer = delivers_to_peer(to) && packet->to_ifindex != packet->key.ifindex;
	if (!packet->trace) {
		count(to->counter_slot, TO_VM, skb->len);
		if (packet->trackable && packet->to_ifindex != packet->key.ifindex)
			remember(packet, from, to);
	}
	if (!rewrite(skb, changes))
		return drop(packet, STAGE_DELIVER, DROP_INTERNAL);
	decide_stage(packet, STAGE_DELIVER, to_peer ? DECISION_DELIVER_PEER : DECISION_DELIVER,
		     OUTCOME_PORT);
	if (from->shaper)
		return redirect_through(skb, from->shaper, from->counter_slot,
					SHAPED_MARK | packet->to_ifindex);
	return redirect_to(packet->to_ifindex, to_peer);
}
