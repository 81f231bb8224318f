/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tunnel -> parse | probe | relay | drop
 *
 * What the envelope of a packet from another host says (RFC 7348): who sent it,
 * in which network the packet is, and whether it is for this host at all.
 */
#pragma once

#include "shared/envelope.h"

/* The outer source address, the VNI and the ENVELOPE_ bits. False when the packet
 * has no envelope. */
static __always_inline bool read_envelope(struct __sk_buff *skb, struct packet *packet)
{
	struct envelope_policy policy = {};
	struct bpf_tunnel_key key = {};

	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		map_ipv4(packet->vtep, bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		copy_address(packet->vtep, key.remote_ipv6);
	} else {
		return false;
	}
	packet->key.ifindex = zone_of(key.tunnel_id & VNI_MASK);
	if (bpf_skb_get_tunnel_opt(skb, &policy, sizeof(policy)) > 0)
		packet->envelope = policy.bits;
	return true;
}

static __always_inline __u32 envelope_network(const struct packet *packet)
{
	return packet->key.ifindex & VNI_MASK;
}

/* Has the sender no port security? Its host says so of what may teach something. */
static __always_inline bool is_from_open_port(const struct packet *packet)
{
	return packet->envelope & ENVELOPE_OPEN;
}

/* Has a relay sent it on, so that the envelope says whom it comes from? */
static __always_inline bool names_sender(const struct packet *packet)
{
	return is_from_open_port(packet) &&
	       packet->envelope & (ENVELOPE_FORWARDED_ONCE | ENVELOPE_FORWARDED_TWICE);
}

/* The host with the open port that sent it. */
static __always_inline __u32 first_sender(const struct packet *packet)
{
	return names_sender(packet) ? packet->envelope & ENVELOPE_HOST_MASK : packet->from_host;
}

/* Is the envelope for another host than this one? */
static __always_inline bool is_for_another(const struct packet *packet)
{
	__u32 host = packet->envelope & ENVELOPE_HOST_MASK;
	struct this_host *here;

	if (!host || names_sender(packet))
		return false;
	here = find_this_host();
	return here && here->number != host;
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
	if (is_for_another(packet))
		return decide_stage(packet, STAGE_TUNNEL, DECISION_RELAY, OUTCOME_RELAY);
	if (envelope_network(packet) == PROBE_VNI)
		return decide_stage(packet, STAGE_TUNNEL, DECISION_PROBE, OUTCOME_PROBE);
	return pass(packet, STAGE_TUNNEL);
}

/* ---- on to another host ----------------------------------------------------- */

/* The bits of the envelope when it goes on to that host, or 0 after too many. From a
 * relay it needs no more be told whom it is for, but of an open port's frame whom it
 * comes from. A host that the port has left may need a relay itself: what it sends on
 * teaches nothing. */
static __always_inline __u32 forwarded_bits(const struct packet *packet, __u32 host, bool is_relay)
{
	__u32 bits = packet->envelope, number = host;
	__u32 forwards = (bits & ENVELOPE_FORWARDED_ONCE ? 1 : 0) +
			 (bits & ENVELOPE_FORWARDED_TWICE ? 2 : 0);

	if (forwards++ == TUNNEL_FORWARDS_MAX)
		return 0;
	if (is_relay && is_from_open_port(packet))
		number = packet->from_host | ENVELOPE_OPEN;
	return number | (forwards & 1 ? ENVELOPE_FORWARDED_ONCE : 0) |
	       (forwards & 2 ? ENVELOPE_FORWARDED_TWICE : 0);
}

/* Send the packet as it is on to the host that it is for: because this host is a
 * relay, or because the port has moved away. Only in the latter case it may take
 * a relay itself. */
__noinline int send_on(struct __sk_buff *skb, struct packet *packet, __u32 host, int is_relay)
{
	struct vtep *vtep = find_vtep(host);
	__u64 flags;
	__u32 bits;

	if (!packet)
		return OUTCOME_DROP;
	if (!vtep)
		return drop(packet, STAGE_TUNNEL, DROP_NO_VTEP);
	bits = forwarded_bits(packet, host, is_relay);
	if (!bits || (is_relay && vtep->relayed_to))
		return drop(packet, STAGE_TUNNEL, DROP_TUNNEL_LOOP);
	flags = envelope_network(packet) == PROBE_VNI ? BPF_F_DONT_FRAGMENT : 0;
	if (!address_envelope(skb, vtep, envelope_network(packet), bits_for(vtep, bits), flags))
		return drop(packet, STAGE_TUNNEL, DROP_INTERNAL);
	return OUTCOME_RELAY;
}
