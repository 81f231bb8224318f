/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * deliver: to one port or the host that has it, back to the sender, or a copy to
 * each port of the network and each other host that has some.
 */
#pragma once

#include "stages/drop.h"
#include "stages/flow.h"
#include "stages/pace.h"
#include "stages/policy.h"

struct flood {
	struct __sk_buff *skb;
	struct packet *packet;
	__u32 end, next, copies, passed_over, bytes, trace;
	bool is_free; /* of the receivers' rules */
	bool is_whole; /* the ring is gone round, its end included */
};

/* May the next port have its copy? Its rules and rate say no in its name. */
static __always_inline bool may_have_copy(struct flood *flood, const struct port *to)
{
	struct packet *packet = flood->packet;

	if (is_elsewhere(to))
		return false; /* a VM that stands still gets no more of these than its queue holds */
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

	if (flood->next == flood->end && (index || !flood->is_whole))
		return 1;
	to = find_port(flood->next);
	if (!to)
		return 1;
	if (flood->packet->is_for_open && !(to->flags & PORT_OPEN)) {
		flood->passed_over++;
	} else if (may_have_copy(flood, to)) {
		flood->copies++;
		if (!flood->trace) {
			count(to->counter_slot, TO_VM, flood->bytes);
			bpf_clone_redirect(flood->skb, flood->next, 0);
		}
	}
	flood->next = to->flood_next;
	return 0;
}

/* A copy to each port of the network from that one up to the end of the ring, which
 * is the sender, or the first one again. */
static __always_inline void flood_ports(struct __sk_buff *skb, struct packet *packet, __u32 first,
					__u32 end)
{
	struct flood flood = {
		.skb = skb,
		.packet = packet,
		.is_free = needs_no_rule(packet) && !asks_for_address(packet),
		.end = end,
		.next = first,
		.is_whole = first == end && is_zone(packet->key.ifindex),
		.bytes = skb->len,
		.trace = packet->trace,
	};

	bpf_loop(COUNTER_SLOTS, flood_step, &flood, 0);
	packet->blamed_ifindex = 0;
	packet->copies = flood.copies;
	packet->passed_over = flood.passed_over;
}

struct host_flood {
	struct __sk_buff *skb;
	struct packet *packet;
	__u32 host, network, tunnel, copies, trace, bits;
};

/* Of what is for those alone of whom only their frames tell: may the host have any?
 * Of a multicast group some member may. */
static __always_inline bool may_know(const struct packet *packet, const struct vtep *vtep,
				     __u32 host)
{
	if ((!packet->is_for_foreign && !packet->is_for_open) || host >= GROUP_HOSTS)
		return true;
	return vtep->flags & VTEP_FOREIGN ? packet->is_for_foreign : packet->is_for_open;
}

/* One step along the list of the network's other hosts. */
static long host_flood_step(__u32 index, struct host_flood *flood)
{
	struct flood_host_key key = { .network = flood->network, .host = flood->host };
	struct packet *packet = flood->packet;
	struct vtep *vtep;
	__u32 *next;

	if (!flood->host)
		return 1;
	vtep = find_vtep(flood->host);
	if (vtep && !may_know(packet, vtep, flood->host)) {
		/* it has told about all that it has */
	} else if (vtep && fits_path(packet, vtep)) {
		flood->copies++;
		if (!flood->trace && address_envelope(flood->skb, vtep, flood->network,
						      bits_for(vtep, flood->bits), 0))
			bpf_clone_redirect(flood->skb, flood->tunnel, 0);
	} else if (!flood->trace) {
		packet->drop_reason = vtep ? DROP_TUNNEL_MTU : DROP_NO_VTEP;
		account_drop(flood->skb, packet);
		packet->drop_reason = DROP_NONE;
	}
	next = bpf_map_lookup_elem(&flood_hosts, &key);
	flood->host = next ? *next : 0;
	return 0;
}

/* A copy to each other host that has ports of the network. */
__noinline int flood_other_hosts(struct __sk_buff *skb, struct packet *packet, __u32 bits)
{
	struct host_flood flood = { .skb = skb, .packet = packet };
	struct this_host *here = find_this_host();
	struct tunnel_network *network;

	if (!packet)
		return -1;
	network = find_tunnel_network(packet->network);
	if (!network || !here || !here->tunnel_ifindex)
		return 0;
	flood.network = packet->network;
	flood.trace = packet->trace;
	flood.host = network->first_host;
	flood.tunnel = here->tunnel_ifindex;
	flood.bits = bits;
	bpf_loop(HOSTS_MAX, host_flood_step, &flood, 0);
	packet->host_copies = flood.copies;
	return 0;
}

