// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every frame that a VM or container sends, at the ingress of its TAP or of the
 * host end of its veth.
 *
 *   parse -> fragment -> flow -> forward
 *                          |
 *                          +-> guard -> answer -> switch -> route -> policy
 *                                                                      |
 *                                                       drop(reason) | deliver
 *
 * A packet of a known flow takes the upper line, all others the lower one. The
 * verdict is always a redirect or a drop: nothing reaches the host's own stack.
 */
#include "shared/packet.h"
#include "stages/answer.h"
#include "stages/deliver.h"
#include "stages/drop.h"
#include "stages/flow.h"
#include "stages/fragment.h"
#include "stages/guard.h"
#include "stages/icmp_error.h"
#include "stages/parse.h"
#include "stages/policy.h"
#include "stages/route.h"
#include "stages/solicit.h"
#include "stages/switch.h"
#include "stages/trace.h"

static __always_inline int run_stages(struct __sk_buff *skb, struct packet *packet,
				      const struct port *from)
{
	int outcome;

	if (packet->drop_reason) /* parse */
		return OUTCOME_DROP;
	if (!packet->is_shaped && !may_send(from, !packet->trace))
		return drop(packet, STAGE_FLOW, DROP_PACKET_RATE_FROM_VM);
	outcome = stage_guard(skb, packet, from);
	if (outcome != OUTCOME_NEXT)
		return outcome;
	outcome = stage_answer(skb, packet, from);
	if (outcome != OUTCOME_NEXT)
		return outcome;
	outcome = stage_switch(packet);
	if (outcome == OUTCOME_NEXT)
		outcome = stage_route(packet);
	outcome = stage_policy(skb, packet, outcome);
	if (outcome == OUTCOME_SERVE)
		return serve(skb, packet, packet->router ? STAGE_ROUTE : STAGE_SWITCH);
	return outcome;
}

static __always_inline int finish_drop(struct __sk_buff *skb, struct packet *packet,
				       const struct port *from)
{
	if (packet->is_for_foreign)
		consider_question(packet);
	if (!packet->trace)
		account_drop(skb, packet);
	if (from && packet->asks)
		solicit(skb, packet, from);
	if (from && packet->icmp_error_type &&
	    report_error(skb, packet) == OUTCOME_ANSWER)
		return deliver_back(skb, packet, from);
	return TC_ACT_SHOT;
}

static __always_inline int finish(struct __sk_buff *skb, struct packet *packet,
				  struct port *from, int outcome)
{
	switch (outcome) {
	case OUTCOME_ANSWER:
		return deliver_back(skb, packet, from);
	case OUTCOME_PORT: {
		int verdict = is_zone(packet->to_ifindex) ? deliver_to_host(skb, packet, from) :
							    deliver_to_port(skb, packet, from);

		if (!packet->drop_reason)
			return verdict;
		return finish_drop(skb, packet, from);
	}
	case OUTCOME_FLOOD: {
		int verdict = deliver_copies(skb, packet, from);

		if (!packet->drop_reason)
			return verdict;
		return finish_drop(skb, packet, from);
	}
	case OUTCOME_CONSUMED:
		return TC_ACT_SHOT;
	}
	return finish_drop(skb, packet, from);
}

/* The VM of a port that stands by runs here from its first frame on: so say all
 * rows at once, and the agent is told. */
static __always_inline void become_active(struct port *port, __u32 ifindex)
{
	struct active_event *event;

	if (!(__sync_fetch_and_and(&port->flags, ~PORT_STANDBY) & PORT_STANDBY))
		return; /* another CPU was faster */
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return; /* the hypervisor tells the agent as well */
	event->kind = EVENT_ACTIVE;
	event->ifindex = ifindex;
	event->time = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, 0);
}

/* The slow path: decide about a packet that no valid flow knows. */
__noinline int decide(struct __sk_buff *skb, struct packet *packet)
{
	struct port *from;
	int verdict;

	if (!packet)
		return TC_ACT_SHOT;
	__builtin_memset((void *)packet + PARSED_BYTES, 0, sizeof(*packet) - PARSED_BYTES);
	packet->is_shaped = packet->key.ifindex != skb->ifindex;
	packet->trace = trace_of(skb);
	from = find_port(packet->key.ifindex);
	if (!from) {
		drop(packet, STAGE_PARSE, DROP_UNKNOWN_PORT);
		verdict = finish_drop(skb, packet, NULL);
	} else {
		packet->network = from->network;
		packet->mtu = from->mtu;
		packet->epoch_slot = from->network % EPOCH_SLOTS;
		packet->epoch = current_epoch(packet->epoch_slot);
		packet->frame_bytes = skb->len;
		if (from->flags & PORT_STANDBY && !packet->trace)
			become_active(from, packet->key.ifindex);
		if (!packet->trace && !packet->is_shaped)
			count(from->counter_slot, FROM_VM, skb->len);
		verdict = finish(skb, packet, from, run_stages(skb, packet, from));
	}
	if (packet->trace)
		record_trace(packet);
	return verdict;
}

