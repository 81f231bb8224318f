/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer -> back to the sender | switch | drop
 *
 * ARP, neighbor discovery and DHCP are answered here, from what the compiler
 * rendered, whether or not the agent lives.
 */
#pragma once

#include "stages/answer_arp.h"
#include "stages/answer_dhcp4.h"
#include "stages/answer_dhcp6.h"
#include "stages/answer_nd.h"

static __always_inline int stage_answer(struct __sk_buff *skb, struct packet *packet,
					const struct port *port)
{
	if (packet->ethertype_be == BE16_ARP)
		return answer_arp(skb, packet);
	if (port->flags & PORT_DHCP4 && is_dhcp4_request(packet))
		return answer_dhcp4(skb, packet);
	if (port->flags & PORT_DHCP6 && is_dhcp6_request(packet))
		return answer_dhcp6(skb, packet);
	if (is_nd(packet))
		return answer_nd(skb, packet);
	return pass(packet, STAGE_ANSWER);
}
