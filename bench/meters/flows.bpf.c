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

/* The devices of opener and other side, which may be in two namespaces. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} ends SEC(".maps");

static __always_inline __u16 to_network(__u32 port)
{
	return __builtin_bswap16(port);
}

/* The ports are the number of the flow in two digits, of which the lower is
 * the port of the side that opens it. */
static __always_inline void number_ports(struct ports *ports, const struct recipe *recipe,
					 __u32 flow, __u32 is_reply)
{
	__u16 opener = to_network(OPENER_PORT + flow % OPENER_PORTS);
	__u16 other = to_network(recipe->other_port + flow / OPENER_PORTS);

	ports->source = is_reply ? other : opener;
	ports->destination = is_reply ? opener : other;
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
	number_ports(data + PORTS_OFFSET, recipe,
		     recipe->first_flow + *count % recipe->flows * recipe->stride, recipe->reply);
	(*count)++;
	return XDP_TX;
}

static __always_inline __u8 flags_in(__u32 phase)
{
	switch (phase) {
	case 0:
		return TCP_SYN;
	case 1:
		return TCP_SYN | TCP_ACK;
	case 3:
	case 4:
		return TCP_FIN | TCP_ACK;
	}
	return TCP_ACK;
}

/* Conversations, a batch of them at a time: all send SYN, then the other sides
 * SYN+ACK, and so on. */
SEC("xdp")
int converse(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 first = 0, batch, phase, flow, is_reply;
	struct recipe *recipe = bpf_map_lookup_elem(&recipes, &first);
	__u64 *count = bpf_map_lookup_elem(&sent, &first);

	if (!recipe || !count || data + FRAME_BYTES > end)
		return XDP_DROP;
	batch = *count / TOGETHER;
	phase = batch % CONVERSATION_FRAMES;
	flow = recipe->first_flow + batch / CONVERSATION_FRAMES * TOGETHER + *count % TOGETHER;
	is_reply = phase == 1 || phase == 4;
	(*count)++;
	if (is_reply)
		__builtin_memcpy(data, recipe->reply_frame, FRAME_BYTES);
	else
		__builtin_memcpy(data, recipe->frame, FRAME_BYTES);
	number_ports(data + PORTS_OFFSET, recipe, flow, is_reply);
	((__u8 *)data)[TCP_FLAGS_OFFSET] = flags_in(phase);
	return bpf_redirect_map(&ends, is_reply, XDP_DROP);
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
