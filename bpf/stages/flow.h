/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow -> forward | (slow path) guard
 *
 * The memory of what the slow path decided about a packet. The key holds the
 * device, the addresses and the ports; the entry holds the MACs that the frame
 * must have and the epoch under which it was decided. So a hit repeats the
 * answers of every stage, guard and policy included, with one lookup. Whatever
 * does not fit the entry to the letter goes the slow path, as does what opens
 * or closes a connection.
 */
#pragma once

#include "shared/checksum.h"
#include "shared/envelope.h"
#include "shared/packet.h"
#include "stages/parse.h"

#define HASH_FACTOR 0x9e3779b1 /* 2^32 / golden ratio, a prime */
#define SHAPED_MARK_MASK 0xff000000
#define TCP_STATE_FLAGS (TCP_FIN | TCP_SYN | TCP_RST)

static __always_inline void count(__u32 slot, enum direction direction, __u32 bytes)
{
	struct port_counters *counter = bpf_map_lookup_elem(&counters, &slot);

	if (!counter)
		return;
	if (direction == FROM_VM) {
		counter->from_vm_packets++;
		counter->from_vm_bytes += bytes;
	} else {
		counter->to_vm_packets++;
		counter->to_vm_bytes += bytes;
	}
}

static __always_inline bool same_macs(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* The flow that says what to do with this packet, or NULL for the slow path. The
 * decision UNSETTLED asks for a look at the connection first. */
static __always_inline struct flow *stage_flow(struct packet *packet)
{
	struct flow *flow;

	if (!packet->trackable) {
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_NONE;
		return NULL;
	}
	flow = bpf_map_lookup_elem(&flows, &packet->key);
	packet->has_entry = flow;
	if (!flow || !flow->ifindex || !same_macs(flow->received_macs, packet->macs)) {
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_MISS;
		return NULL;
	}
	if (current_epoch(flow->epoch_slot) != flow->epoch) {
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_STALE;
		return NULL;
	}
	if (!(flow->flags & FLOW_SETTLED) || packet->tcp_flags & TCP_STATE_FLAGS)
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_UNSETTLED;
	else
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_HIT;
	packet->cached_ifindex = flow->ifindex;
	if (flow->flags & FLOW_ALONE)
		return NULL;
	if (packet->segment_bytes > flow->mtu || (flow->hops && packet->ttl <= flow->hops))
		return NULL; /* the sender must be told */
	return flow;
}

/* How the headers of a packet change on its way. */
struct changes {
	const __u8 *macs;
	__u8 hops; /* routers passed */
	bool mark;
	__u8 dscp;
};

/* IPv4: the checksum follows each changed word (RFC 1624 eqn. 3). */
static __always_inline void change_ipv4(struct iphdr *ip, struct changes changes)
{
	__u32 sum = (__u16)~ip->check;

	sum += (__u16)~bpf_htons(ip->ttl << 8);
	ip->ttl -= changes.hops;
	sum += bpf_htons(ip->ttl << 8);
	if (changes.mark) {
		sum += (__u16)~bpf_htons(ip->tos);
		ip->tos = changes.dscp << 2 | (ip->tos & ECN_MASK);
		sum += bpf_htons(ip->tos);
	}
	ip->check = finish_checksum(sum);
}

static __always_inline void change_ipv6(struct ipv6hdr *ip, struct changes changes)
{
	ip->hop_limit -= changes.hops;
	if (changes.mark) { /* the traffic class lies across two bytes */
		ip->priority = changes.dscp >> 2;
		ip->flow_lbl[0] = (changes.dscp << 6) | (ip->flow_lbl[0] & 0x3f);
	}
}

static __always_inline bool rewrite(struct __sk_buff *skb, struct changes changes)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;

	if (!changes.hops && !changes.mark)
		return true;
	if ((void *)(ethernet + 1) > end)
		return false;
	if (changes.hops)
		__builtin_memcpy(ethernet, changes.macs, 2 * MAC_BYTES);
	if (ethernet->h_proto == BE16_IPV4) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end)
			return false;
		change_ipv4(ip, changes);
	} else if (ethernet->h_proto == BE16_IPV6) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end)
			return false;
		change_ipv6(ip, changes);
	}
	return true;
}

static __always_inline int redirect_to(__u32 ifindex, bool to_peer)
{
	return to_peer ? bpf_redirect_peer(ifindex, 0) : bpf_redirect(ifindex, 0);
}

/* The shaper's qdisc has a class for each shaped port; at its other end waits
 * from_vm, to which the mark says where the frame was going. */
static __always_inline int redirect_through(struct __sk_buff *skb, __u32 shaper, __u32 slot,
					    __u32 mark)
{
	skb->priority = SHAPER_MAJOR << 16 | (slot + 1);
	skb->mark = mark;
	return bpf_redirect(shaper, 0);
}

/* For another host; where it is, is known when the shaper lets go of it. */
static __always_inline int redirect_through_to_host(struct __sk_buff *skb, __u32 shaper,
						    __u32 slot, __u32 host, __u32 mark)
{
	skb->tc_index = host;
	return redirect_through(skb, shaper, slot, mark);
}

/* The kernel takes the source port of the envelope from the hash of the packet. A
 * packet that has none yet gets that of its flow: the kernel would dissect it anew,
 * and know less of fragments. */