/* Whoever was to get it left while the frame was queued. */
static __always_inline int drop_shaped(struct __sk_buff *skb, struct packet *packet, __u32 device,
				       enum drop_reason reason)
{
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->key.ifindex = packet->device = device;
	drop(packet, STAGE_DELIVER, reason);
	account_drop(skb, packet);
	return TC_ACT_SHOT;
}

static __always_inline int leave_shaper_to_port(struct __sk_buff *skb, struct packet *packet,
						__u32 ifindex)
{
	struct port *to = find_port(ifindex);

	if (!to)
		return drop_shaped(skb, packet, ifindex, DROP_NO_NEIGHBOR);
	return redirect_to(ifindex, delivers_to_peer(to));
}

static __always_inline int leave_shaper_to_host(struct __sk_buff *skb, struct packet *packet,
						__u32 host, __u32 mark)
{
	struct this_host *here = find_this_host();
	bool is_open = (mark & SHAPED_MARK_MASK) == SHAPED_OPEN_TUNNEL_MARK;
	struct vtep *vtep = find_vtep(host);

	if (!vtep || !here || !here->tunnel_ifindex)
		return drop_shaped(skb, packet, skb->ifindex, DROP_NO_VTEP);
	return send_to_host(skb, vtep, here->tunnel_ifindex, mark & ~SHAPED_MARK_MASK,
			    is_open ? ENVELOPE_OPEN : 0);
}

/* What the shaper let pass has been decided about: on to its destination. Only
 * what is flooded goes through the stages again, for its receivers. A function of
 * its own, so that all others need not keep the packet's address on the stack. */
__noinline int leave_shaper(struct __sk_buff *skb, struct packet *packet)
{
	__u32 mark = skb->mark, host = skb->tc_index;

	if (!packet)
		return TC_ACT_SHOT;
	/* Neither is for a class of the receiver's qdisc or the underlay's routes. */
	skb->mark = skb->priority = skb->tc_index = 0;
	if ((mark & SHAPED_MARK_MASK) != SHAPED_MARK)
		return leave_shaper_to_host(skb, packet, host, mark);
	return leave_shaper_to_port(skb, packet, mark & ~SHAPED_MARK_MASK);
}

static __always_inline bool is_leaving_shaper(const struct __sk_buff *skb)
{
	__u32 kind = skb->mark & SHAPED_MARK_MASK;

	return kind == SHAPED_MARK || kind == SHAPED_TUNNEL_MARK || kind == SHAPED_OPEN_TUNNEL_MARK;
}

/* The device that the frame came from at first. */
static __always_inline __u32 sender_of(struct __sk_buff *skb)
{
	__u32 ifindex = skb->mark & ~SHAPED_MARK_MASK;

	if ((skb->mark & SHAPED_MARK_MASK) != SHAPED_FLOOD_MARK)
		return skb->ifindex;
	skb->mark = skb->priority = 0;
	return ifindex;
}

SEC("tc")
int from_vm(struct __sk_buff *skb)
{
	struct packet *packet = packet_in_hand();

	if (!packet)
		return TC_ACT_SHOT;
	if (is_leaving_shaper(skb))
		return leave_shaper(skb, packet);
	__builtin_memset(packet, 0, PARSED_BYTES);
	packet->key.ifindex = packet->device = sender_of(skb);
	if (stage_parse(skb, packet) == OUTCOME_NEXT) {
		struct flow *flow;

		if (packet->fragment)
			stage_fragment(skb, packet);
		flow = stage_flow(packet);
		if (flow && !trace_of(skb) &&
		    (packet->decisions[STAGE_FLOW] == DECISION_FLOW_HIT ||
		     track(packet, flow))) {
			int verdict = forward(skb, packet, flow);

			if (verdict >= 0)
				return verdict;
		}
	}
	return decide(skb, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
