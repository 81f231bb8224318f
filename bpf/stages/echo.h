/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is sent to an address of the network's own: ping is answered. */
#pragma once

#include "shared/checksum.h"
#include "stages/parse.h"

#define ANSWER_TTL 64

static __always_inline bool is_echo_request(const struct packet *packet)
{
	if (packet->fragment || packet->icmp_code)
		return false;
	if (is_ipv4(packet))
		return packet->key.l4_protocol == IPPROTO_ICMP && packet->icmp_type == ICMP_ECHO;
	return packet->key.l4_protocol == IPPROTO_ICMPV6 &&
	       packet->icmp_type == ICMP6_ECHO_REQUEST;
}

static __always_inline bool turn_macs(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 macs[2 * MAC_BYTES];

	copy_mac(macs, source_mac(packet));
	copy_mac(macs + MAC_BYTES, destination_mac(packet));
	return !bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
}

/* Swap the addresses and start with a fresh TTL. The payload stays in place,
 * so the ICMP checksum changes by the type alone. */
static __always_inline bool turn_ipv4(struct __sk_buff *skb)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETHERNET_BYTES, &ip, sizeof(ip)))
		return false;
	__u32 source = ip.saddr;
	__u16 old = bpf_htons(ip.ttl << 8), new = bpf_htons(ANSWER_TTL << 8);

	ip.saddr = ip.daddr;
	ip.daddr = source;
	ip.ttl = ANSWER_TTL;
	ip.check = finish_checksum((__u64)(__u16)~ip.check + (__u16)~old + new);
	return !bpf_skb_store_bytes(skb, ETHERNET_BYTES, &ip, sizeof(ip), 0);
}

static __always_inline bool turn_ipv6(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 addresses[2 * ADDRESS_BYTES];
	__u8 hop_limit = ANSWER_TTL;

	copy_address(addresses, packet->key.destination);
	copy_address(addresses + ADDRESS_BYTES, packet->key.source);
	return !bpf_skb_store_bytes(skb, ETHERNET_BYTES + offsetof(struct ipv6hdr, saddr),
				    addresses, sizeof(addresses), 0) &&
	       !bpf_skb_store_bytes(skb, ETHERNET_BYTES + offsetof(struct ipv6hdr, hop_limit),
				    &hop_limit, sizeof(hop_limit), 0);
}

/* RFC 792, RFC 4443 4.2. The packet becomes the reply; the caller notes it. */
__noinline int answer_echo(struct __sk_buff *skb, struct packet *packet)
{
	__u8 reply_type;
	__u16 old_word, new_word;

	if (!packet)
		return OUTCOME_DROP;
	reply_type = is_ipv4(packet) ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	old_word = bpf_htons(packet->icmp_type << 8);
	new_word = bpf_htons(reply_type << 8);
	if (!turn_macs(skb, packet) ||
	    !(is_ipv4(packet) ? turn_ipv4(skb) : turn_ipv6(skb, packet)) ||
	    bpf_l4_csum_replace(skb, packet->l4_offset + offsetof(struct icmp_header, checksum),
				old_word, new_word, sizeof(new_word)) ||
	    bpf_skb_store_bytes(skb, packet->l4_offset, &reply_type, sizeof(reply_type), 0))
		return OUTCOME_DROP;
	return OUTCOME_ANSWER;
}
