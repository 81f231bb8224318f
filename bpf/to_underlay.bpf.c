// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every packet that leaves this host by the link of its underlay address, at the
 * link's egress. Envelopes that the host's stack has made show how it sends to
 * another host (shared/direct.h); all packets go on as they are.
 */
#include <linux/udp.h>
#include "shared/packet.h"
#include "shared/tables.h"

struct seen_envelope {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

/* Has the stack made it, for our tunnel? Those without a checksum are made by from_vm,
 * which must not go on for ever by what it did itself. */
static __always_inline bool is_from_stack(const struct seen_envelope *envelope, __be16 udp_port)
{
	if (envelope->ethernet.h_proto != BE16_IPV4 || *(__u8 *)&envelope->ip != IPV4_WITHOUT_OPTIONS ||
	    envelope->ip.protocol != IPPROTO_UDP ||
	    envelope->ip.frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return false;
	return envelope->udp.dest == udp_port && envelope->udp.check;
}

static __always_inline void note_way(struct __sk_buff *skb, const struct seen_envelope *envelope)
{
	struct seen_way way = { .ifindex = skb->ifindex, .udp_port_be = envelope->udp.dest };
	struct tunnel_sender_key key = {};

	map_ipv4(key.address, envelope->ip.daddr);
	if (!bpf_map_lookup_elem(&tunnel_senders, &key))
		return;
	__builtin_memcpy(way.macs, &envelope->ethernet, sizeof(way.macs));
	way.seen_at = bpf_ktime_get_coarse_ns();
	bpf_map_update_elem(&seen_ways, &key, &way, BPF_ANY);
}

SEC("tc")
int to_underlay(struct __sk_buff *skb)
{
	const struct seen_envelope *envelope = (void *)(long)skb->data;
	struct this_host *here;

	if ((void *)(envelope + 1) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	here = find_this_host();
	if (here && here->udp_port_be && is_from_stack(envelope, here->udp_port_be))
		note_way(skb, envelope);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