/* Other hosts learn who is behind an open port. */
static __always_inline __u32 envelope_bits_of(const struct port *from)
{
	return from->flags & PORT_OPEN ? ENVELOPE_OPEN : 0;
}

static __always_inline int deliver_copies(struct __sk_buff *skb, struct packet *packet,
					  const struct port *from)
{
	struct changes changes = { .mark = from->flags & PORT_DSCP, .dscp = from->dscp };

	if (!may_flood(from))
		return drop(packet, STAGE_DELIVER, DROP_FLOOD_LIMIT);
	if (from->shaper && !packet->is_shaped && !packet->trace)
		return redirect_through(skb, from->shaper, from->counter_slot,
					SHAPED_FLOOD_MARK | packet->key.ifindex);
	if (!rewrite(skb, changes))
		return drop(packet, STAGE_DELIVER, DROP_INTERNAL);
	if (!packet->is_for_foreign || packet->is_for_open)
		flood_ports(skb, packet, from->flood_next, packet->key.ifindex);
	flood_other_hosts(skb, packet, envelope_bits_of(from));
	if (!packet->trace)
		pay_flood(from, destination_mac(packet),
			  packet->copies + packet->passed_over + packet->host_copies);
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
	packet->to_host = 0;
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
			remember(packet, from, to, 0);
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

static __always_inline __u32 tunnel_mark_of(const struct port *from)
{
	return from->flags & PORT_OPEN ? SHAPED_OPEN_TUNNEL_MARK : SHAPED_TUNNEL_MARK;
}

/* The other host's program judges the receiver's end, and counts for it. */
__noinline int deliver_to_host(struct __sk_buff *skb, struct packet *packet, struct port *from)
{
	struct this_host *here = find_this_host();
	struct changes changes = {};
	struct vtep *vtep;

	if (!packet || !from)
		return TC_ACT_SHOT;
	changes.macs = packet->sent_macs;
	changes.hops = packet->hops;
	changes.mark = from->flags & PORT_DSCP;
	changes.dscp = from->dscp;
	vtep = find_vtep(packet->to_host);
	if (!vtep || !here || !here->tunnel_ifindex)
		return drop(packet, STAGE_DELIVER, DROP_NO_VTEP);
	if (!packet->trace && packet->trackable)
		remember(packet, from, NULL, here->tunnel_ifindex);
	if (!rewrite(skb, changes))
		return drop(packet, STAGE_DELIVER, DROP_INTERNAL);
	decide_stage(packet, STAGE_DELIVER, DECISION_DELIVER_TUNNEL, OUTCOME_PORT);
	if (packet->trackable)
		give_hash(skb, packet);
	if (from->shaper)
		return redirect_through_to_host(skb, from->shaper, from->counter_slot,
						packet->to_host,
						tunnel_mark_of(from) | packet->to_network);
	return send_to_host(skb, vtep, here->tunnel_ifindex, packet->to_network,
			    envelope_bits_of(from));
}

/* ---- what came from another host -------------------------------------------------- */

static __always_inline int deliver_arrived(struct __sk_buff *skb, struct packet *packet)
{
	struct port *to = find_port(packet->to_ifindex);
	bool to_peer;

	if (!to) /* it leaves just now */
		return drop(packet, STAGE_DELIVER, DROP_NO_NEIGHBOR);
	if (!may_receive(to, true)) {
		packet->blamed_ifindex = packet->to_ifindex;
		return drop(packet, STAGE_DELIVER, DROP_PACKET_RATE_TO_VM);
	}
	to_peer = delivers_to_peer(to);
	count(to->counter_slot, TO_VM, skb->len);
	if (packet->trackable)
		remember(packet, NULL, to, 0);
	decide_stage(packet, STAGE_DELIVER, to_peer ? DECISION_DELIVER_PEER : DECISION_DELIVER,
		     OUTCOME_PORT);
	return redirect_to(packet->to_ifindex, to_peer);
}

/* To the ports of this host alone: the others have their own copies. */
static __always_inline int deliver_arrived_copies(struct __sk_buff *skb, struct packet *packet)
{
	struct tunnel_network *network = find_tunnel_network(packet->to_network);

	if (network && network->first_port)
		flood_ports(skb, packet, network->first_port, network->first_port);
	decide_stage(packet, STAGE_DELIVER, DECISION_DELIVER_COPIES, OUTCOME_FLOOD);
	return TC_ACT_SHOT;
}

/* An answer, or an ICMP error about what came from there. */
static __always_inline int deliver_back_to_host(struct __sk_buff *skb, struct packet *packet,
						__u32 host)
{
	struct vtep *vtep = find_vtep(host);

	return vtep ? send_to_host(skb, vtep, packet->device, packet->network, 0) : TC_ACT_SHOT;
}
