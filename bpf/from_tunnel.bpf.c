// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every packet that another host sends, at the ingress of the VXLAN device.
 *
 *   tunnel -> parse -> network -> drop(reason)
 *
 * The verdict is never to pass: nothing reaches the host's own stack.
 */
#include "shared/packet.h"
#include "stages/drop.h"
#include "stages/parse.h"
#include "stages/tunnel.h"

static __always_inline int run_stages(struct __sk_buff *skb, struct packet *packet)
{
	__u32 network;

	if (stage_tunnel(skb, packet) == OUTCOME_DROP)
		return OUTCOME_DROP;
	if (stage_parse(skb, packet) == OUTCOME_DROP) {
		if (packet->drop_reason == DROP_MALFORMED)
			packet->drop_reason = DROP_TUNNEL_MALFORMED;
		return OUTCOME_DROP;
	}
	network = packet->key.ifindex & VNI_MASK;
	if (!bpf_map_lookup_elem(&tunnel_networks, &network))
		return drop(packet, STAGE_TUNNEL, DROP_UNKNOWN_VNI);
	return drop(packet, STAGE_SWITCH, DROP_UNKNOWN_MAC);
}

SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	struct packet *packet = packet_in_hand();

	if (!packet)
		return TC_ACT_SHOT;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->device = skb->ifindex;
	if (run_stages(skb, packet) == OUTCOME_DROP)
		account_drop(skb, packet);
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