static __always_inline void give_hash(struct __sk_buff *skb, const struct packet *packet)
{
	const __u32 *words = (const __u32 *)&packet->key;
	__u32 hash = 0;

	if (skb->hash)
		return;
#pragma unroll
	for (int i = 0; i < (int)(sizeof(packet->key) / sizeof(*words)); i++) {
		hash = (hash ^ words[i]) * HASH_FACTOR;
		hash = hash << 15 | hash >> 17; /* all bits shall count */
	}
	bpf_set_hash(skb, hash ? hash : 1);
}

static __always_inline int forward_to_host(struct __sk_buff *skb, const struct packet *packet,
					   const struct flow *flow, struct vtep *vtep)
{
	give_hash(skb, packet);
	if (flow->shaper)
		return redirect_through_to_host(skb, flow->shaper, flow->from_slot, flow->host,
						SHAPED_TUNNEL_MARK | flow->to_network);
	return send_to_host(skb, vtep, flow->tunnel, flow->to_network, 0);
}

/* Send a packet the way its flow says, or return a negative number when that is
 * no more possible. */
static __always_inline int forward(struct __sk_buff *skb, const struct packet *packet,
				   struct flow *flow)
{
	struct vtep *vtep = NULL;
	struct changes changes = {
		.macs = flow->sent_macs,
		.hops = flow->hops,
		.mark = flow->flags & FLOW_DSCP,
		.dscp = flow->dscp,
	};
	__u32 bytes = skb->len;

	if (flow->tunnel) {
		vtep = find_vtep(flow->host);
		if (!vtep || !fits_path(packet, vtep))
			return -1;
	}
	flow->used_at = bpf_ktime_get_coarse_ns();
	flow->packets++;
	flow->bytes += bytes;
	count(flow->from_slot, FROM_VM, bytes);
	if (!vtep)
		count(flow->to_slot, TO_VM, bytes);
	if (!rewrite(skb, changes))
		return TC_ACT_SHOT;
	if (vtep)
		return forward_to_host(skb, packet, flow, vtep);
	if (flow->shaper)
		return redirect_through(skb, flow->shaper, flow->from_slot,
					SHAPED_MARK | flow->ifindex);
	return redirect_to(flow->ifindex, flow->flags & FLOW_PEER);
}

/* The same for what came from another host, which has changed the headers. */
static __always_inline int forward_arrived(struct __sk_buff *skb, struct flow *flow)
{
	__u32 bytes = skb->len;

	flow->used_at = bpf_ktime_get_coarse_ns();
	flow->packets++;
	flow->bytes += bytes;
	count(flow->to_slot, TO_VM, bytes);
	return redirect_to(flow->ifindex, flow->flags & FLOW_PEER);
}

/* Who sends it and who gets it. What the entry says of one must suit all packets. */
static __always_inline __u16 write_ends(struct flow *flow, const struct port *from,
				       const struct port *to)
{
	__u16 flags = 0;

	flow->from_slot = flow->to_slot = 0;
	flow->shaper = 0;
	if (to) {
		flow->from_slot = flow->to_slot = to->counter_slot;
		flags |= delivers_to_peer(to) ? FLOW_PEER : 0;
		flags |= to->to_vm_packet_ns ? FLOW_ALONE : 0;
	}
	if (from) {
		flow->from_slot = from->counter_slot;
		flow->shaper = from->shaper;
		flow->dscp = from->dscp;
		flags |= from->flags & PORT_DSCP ? FLOW_DSCP : 0;
		flags |= from->from_vm_packet_ns ? FLOW_ALONE : 0;
	}
	return flags;
}

/* What was decided about a packet, but for its epoch. An end at another host is
 * NULL, and the tunnel the ifindex of the device to there. */
static __always_inline void write_way(struct flow *flow, const struct packet *packet,
				      const struct port *from, const struct port *to, __u32 tunnel)
{
	__u16 flags = write_ends(flow, from, to);

	__builtin_memcpy(flow->received_macs, packet->macs, sizeof(flow->received_macs));
	__builtin_memcpy(flow->sent_macs, packet->sent_macs, sizeof(flow->sent_macs));
	flags |= packet->settled ? FLOW_SETTLED : 0;
	flags |= packet->is_movable ? FLOW_ALONE : 0;
	flow->flags = flags;
	flow->tunnel = tunnel;
	flow->host = from ? packet->to_host : packet->from_host;
	flow->to_network = packet->to_network;
	flow->epoch_slot = packet->epoch_slot;
	flow->mtu = packet->mtu;
	flow->hops = packet->hops;
	flow->ifindex = packet->to_ifindex;
	flow->used_at = bpf_ktime_get_coarse_ns();
	flow->packets++;
	flow->bytes += packet->frame_bytes;
}

/* Write down what was decided in the entry that the policy stage made or found. Its
 * epoch is the last to be written: a reader on another CPU takes the entry for
 * stale until it is whole. A function of its own for the sake of the stack. */
__noinline int remember(struct packet *packet, struct port *from, struct port *to, __u32 tunnel)
{
	struct flow_key key;
	struct flow *flow;

	if (!packet)
		return -1;
	if (packet->is_written)
		return 0;
	key = packet->key; /* 6.1 wants keys on the stack */
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return -1;
	flow->epoch = packet->epoch - 1;
	barrier();
	write_way(flow, packet, from, to, tunnel);
	barrier();
	flow->epoch = packet->epoch;
	return 0;
}
