/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer DHCPv4 -> back to the sender | drop (RFC 2131, 2132)
 *
 * The address stands in the port, everything else in the subnet's template.
 */
#pragma once

#include "shared/checksum.h"
#include "stages/guard.h"

#define BOOTP_REQUEST 1
#define BOOTP_REPLY 2
#define BOOTP_BROADCAST 0x8000
#define BOOTP_BYTES_MIN 300 /* what clients of RFC 951 expect at least */
#define DHCP4_COOKIE 0x63825363
#define DHCP4_TTL 64
#define DHCP4_OPTIONS_WALKED 64
#define SERVER_ID_OPTION_BYTES 6
#define LEASE_OPTIONS_BYTES 18 /* 51, 58, 59: right behind the server identifier */

enum dhcp4_option {
	OPTION_PAD = 0,
	OPTION_REQUESTED_ADDRESS = 50,
	OPTION_MESSAGE_TYPE = 53,
	OPTION_SERVER_ID = 54,
	OPTION_END = 255,
};

enum dhcp4_type {
	DHCP4_DISCOVER = 1,
	DHCP4_OFFER,
	DHCP4_REQUEST,
	DHCP4_DECLINE,
	DHCP4_ACK,
	DHCP4_NAK,
	DHCP4_RELEASE,
	DHCP4_INFORM,
};

struct bootp {
	__u8 operation, hardware_type, hardware_bytes, hops;
	__be32 transaction;
	__be16 seconds;
	__be16 flags;
	__u8 client_address[4]; /* ciaddr */
	__u8 your_address[4]; /* yiaddr */
	__u8 next_server[4];
	__u8 relay[4]; /* giaddr */
	__u8 client_mac[MAC_BYTES];
	__u8 client_hardware_rest[10];
	__u8 names[64 + 128];
	__be32 cookie;
} __attribute__((packed));

struct dhcp4_frame {
	__u8 destination[MAC_BYTES];
	__u8 source[MAC_BYTES];
	__be16 ethertype;
	struct iphdr ip;
	struct udphdr udp;
	struct bootp bootp;
	__u8 type_option[3];
	__u8 options[DHCP_OPTIONS_MAX];
	__u8 pad; /* the UDP sum is taken over whole words */
} __attribute__((packed));

#define DHCP4_UDP_OFFSET (ETHERNET_BYTES + sizeof(struct iphdr))
#define DHCP4_BOOTP_OFFSET (DHCP4_UDP_OFFSET + sizeof(struct udphdr))
#define DHCP4_SUMMED_BYTES (sizeof(struct dhcp4_frame) - DHCP4_UDP_OFFSET)

/* What a client asks for. */
struct dhcp4_request {
	__u8 type;
	bool has_server_id, has_address;
	__u8 server_id[4];
	__u8 address[4];
};

static __always_inline bool read_dhcp4_options(struct __sk_buff *skb, const struct packet *packet,
					       struct dhcp4_request *request)
{
	__u32 offset = DHCP4_BOOTP_OFFSET + sizeof(struct bootp);
	__u32 end = ETHERNET_BYTES + packet->l3_bytes;

	for (int i = 0; i < DHCP4_OPTIONS_WALKED; i++) {
		__u8 option[2];

		if (offset >= end || bpf_skb_load_bytes(skb, offset, option, 1))
			return false;
		if (option[0] == OPTION_END)
			return true;
		if (option[0] == OPTION_PAD) {
			offset++;
			continue;
		}
		if (bpf_skb_load_bytes(skb, offset + 1, option + 1, 1) ||
		    offset + 2 + option[1] > end)
			return false;
		if (option[0] == OPTION_MESSAGE_TYPE && option[1] == 1) {
			if (bpf_skb_load_bytes(skb, offset + 2, &request->type, 1))
				return false;
		} else if (option[0] == OPTION_SERVER_ID && option[1] == 4) {
			if (bpf_skb_load_bytes(skb, offset + 2, request->server_id, 4))
				return false;
			request->has_server_id = true;
		} else if (option[0] == OPTION_REQUESTED_ADDRESS && option[1] == 4) {
			if (bpf_skb_load_bytes(skb, offset + 2, request->address, 4))
				return false;
			request->has_address = true;
		}
		offset += 2 + option[1];
	}
	return false;
}

