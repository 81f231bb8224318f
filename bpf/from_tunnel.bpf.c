// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every packet that another host sends, at the ingress of the VXLAN device. The
 * host that sent it has guarded, answered and routed it.
 *
 *   tunnel -> parse -> fragment -> flow -> forward
 *     |                             |
 *     +-> probe | relay             +-> arrive -> policy -> drop(reason) | deliver
 *                                         |         |
 *                                         +-> gateway -> deliver
 *
 * Only machines behind foreign VTEPs meet a gateway here.
 * A packet of a known flow takes the upper line. The verdict is always a redirect
 * or a drop: nothing reaches the host's own stack.
 */
#include "shared/packet.h"
#include "stages/arrive.h"
#include "stages/deliver.h"
#include "stages/drop.h"
#include "stages/flow.h"
#include "stages/fragment.h"
#include "stages/gateway.h"
#include "stages/icmp_error.h"
#include "stages/parse.h"
#include "stages/policy.h"
#include "stages/probe.h"
#include "stages/solicit.h"
#include "stages/tunnel.h"

static __always_inline int run_stages(struct __sk_buff *skb, struct packet *packet)
{
	int outcome;

	if (packet->decisions[STAGE_TUNNEL] == DECISION_RELAY)
		return send_on(skb, packet, packet->envelope & ENVELOPE_HOST_MASK, true);
	if (packet->decisions[STAGE_TUNNEL] == DECISION_PROBE)
		return stage_probe(skb, packet);
	if (packet->drop_reason == DROP_MALFORMED)
		packet->drop_reason = DROP_TUNNEL_MALFORMED;
	if (packet->drop_reason) /* tunnel, parse */
		return OUTCOME_DROP;
	outcome = stage_arrive(skb, packet);
	if (outcome == OUTCOME_MOVED)
		return send_on(skb, packet, packet->to_host, false);
	if (outcome == OUTCOME_NEXT)
		return stage_gateway(skb, packet);
	if (outcome == OUTCOME_PORT)
		find_network_of_sender(packet);
	return stage_policy(skb, packet, outcome);
}

static __always_inline int finish_drop(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->arrived_in)
		packet->key.ifindex = zone_of(packet->arrived_in);
	if (packet->is_for_foreign)
		consider_question(packet);
	account_drop(skb, packet);
	if (packet->asks)
		solicit(skb, packet, NULL);
	packet->network = envelope_network(packet);
	if (packet->icmp_error_type && report_error(skb, packet) == OUTCOME_ANSWER)
		return deliver_back_to_host(skb, packet, packet->arrived_in ?
								 packet->from_host :
								 holder_of_source(packet));
	return TC_ACT_SHOT;
}

static __always_inline int finish(struct __sk_buff *skb, struct packet *packet, int outcome)
{
	int verdict;

	switch (outcome) {
	case OUTCOME_ANSWER:
		return deliver_back_to_host(skb, packet, packet->from_host);
	case OUTCOME_PORT:
		verdict = packet->arrived_in ? deliver_routed(skb, packet) :
					       deliver_arrived(skb, packet);
		if (!packet->drop_reason)
			return verdict;
		break;
	case OUTCOME_FLOOD:
		return deliver_arrived_copies(skb, packet);
	case OUTCOME_RELAY:
		return bpf_redirect(packet->device, 0);
	case OUTCOME_CONSUMED:
		return TC_ACT_SHOT;
	}
	return finish_drop(skb, packet);
}

/* The slow path: decide about a packet that no valid flow knows. */
__noinline int decide(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return TC_ACT_SHOT;
	__builtin_memset((void *)packet + PARSED_BYTES, 0, sizeof(*packet) - PARSED_BYTES);
	packet->network = packet->to_network = envelope_network(packet);
	packet->epoch_slot = packet->network % EPOCH_SLOTS;
	packet->epoch = current_epoch(packet->epoch_slot);
	packet->frame_bytes = skb->len;
	return finish(skb, packet, run_stages(skb, packet));
}

SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	struct packet *packet = packet_in_hand();

	if (!packet)
		return TC_ACT_SHOT;
	skb->mark = skb->priority = 0; /* the underlay's, which mean other things here */
	__builtin_memset(packet, 0, PARSED_BYTES);
	packet->device = skb->ifindex;
	if (stage_tunnel(skb, packet) == OUTCOME_NEXT &&
	    stage_parse(skb, packet) == OUTCOME_NEXT) {
		struct flow *flow;

		if (packet->fragment)
			stage_fragment(skb, packet);
		flow = stage_flow(packet);
		if (flow && (flow->host != packet->from_host || is_from_open_port(packet)))
			flow = NULL; /* there may be something to learn */
		if (flow && (packet->decisions[STAGE_FLOW] == DECISION_FLOW_HIT ||
			     track(packet, flow)))
			return forward_arrived(skb, flow);
	}
	return decide(skb, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
