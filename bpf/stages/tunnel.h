/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tunnel -> parse | drop
 *
 * What the envelope of a packet from another host says (RFC 7348): who sent it,
 * and in which network the packet is.
 */
#pragma once

#include "shared/packet.h"

/* The outer source address and the VNI. False when the packet has no envelope. */
static __always_inline bool read_envelope(struct __sk_buff *skb, struct packet *packet)
{
	struct bpf_tunnel_key key = {};

	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		map_ipv4(packet->vtep, bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		copy_address(packet->vtep, key.remote_ipv6);
	} else {
		return false;
	}
	packet->key.ifindex = TUNNEL_ZONE | (key.tunnel_id & VNI_MASK);
	return true;
}

static __always_inline int stage_tunnel(struct __sk_buff *skb, struct packet *packet)
{
	struct tunnel_sender_key sender = {};
	__u32 *host;

	packet->key.ifindex = TUNNEL_ZONE;
	if (!read_envelope(skb, packet))
		return drop(packet, STAGE_TUNNEL, DROP_UNKNOWN_VTEP);
	copy_address(sender.address, packet->vtep);
	host = bpf_map_lookup_elem(&tunnel_senders, &sender);
	if (!host)
		return drop(packet, STAGE_TUNNEL, DROP_UNKNOWN_VTEP);
	packet->from_host = *host;
	return pass(packet, STAGE_TUNNEL);
}
