/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Envelopes to other hosts: VXLAN (RFC 7348) by way of a device that takes the
 * outer header from metadata of the packet.
 */
#pragma once

#include "shared/direct.h"
#include "shared/packet.h"

/* struct vxlan_metadata of the kernel; with it bits of the header can be set. */
struct envelope_policy {
	__u32 bits; /* ENVELOPE_* */
};

/* Address the packet in hand: to which underlay address, in which network, with
 * which ENVELOPE_ bits (bits_for). The kernel adds ECN (RFC 6040). The bits must be set even
 * when they are 0: kernels up to 6.18 at least send whatever the stack held otherwise. */
static __always_inline bool address_envelope(struct __sk_buff *skb, const struct vtep *vtep,
					     __u32 network, __u32 bits, __u64 flags)
{
	struct envelope_policy policy = { .bits = bits };
	struct bpf_tunnel_key key = {
		.tunnel_id = network,
		.tunnel_tos = traffic_class_of(skb) & ~ECN_MASK,
		.tunnel_ttl = ENVELOPE_TTL,
	};

	if (vtep->ip_version == 6) {
		copy_address(key.remote_ipv6, vtep->address);
		copy_address(key.local_ipv6, vtep->source);
		flags |= BPF_F_TUNINFO_IPV6;
	} else { /* the helper wants host order */
		key.remote_ipv4 = bpf_ntohl(mapped_ipv4(vtep->address));
		key.local_ipv4 = bpf_ntohl(mapped_ipv4(vtep->source));
	}
	return !bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) &&
	       !bpf_skb_set_tunnel_opt(skb, &policy, sizeof(policy));
}

/* What may stand in an envelope by that way: for a relay whom it is for, for a host
 * that knows no such bits nothing. */
static __always_inline __u32 bits_for(const struct vtep *vtep, __u32 bits)
{
	if (vtep->flags & VTEP_FOREIGN)
		return 0;
	return bits | (vtep->relayed_to & ENVELOPE_HOST_MASK);
}

/* Send the packet to a host by its way. A relay is told whom it is for. A function
 * of its own for the sake of the stack. */
__noinline int send_to_host(struct __sk_buff *skb, struct vtep *vtep, __u32 tunnel, __u32 network,
			    __u32 bits)
{
	int verdict;

	if (!vtep)
		return TC_ACT_SHOT;
	bits = bits_for(vtep, bits);
	verdict = send_directly(skb, vtep, network, bits);
	if (verdict >= 0)
		return verdict;
	if (!address_envelope(skb, vtep, network, bits, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(tunnel, 0);
}
