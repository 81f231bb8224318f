/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow -> forward | (slow path) guard
 *
 * The memory of what the slow path decided about a first packet. The key holds
 * the device, the addresses and the ports; the entry holds the MACs that the
 * frame must have and the epoch under which it was decided. So a hit repeats
 * the answers of every stage, guard included, with one lookup. Whatever does
 * not fit the entry to the letter goes the slow path.
 */
#pragma once

#include "shared/packet.h"

enum direction {
	FROM_VM,
	TO_VM,
};

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

/* The flow that says what to do with this packet, or NULL for the slow path. */
static __always_inline struct flow *stage_flow(struct packet *packet)
{
	struct flow *flow;

	if (!packet->cacheable) {
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_NONE;
		return NULL;
	}
	flow = bpf_map_lookup_elem(&flows, &packet->key);
	if (!flow || !same_macs(flow->received_macs, packet->macs)) {
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_MISS;
		return NULL;
	}
	if (current_epoch(flow->epoch_slot) != flow->epoch) {
		packet->decisions[STAGE_FLOW] = DECISION_FLOW_STALE;
		return NULL;
	}
	packet->decisions[STAGE_FLOW] = DECISION_FLOW_HIT;
	packet->cached_ifindex = flow->ifindex;
	if (packet->segment_bytes > flow->mtu || (flow->hops && packet->ttl <= flow->hops))
		return NULL; /* the sender must be told */
	return flow;
}

/* Take the routers passed off the TTL; the checksum follows (RFC 1624). */
static __always_inline void lower_ttl(struct ethhdr *ethernet, void *end, __u8 hops)
{
	if (ethernet->h_proto == BE16_IPV4) {
		struct iphdr *ip = (void *)(ethernet + 1);
		__u32 sum;

		if ((void *)(ip + 1) > end)
			return;
		sum = ip->check + bpf_htons(hops << 8);
		ip->check = sum + (sum >= 0xffff);
		ip->ttl -= hops;
	} else {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end)
			return;
		ip->hop_limit -= hops;
	}
}

static __always_inline bool rewrite(struct __sk_buff *skb, const __u8 *sent_macs, __u8 hops)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > end)
		return false;
	if (!hops)
		return true;
	__builtin_memcpy(ethernet, sent_macs, 2 * MAC_BYTES);
	lower_ttl(ethernet, end, hops);
	return true;
}

static __always_inline int redirect_to(__u32 ifindex, bool to_peer)
{
	return to_peer ? bpf_redirect_peer(ifindex, 0) : bpf_redirect(ifindex, 0);
}

/* Send a packet the way its flow says. */
static __always_inline int forward(struct __sk_buff *skb, const struct flow *flow)
{
	__u32 bytes = skb->len;

	count(flow->from_slot, FROM_VM, bytes);
	count(flow->to_slot, TO_VM, bytes);
	if (!rewrite(skb, flow->sent_macs, flow->hops))
		return TC_ACT_SHOT;
	return redirect_to(flow->ifindex, flow->flags & FLOW_PEER);
}

/* Remember a decision. A failure costs the next packet a second decision. A
 * function of its own for the sake of the caller's stack. */
__noinline int remember(struct packet *packet, struct port *from, struct port *to)
{
	struct flow_key key;
	struct flow flow = {};

	if (!packet || !from || !to)
		return -1;
	key = packet->key; /* 6.1 wants keys on the stack */
	flow.ifindex = packet->to_ifindex;
	flow.epoch = packet->epoch;
	flow.from_slot = from->counter_slot;
	flow.to_slot = to->counter_slot;
	flow.epoch_slot = from->network % EPOCH_SLOTS;
	flow.mtu = packet->mtu;
	flow.flags = to->flags & PORT_PEER ? FLOW_PEER : 0;
	flow.hops = packet->hops;
	__builtin_memcpy(flow.received_macs, packet->macs, sizeof(flow.received_macs));
	__builtin_memcpy(flow.sent_macs, packet->sent_macs, sizeof(flow.sent_macs));
	return bpf_map_update_elem(&flows, &key, &flow, BPF_ANY);
}
