/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two ends of a measurement, and the least that can lie between them. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define HEADER_BYTES 56
#define UDP_DESTINATION 36 /* offset in a frame of IPv4 without options */
#define DISCARD_PORT 9

struct header {
	__u8 bytes[HEADER_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct header);
} headers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} delivered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

/* Live XDP frames are recycled as the forwarding path left them, so every
 * round writes the header anew. */
SEC("xdp")
int transmit(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 first = 0;
	struct header *header = bpf_map_lookup_elem(&headers, &first);

	if (!header || data + HEADER_BYTES > end)
		return XDP_DROP;
	__builtin_memcpy(data, header, HEADER_BYTES);
	return XDP_TX;
}

/* Whether this is a frame under test, UDP to port 9 (discard): then count it. */
static __always_inline int arrived(struct __sk_buff *skb)
{
	__u32 first = 0;
	__u64 *count;
	__u16 port;

	if (bpf_skb_load_bytes(skb, UDP_DESTINATION, &port, sizeof(port)) ||
	    port != __builtin_bswap16(DISCARD_PORT))
		return 0;
	count = bpf_map_lookup_elem(&delivered, &first);
	if (count)
		(*count)++;
	return 1;
}

/* The end of a frame's way at the ingress of a container's veth. */
SEC("tc")
int sink(struct __sk_buff *skb)
{
	return arrived(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}

/* The same where a TAP takes frames: what a filter returns is kept of a frame. */
SEC("socket")
int tap_sink(struct __sk_buff *skb)
{
	return arrived(skb) ? 0 : skb->len;
}

SEC("tc")
int redirect(struct __sk_buff *skb)
{
	__u32 first = 0;
	__u32 *ifindex = bpf_map_lookup_elem(&target, &first);

	return ifindex && *ifindex ? bpf_redirect(*ifindex, 0) : TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
