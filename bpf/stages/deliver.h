/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* deliver: to one port, back to the sender, or a copy to each port of the network. */
#pragma once

#include "stages/flow.h"

struct flood {
	struct __sk_buff *skb;
	__u32 from, next, copies, bytes, trace;
};

/* One step along the ring of the network's ports. */
static long flood_step(__u32 index, struct flood *flood)
{
	struct port *to;

	if (flood->next == flood->from)
		return 1;
	to = find_port(flood->next);
	if (!to)
		return 1;
	flood->copies++;
	if (!flood->trace) {
		count(to->counter_slot, TO_VM, flood->bytes);
		bpf_clone_redirect(flood->skb, flood->next, 0);
	}
	flood->next = to->flood_next;
	return 0;
}

static __always_inline int deliver_copies(struct __sk_buff *skb, struct packet *packet,
					  const struct port *from)
{
	struct flood flood = {
		.skb = skb,
		.from = packet->key.ifindex,
		.next = from->flood_next,
		.bytes = skb->len,
		.trace = packet->trace,
	};

	bpf_loop(COUNTER_SLOTS, flood_step, &flood, 0);
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
	bool to_peer;

	if (!to) /* it leaves just now */
		return drop(packet, STAGE_DELIVER, DROP_NO_NEIGHBOR);
	to_peer = to->flags & PORT_PEER && packet->to_ifindex != packet->key.ifindex;
	if (!packet->trace) {
		count(to->counter_slot, TO_VM, skb->len);
		if (packet->cacheable && packet->to_ifindex != packet->key.ifindex)
			remember(packet, from, to);
	}
	if (!rewrite(skb, packet->sent_macs, packet->hops))
		return drop(packet, STAGE_DELIVER, DROP_INTERNAL);
	decide_stage(packet, STAGE_DELIVER, to_peer ? DECISION_DELIVER_PEER : DECISION_DELIVER,
		     OUTCOME_PORT);
	return redirect_to(packet->to_ifindex, to_peer);
}
