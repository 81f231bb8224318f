/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of every packet that is not delivered: a counter by port and reason,
 * and an event with its first bytes, at most one every EVENT_INTERVAL_NS by
 * CPU, port and reason.
 */
#pragma once

#include "shared/packet.h"

#define EVENT_INTERVAL_NS 100000000ull

/* The port whose rules or limits the packet broke, or the tunnel. */
static __always_inline __u32 blamed(const struct packet *packet)
{
	return packet->blamed_ifindex ? packet->blamed_ifindex : packet->device;
}

static __always_inline void send_drop_event(struct __sk_buff *skb, const struct packet *packet,
					    __u64 now)
{
	struct drop_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	__u32 captured = skb->len < EVENT_CAPTURE_BYTES ? skb->len : EVENT_CAPTURE_BYTES;

	if (!event)
		return; /* the reader is behind; the counter still tells */
	event->kind = EVENT_DROP;
	event->reason = packet->drop_reason;
	event->ifindex = blamed(packet);
	event->from_ifindex = packet->device;
	event->network = is_zone(packet->key.ifindex) ? packet->key.ifindex & VNI_MASK : 0;
	copy_address(event->vtep, packet->vtep);
	event->length = skb->len;
	event->time = now;
	event->stage = packet->stage;
	event->captured = captured;
	__builtin_memset(event->frame, 0, sizeof(event->frame));
	if (!load_between(skb, 0, event->frame, captured, ETHERNET_BYTES, EVENT_CAPTURE_BYTES))
		event->captured = 0;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline struct drop_counter *drop_counter_of(const struct packet *packet)
{
	struct drop_key key = { .ifindex = blamed(packet), .reason = packet->drop_reason };
	struct drop_counter *counter = bpf_map_lookup_elem(&drops, &key);
	struct drop_counter fresh = {};

	if (counter)
		return counter;
	bpf_map_update_elem(&drops, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&drops, &key);
}

__noinline int account_drop(struct __sk_buff *skb, struct packet *packet)
{
	struct drop_counter *counter;
	__u64 now = bpf_ktime_get_ns();

	if (!packet)
		return -1;
	counter = drop_counter_of(packet);
	if (!counter)
		return -1;
	counter->packets++;
	counter->bytes += skb->len;
	if (counter->sampled_at && now - counter->sampled_at < EVENT_INTERVAL_NS)
		return 0;
	counter->sampled_at = now;
	send_drop_event(skb, packet, now);
	return 0;
}