/* The type of the reply; 0: none is due; negative: the request is invalid. */
static __always_inline int dhcp4_reply_type(const struct dhcp4_request *request,
					    const struct bootp *bootp, const struct port *port,
					    const struct dhcp4_template *template)
{
	__u32 own = load_ipv4(port->dhcp4_address);
	__u32 wanted = request->has_address ? load_ipv4(request->address) :
					      load_ipv4(bootp->client_address);

	switch (request->type) {
	case DHCP4_DISCOVER:
		return DHCP4_OFFER;
	case DHCP4_REQUEST:
		if (request->has_server_id &&
		    load_ipv4(request->server_id) != load_ipv4(template->server_address))
			return 0; /* the client took another server's offer */
		return wanted == own ? DHCP4_ACK : DHCP4_NAK;
	case DHCP4_INFORM:
		return DHCP4_ACK;
	case DHCP4_DECLINE:
	case DHCP4_RELEASE:
		return 0;
	}
	return -1;
}

static __always_inline void fill_dhcp4_options(struct dhcp4_frame *frame, __u8 reply,
					       __u8 request_type,
					       const struct dhcp4_template *template)
{
	frame->type_option[0] = OPTION_MESSAGE_TYPE;
	frame->type_option[1] = 1;
	frame->type_option[2] = reply;
	if (reply == DHCP4_NAK) {
		__builtin_memcpy(frame->options, template->options, SERVER_ID_OPTION_BYTES);
		frame->options[SERVER_ID_OPTION_BYTES] = OPTION_END;
		return;
	}
	__builtin_memcpy(frame->options, template->options, DHCP_OPTIONS_MAX);
	if (request_type == DHCP4_INFORM) /* no lease is given, RFC 2131 4.3.5 */
		__builtin_memset(frame->options + SERVER_ID_OPTION_BYTES, OPTION_PAD,
				 LEASE_OPTIONS_BYTES);
}

/* RFC 2131 4.1: to the client's address when it has one, else to the address
 * it is given, unless it asks for a broadcast. A refusal is always broadcast. */
