/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe -> back to the other host | (event) | drop
 *
 * Agents probe the path to each other with frames of a network that nobody has.
 * The answer has the size of the question and may not be fragmented either, so
 * that it proves both ways.
 */
#pragma once

#include "stages/tunnel.h"

static __always_inline int report_probe(const struct packet *packet, const struct probe *probe)
{
	struct probe_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return OUTCOME_CONSUMED; /* as if the probe was lost */
	event->kind = EVENT_PROBE;
	event->host = probe->host;
	event->sequence = probe->sequence;
	event->length = probe->length;
	event->sent_at = probe->sent_at;
	event->time = bpf_ktime_get_ns();
	copy_address(event->vtep, packet->vtep);
	bpf_ringbuf_submit(event, 0);
	return OUTCOME_CONSUMED;
}

/* To the address that the question came from, whatever way packets for the host
 * take now. When that is a relay's, the answer is for the host that asked. */
static __always_inline bool address_answer_to_probe(struct __sk_buff *skb,
						    const struct packet *packet, __u32 asker)
{
	__u32 bits = asker == packet->from_host ? 0 : asker & ENVELOPE_HOST_MASK;

	struct vtep *known = find_vtep(packet->from_host);
	struct vtep back = { .ip_version = is_mapped(packet->vtep) ? 4 : 6 };

	copy_address(back.address, packet->vtep);
	if (known && known->ip_version == back.ip_version)
		copy_address(back.source, known->source);
	return address_envelope(skb, &back, PROBE_VNI, bits, BPF_F_DONT_FRAGMENT);
}

static __always_inline bool turn_probe(struct __sk_buff *skb, struct ethhdr *ethernet,
				       struct probe *probe)
{
	struct ethhdr question = *ethernet;

	copy_mac(ethernet->h_dest, question.h_source);
	copy_mac(ethernet->h_source, question.h_dest);
	probe->kind = PROBE_REPLY;
	probe->length = skb->len;
	return !bpf_skb_store_bytes(skb, 0, ethernet, sizeof(*ethernet), 0) &&
	       !bpf_skb_store_bytes(skb, sizeof(*ethernet), probe, sizeof(*probe), 0);
}

__noinline int stage_probe(struct __sk_buff *skb, struct packet *packet)
{
	struct this_host *here = find_this_host();
	struct ethhdr ethernet;
	struct probe probe;
	__u32 asker;

	if (!packet)
		return OUTCOME_DROP;
	if (!here)
		return drop(packet, STAGE_TUNNEL, DROP_NO_VTEP);
	if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)) ||
	    bpf_skb_load_bytes(skb, sizeof(ethernet), &probe, sizeof(probe)) ||
	    ethernet.h_proto != bpf_htons(PROBE_ETHERTYPE))
		return drop(packet, STAGE_TUNNEL, DROP_TUNNEL_MALFORMED);
	if (probe.kind == PROBE_REPLY)
		return report_probe(packet, &probe);
	asker = probe.host;
	probe.host = here->number;
	if (!turn_probe(skb, &ethernet, &probe) || !address_answer_to_probe(skb, packet, asker))
		return drop(packet, STAGE_TUNNEL, DROP_INTERNAL);
	return OUTCOME_RELAY;
}
