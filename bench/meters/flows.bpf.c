/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frames of many flows, and the sink that counts them. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "flows.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recipe);
} recipes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} delivered SEC(".maps");

static __always_inline __u16 to_network(__u32 port)
{
	return __builtin_bswap16(port);
}

/* The next flow's ports: the number of the flow in two digits, of which the
 * lower is the port of the side that opens it. */
static __always_inline void number_ports(struct ports *ports, const struct recipe *recipe, __u64 n)
{
	__u32 flow = recipe->first_flow + n % recipe->flows;
	__u16 opener = to_network(OPENER_PORT + flow % OPENER_PORTS);
	__u16 other = to_network(recipe->other_port + flow / OPENER_PORTS);

	ports->source = recipe->reply ? other : opener;
	ports->destination = recipe->reply ? opener : other;
}

/* Live XDP frames are recycled as the forwarding path left them, so every
 * round writes the whole frame anew. */
SEC("xdp")
int transmit(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 first = 0;
	struct recipe *recipe = bpf_map_lookup_elem(&recipes, &first);
	__u64 *count = bpf_map_lookup_elem(&sent, &first);

	if (!recipe || !recipe->flows || !count || data + FRAME_BYTES > end)
		return XDP_DROP;
	__builtin_memcpy(data, recipe->frame, FRAME_BYTES);
	number_ports(data + PORTS_OFFSET, recipe, *count);
	(*count)++;
	return XDP_TX;
}

/* The end of a frame's way at the ingress of a container's veth. */
SEC("tc")
int sink(struct __sk_buff *skb)
{
	__u32 first = 0;
	__u32 mark;
	__u64 *count;

	if (bpf_skb_load_bytes(skb, MARK_OFFSET, &mark, sizeof(mark)) || mark != MARK)
		return TC_ACT_OK;
	count = bpf_map_lookup_elem(&delivered, &first);
	if (count)
		(*count)++;
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