static __always_inline void address_dhcp4(struct dhcp4_frame *frame, const struct port *port,
					  __u8 reply)
{
	const __u8 everyone[MAC_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	bool broadcast = reply == DHCP4_NAK;

	if (!load_ipv4(frame->bootp.client_address) &&
	    frame->bootp.flags & bpf_htons(BOOTP_BROADCAST))
		broadcast = true;
	copy_mac(frame->destination, broadcast ? everyone : port->mac);
	if (broadcast)
		frame->ip.daddr = 0xffffffff;
	else if (load_ipv4(frame->bootp.client_address))
		frame->ip.daddr = load_ipv4(frame->bootp.client_address);
	else
		frame->ip.daddr = load_ipv4(port->dhcp4_address);
}

static __always_inline void fill_dhcp4_headers(struct dhcp4_frame *frame,
					       const struct dhcp4_template *template,
					       __u32 udp_bytes)
{
	copy_mac(frame->source, template->server_mac);
	frame->ethertype = BE16_IPV4;
	frame->ip.version = 4;
	frame->ip.ihl = 5;
	frame->ip.tot_len = bpf_htons(sizeof(struct iphdr) + udp_bytes);
	frame->ip.ttl = DHCP4_TTL;
	frame->ip.protocol = IPPROTO_UDP;
	frame->ip.saddr = load_ipv4(template->server_address);
	frame->ip.check = finish_checksum(sum_of(&frame->ip, sizeof(frame->ip)));
	frame->udp.source = bpf_htons(DHCP4_SERVER_PORT);
	frame->udp.dest = bpf_htons(DHCP4_CLIENT_PORT);
	frame->udp.len = bpf_htons(udp_bytes);
}

static __always_inline void sum_dhcp4(struct dhcp4_frame *frame, const struct packet *packet,
				      __u16 request_checksum, __u32 udp_bytes)
{
	__u8 *udp = (__u8 *)&frame->udp;
	__u32 request_pseudo = pseudo_header_sum4(mapped_ipv4(packet->key.source),
						  mapped_ipv4(packet->key.destination), IPPROTO_UDP,
						  packet->l3_bytes - sizeof(struct iphdr));
	__u32 pseudo = pseudo_header_sum4(frame->ip.saddr, frame->ip.daddr, IPPROTO_UDP, udp_bytes);
	__u64 sum = (__u64)sum_of(udp, SUM_BYTES_MAX) +
		    sum_of(udp + SUM_BYTES_MAX, DHCP4_SUMMED_BYTES - SUM_BYTES_MAX);

	frame->udp.check = udp_checksum(request_checksum, request_pseudo, pseudo, fold(sum));
}

_Static_assert(DHCP4_SUMMED_BYTES % 4 == 0, "the UDP sum is taken over whole words");
_Static_assert(sizeof(struct dhcp4_frame) <= SCRATCH_BYTES, "the reply is built in the scratch");

static __always_inline int send_dhcp4(struct __sk_buff *skb, struct packet *packet,
				      const struct port *port,
				      const struct dhcp4_template *template,
				      const struct dhcp4_request *request,
				      struct dhcp4_frame *frame, __u8 reply)
{
	__u16 request_checksum = frame->udp.check;
	__u32 udp_bytes = sizeof(struct udphdr) + sizeof(struct bootp) + sizeof(frame->type_option);

	udp_bytes += reply == DHCP4_NAK ? SERVER_ID_OPTION_BYTES + 1 : template->options_length;
	if (udp_bytes < sizeof(struct udphdr) + BOOTP_BYTES_MIN)
		udp_bytes = sizeof(struct udphdr) + BOOTP_BYTES_MIN;
	__builtin_memset(&frame->ip, 0, sizeof(frame->ip) + sizeof(frame->udp));
	__builtin_memset(frame->type_option, 0,
			 sizeof(frame->type_option) + sizeof(frame->options) + sizeof(frame->pad));
	frame->bootp.operation = BOOTP_REPLY;
	frame->bootp.hops = 0;
	frame->bootp.seconds = 0;
	__builtin_memset(frame->bootp.names, 0, sizeof(frame->bootp.names));
	__builtin_memset(frame->bootp.your_address, 0, 8);
	if (reply == DHCP4_NAK)
		__builtin_memset(frame->bootp.client_address, 0, 4);
	else if (request->type != DHCP4_INFORM)
		__builtin_memcpy(frame->bootp.your_address, port->dhcp4_address, 4);
	fill_dhcp4_options(frame, reply, request->type, template);
	address_dhcp4(frame, port, reply);
	fill_dhcp4_headers(frame, template, udp_bytes);
	sum_dhcp4(frame, packet, request_checksum, udp_bytes);
	if (!replace_frame(skb, frame, DHCP4_UDP_OFFSET + udp_bytes, sizeof(*frame)))
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	return OUTCOME_ANSWER;
}

__noinline int answer_dhcp4(struct __sk_buff *skb, struct packet *packet)
{
	struct scratch *space = scratch();
	struct dhcp4_request request = {};
	struct dhcp4_template *template;
	struct dhcp4_frame *frame;
	struct port *port;
	int reply, outcome;

	if (!packet)
		return OUTCOME_DROP;
	port = find_port(packet->key.ifindex);
	if (!port || !space)
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	template = bpf_map_lookup_elem(&dhcp4_templates, &port->dhcp4_subnet);
	if (!template)
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	frame = (struct dhcp4_frame *)space->bytes;
	if (packet->l4_offset != DHCP4_UDP_OFFSET || packet->fragment ||
	    bpf_skb_load_bytes(skb, 0, frame, DHCP4_BOOTP_OFFSET + sizeof(struct bootp)) ||
	    frame->bootp.operation != BOOTP_REQUEST || frame->bootp.hardware_type != 1 ||
	    frame->bootp.hardware_bytes != MAC_BYTES || load_ipv4(frame->bootp.relay) ||
	    frame->bootp.cookie != bpf_htonl(DHCP4_COOKIE) ||
	    !same_mac(frame->bootp.client_mac, port->mac) ||
	    !read_dhcp4_options(skb, packet, &request))
		return drop(packet, STAGE_ANSWER, DROP_DHCP_INVALID);
	reply = dhcp4_reply_type(&request, &frame->bootp, port, template);
	if (reply < 0)
		return drop(packet, STAGE_ANSWER, DROP_DHCP_INVALID);
	if (!reply)
		return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED, OUTCOME_CONSUMED);
	outcome = send_dhcp4(skb, packet, port, template, &request, frame, reply);
	if (outcome != OUTCOME_ANSWER)
		return outcome;
	return decide_stage(packet, STAGE_ANSWER,
			    reply == DHCP4_OFFER ? DECISION_DHCP4_OFFER :
			    reply == DHCP4_ACK	 ? DECISION_DHCP4_ACK :
						   DECISION_DHCP4_NAK,
			    OUTCOME_ANSWER);
}
