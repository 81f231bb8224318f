/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Envelopes without the way through the host's stack. The stack makes the first one
 * to each underlay address, and one again every WAY_FRESH_MS; what it chose (link and
 * MACs) is seen at the link's egress and serves those in between. So routes, neighbors,
 * firewall and IPsec of the host keep their say, none of which a program can ask.
 *
 * IPv4 underlays only: in IPv6 the UDP checksum is not optional for all receivers
 * (RFC 6935), and a program can't leave it to the device.
 */
#pragma once

#include <linux/udp.h>
#include "shared/checksum.h"
#include "shared/packet.h"

#define ENVELOPE_TTL 64
#define IP_BYTES_MAX 65535
#define VXLAN_HAS_VNI 0x08000000 /* RFC 7348 5 */
#define VXLAN_HAS_POLICY 0x80000000 /* draft-smith-vxlan-group-policy */
#define ECN_CE 3
#define ECN_ECT_0 2

struct vxlan_header {
	__be32 flags;
	__be32 vni;
} __attribute__((packed));

struct envelope4 {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan_header vxlan;
	struct ethhdr inner;
} __attribute__((packed));

#define ENVELOPE4_BYTES (sizeof(struct envelope4) - sizeof(struct ethhdr))

/* How the stack last sent to the address, if that is not long ago. */
static __always_inline struct seen_way *find_fresh_way(const struct vtep *vtep)
{
	struct tunnel_sender_key key = {};
	struct seen_way *way;

	copy_address(key.address, vtep->address);
	way = bpf_map_lookup_elem(&seen_ways, &key);
	if (!way || bpf_ktime_get_coarse_ns() > way->seen_at + WAY_FRESH_MS * 1000000ull)
		return NULL;
	return way;
}

/* Traffic class of the envelope (RFC 6040 4.1): a mark of congestion on the way here
 * was not set on the way there. */
static __always_inline __u8 outer_class(__u8 inner)
{
	return (inner & ECN_MASK) == ECN_CE ? (inner & ~ECN_MASK) | ECN_ECT_0 : inner;
}

static __always_inline __u8 traffic_class_of(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	__u8 *l3 = (__u8 *)(ethernet + 1);

	if ((void *)(l3 + 2) > end)
		return 0;
	if (ethernet->h_proto == BE16_IPV4)
		return l3[1];
	if (ethernet->h_proto == BE16_IPV6)
		return l3[0] << 4 | l3[1] >> 4;
	return 0;
}

/* The same as the kernel's VXLAN device would choose from the packet's hash, so that
 * a flow has one way through the underlay. */
static __always_inline __u16 source_port(struct __sk_buff *skb)
{
	__u32 hash = bpf_get_hash_recalc(skb);

	hash ^= hash << 16;
	return SOURCE_PORT_MIN + ((__u64)hash * (SOURCE_PORT_MAX - SOURCE_PORT_MIN) >> 32);
}

static __always_inline void write_ip(struct iphdr *ip, const struct vtep *vtep, __u16 bytes,
				     __u8 class)
{
	*(__u8 *)ip = IPV4_WITHOUT_OPTIONS;
	ip->tos = class;
	ip->tot_len = bpf_htons(bytes);
	ip->id = bpf_get_prandom_u32();
	ip->frag_off = 0;
	ip->ttl = ENVELOPE_TTL;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = mapped_ipv4(vtep->source);
	ip->daddr = mapped_ipv4(vtep->address);
	ip->check = finish_checksum(sum_of(ip, sizeof(*ip)));
}

/* Put the packet into an envelope, or leave it as it is: the kernel takes neither all
 * kinds of large packets, nor other than IP. */
static __always_inline bool wrap4(struct __sk_buff *skb, const struct vtep *vtep,
				  const struct seen_way *way, __u32 network, __u32 bits)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
		      BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETHERNET_BYTES) |
		      BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	__u32 ip_bytes = skb->len + ENVELOPE4_BYTES - ETHERNET_BYTES;
	__u8 class = outer_class(traffic_class_of(skb));
	__u16 port = source_port(skb);
	struct ethhdr inner;
	struct envelope4 *envelope;

	if (ip_bytes > IP_BYTES_MAX || bpf_skb_load_bytes(skb, 0, &inner, sizeof(inner)) ||
	    bpf_skb_adjust_room(skb, ENVELOPE4_BYTES, BPF_ADJ_ROOM_MAC, flags))
		return false;
	envelope = (void *)(long)skb->data;
	if ((void *)(envelope + 1) > (void *)(long)skb->data_end)
		return false;
	__builtin_memcpy(&envelope->ethernet, way->macs, 2 * MAC_BYTES);
	envelope->ethernet.h_proto = BE16_IPV4;
	write_ip(&envelope->ip, vtep, ip_bytes, class);
	envelope->udp.source = bpf_htons(port);
	envelope->udp.dest = way->udp_port_be;
	envelope->udp.len = bpf_htons(ip_bytes - sizeof(struct iphdr));
	envelope->udp.check = 0; /* RFC 7348 5: what the receiver takes */
	envelope->vxlan.flags = bpf_htonl(VXLAN_HAS_VNI | (bits ? VXLAN_HAS_POLICY | bits : 0));
	envelope->vxlan.vni = bpf_htonl(network << 8);
	envelope->inner = inner;
	return true;
}

/* What the link does not take whole, the stack may still send in fragments. */
static __always_inline bool fits_link(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 mtu = 0;

	return !bpf_check_mtu(skb, ifindex, &mtu, ENVELOPE4_BYTES, 0);
}

/* Send the packet to a host past the stack, when that has shown how. -1: not possible,
 * and nothing has changed. A function of its own for the sake of the stack. */
__noinline int send_directly(struct __sk_buff *skb, struct vtep *vtep, __u32 network, __u32 bits)
{
	struct seen_way *way;

	if (!vtep || vtep->ip_version != 4 || trace_of(skb))
		return -1;
	if (skb->protocol != BE16_IPV4 && skb->protocol != BE16_IPV6)
		return -1;
	way = find_fresh_way(vtep);
	if (!way || !fits_link(skb, way->ifindex) || !wrap4(skb, vtep, way, network, bits))
		return -1;
	return bpf_redirect(way->ifindex, 0);
}
