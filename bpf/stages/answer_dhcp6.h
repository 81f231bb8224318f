/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer DHCPv6 -> back to the sender | drop (RFC 8415)
 *
 * A reply is the template's options (server identifier first), then IA_NA with
 * the port's address, then the client's identifier as it sent it.
 */
#pragma once

#include "stages/answer_nd.h"

#define DHCP6_OPTIONS_WALKED 24
#define DHCP6_CLIENT_ID_MAX 130 /* DUID: 2 bytes of type and at most 128, RFC 8415 11.1 */
#define DHCP6_SERVER_ID_MAX 32
#define DHCP6_HOP_LIMIT 64

enum dhcp6_option {
	OPTION6_CLIENT_ID = 1,
	OPTION6_SERVER_ID = 2,
	OPTION6_IA_NA = 3,
	OPTION6_IA_ADDRESS = 5,
	OPTION6_STATUS = 13,
};

enum dhcp6_type {
	DHCP6_SOLICIT = 1,
	DHCP6_ADVERTISE = 2,
	DHCP6_REQUEST = 3,
	DHCP6_CONFIRM = 4,
	DHCP6_RENEW = 5,
	DHCP6_REBIND = 6,
	DHCP6_REPLY = 7,
	DHCP6_RELEASE = 8,
	DHCP6_DECLINE = 9,
	DHCP6_INFORMATION = 11,
};

struct dhcp6_option_header {
	__be16 code;
	__be16 length;
} __attribute__((packed));

struct ia_na {
	struct dhcp6_option_header header;
	__u8 iaid[4];
	__be32 renew_after, rebind_after;
	struct dhcp6_option_header address_header;
	__u8 address[ADDRESS_BYTES];
	__be32 preferred_lifetime, valid_lifetime;
} __attribute__((packed));

struct dhcp6_status {
	struct dhcp6_option_header header;
	__be16 code; /* 0: success */
} __attribute__((packed));

struct dhcp6_message {
	struct ipv6_frame frame;
	struct udphdr udp;
	__u8 type;
	__u8 transaction[3];
} __attribute__((packed));

/* The most that follows the headers. */
#define DHCP6_BODY_MAX                                                               \
	(DHCP_OPTIONS_MAX + sizeof(struct ia_na) + sizeof(struct dhcp6_option_header) + \
	 DHCP6_CLIENT_ID_MAX)
#define DHCP6_UDP_OFFSET sizeof(struct ipv6_frame)

_Static_assert(sizeof(struct udphdr) + 4 + DHCP6_BODY_MAX <= SUM_BYTES_MAX,
	       "the reply is summed up in one go");

struct dhcp6_request {
	__u32 client_id_offset; /* of the option in the frame; 0: none */
	__u32 client_id_bytes; /* option header included */
	__u32 server_id_offset;
	__u32 server_id_bytes;
	bool has_ia;
	__u8 iaid[4];
};

static __always_inline bool read_dhcp6_options(struct __sk_buff *skb, const struct packet *packet,
					       struct dhcp6_request *request)
{
	__u32 offset = sizeof(struct dhcp6_message);
	__u32 end = ETHERNET_BYTES + packet->l3_bytes;

	for (int i = 0; i < DHCP6_OPTIONS_WALKED; i++) {
		struct dhcp6_option_header option;
		__u32 bytes;

		if (offset == end)
			return true;
		if (offset > end || bpf_skb_load_bytes(skb, offset, &option, sizeof(option)))
			return false;
		bytes = sizeof(option) + bpf_ntohs(option.length);
		if (offset + bytes > end)
			return false;
		if (option.code == bpf_htons(OPTION6_CLIENT_ID)) {
			request->client_id_offset = offset;
			request->client_id_bytes = bytes;
		} else if (option.code == bpf_htons(OPTION6_SERVER_ID)) {
			request->server_id_offset = offset;
			request->server_id_bytes = bytes;
		} else if (option.code == bpf_htons(OPTION6_IA_NA) && !request->has_ia) {
			if (bytes < sizeof(option) + sizeof(request->iaid) ||
			    bpf_skb_load_bytes(skb, offset + sizeof(option), request->iaid,
					       sizeof(request->iaid)))
				return false;
			request->has_ia = true;
		}
		offset += bytes;
	}
	return false;
}

/* Does the request name this server? Both are compared as whole options. */
static __always_inline bool names_server(struct __sk_buff *skb, const struct dhcp6_request *request,
					 const struct dhcp6_template *template)
{
	__u8 named[DHCP6_SERVER_ID_MAX] = {};
	__u32 bytes = template->server_id_length + sizeof(struct dhcp6_option_header);

	if (request->server_id_bytes != bytes ||
	    !load_between(skb, request->server_id_offset, named, bytes,
			  sizeof(struct dhcp6_option_header), sizeof(named)))
		return false;
	for (int i = 0; i < DHCP6_SERVER_ID_MAX; i++)
		if (i < bytes && named[i] != template->options[i])
			return false;
	return true;
}

enum dhcp6_verdict {
	DHCP6_INVALID,
	DHCP6_SILENT,
	DHCP6_WITH_ADDRESS,
	DHCP6_WITH_STATUS, /* nothing but "success" */
	DHCP6_WITHOUT_ADDRESS,
};

/* RFC 8415 16 and 18.3. */
static __always_inline int judge_dhcp6(__u8 type, const struct dhcp6_request *request,
				       bool server_named, bool has_address)
{
	if (type == DHCP6_INFORMATION)
		return request->server_id_bytes && !server_named ? DHCP6_SILENT :
								   DHCP6_WITHOUT_ADDRESS;
	if (!request->client_id_bytes)
		return DHCP6_INVALID;
	switch (type) {
	case DHCP6_SOLICIT:
	case DHCP6_REBIND:
		if (request->server_id_bytes)
			return DHCP6_INVALID;
		return has_address && request->has_ia ? DHCP6_WITH_ADDRESS : DHCP6_SILENT;
	case DHCP6_CONFIRM:
		if (request->server_id_bytes)
			return DHCP6_INVALID;
		return has_address ? DHCP6_WITH_STATUS : DHCP6_SILENT;
	case DHCP6_REQUEST:
	case DHCP6_RENEW:
		if (!request->server_id_bytes)
			return DHCP6_INVALID;
		if (!server_named)
			return DHCP6_SILENT;
		return has_address && request->has_ia ? DHCP6_WITH_ADDRESS : DHCP6_SILENT;
	case DHCP6_RELEASE:
	case DHCP6_DECLINE:
		if (!request->server_id_bytes)
			return DHCP6_INVALID;
		return server_named ? DHCP6_WITH_STATUS : DHCP6_SILENT;
	}
	return DHCP6_INVALID;
}

static __always_inline void fill_ia(struct ia_na *ia, const struct dhcp6_request *request,
				    const struct port *port, const struct dhcp6_template *template)
{
	ia->header.code = bpf_htons(OPTION6_IA_NA);
	ia->header.length = bpf_htons(sizeof(*ia) - sizeof(ia->header));
	__builtin_memcpy(ia->iaid, request->iaid, 4);
	ia->renew_after = bpf_htonl(template->preferred_lifetime / 2);
	ia->rebind_after = bpf_htonl((__u64)template->preferred_lifetime * 4 / 5);
	ia->address_header.code = bpf_htons(OPTION6_IA_ADDRESS);
	ia->address_header.length = bpf_htons(ADDRESS_BYTES + 8);
	copy_address(ia->address, port->dhcp6_address);
	ia->preferred_lifetime = bpf_htonl(template->preferred_lifetime);
	ia->valid_lifetime = bpf_htonl(template->valid_lifetime);
}

/* Put the body behind the headers; returns its length, 0 when it can't be. */
static __always_inline __u32 fill_dhcp6_body(struct __sk_buff *skb, __u8 *body,
					     const struct dhcp6_request *request,
					     const struct port *port,
					     const struct dhcp6_template *template, int verdict)
{
	__u32 used = template->options_length;
	__u32 client_id_bytes = request->client_id_bytes;

	if (used > DHCP_OPTIONS_MAX)
		return 0;
	__builtin_memset(body, 0, SUM_BYTES_MAX - sizeof(struct udphdr) - 4);
	__builtin_memcpy(body, template->options, DHCP_OPTIONS_MAX);
	if (verdict == DHCP6_WITH_ADDRESS) {
		fill_ia((struct ia_na *)(body + used), request, port, template);
		used += sizeof(struct ia_na);
	} else if (verdict == DHCP6_WITH_STATUS) {
		struct dhcp6_status *status = (struct dhcp6_status *)(body + used);

		status->header.code = bpf_htons(OPTION6_STATUS);
		status->header.length = bpf_htons(sizeof(status->code));
		used += sizeof(*status);
	}
	if (!client_id_bytes)
		return used;
	settle(used);
	if (used > DHCP_OPTIONS_MAX + sizeof(struct ia_na))
		return 0;
	if (!load_between(skb, request->client_id_offset, body + used, client_id_bytes,
			  sizeof(struct dhcp6_option_header),
			  sizeof(struct dhcp6_option_header) + DHCP6_CLIENT_ID_MAX))
		return 0;
	return used + client_id_bytes;
}

static __always_inline int send_dhcp6(struct __sk_buff *skb, struct packet *packet,
				      const struct dhcp6_template *template,
				      struct dhcp6_message *message, __u32 body_bytes)
{
	__u8 server[ADDRESS_BYTES] __attribute__((aligned(4)));
	__u32 udp_bytes = sizeof(struct udphdr) + 4 + body_bytes;
	__u16 request_checksum = message->udp.check;
	__u32 request_pseudo = pseudo_header_sum6(packet->key.source, packet->key.destination,
						  IPPROTO_UDP,
						  packet->l3_bytes - sizeof(struct ipv6hdr));
	__u32 pseudo;

	link_local_of(server, template->server_mac);
	__builtin_memset(&message->frame, 0, sizeof(message->frame));
	start_ipv6(&message->frame, IPPROTO_UDP, udp_bytes, DHCP6_HOP_LIMIT);
	address_answer(&message->frame, packet, template->server_mac, server);
	message->udp.source = bpf_htons(DHCP6_SERVER_PORT);
	message->udp.dest = bpf_htons(DHCP6_CLIENT_PORT);
	message->udp.len = bpf_htons(udp_bytes);
	message->udp.check = 0;
	pseudo = pseudo_header_sum6(server, packet->key.source, IPPROTO_UDP, udp_bytes);
	message->udp.check = udp_checksum(request_checksum, request_pseudo, pseudo,
					  fold(sum_of(&message->udp, SUM_BYTES_MAX)));
	return replace_frame(skb, message, DHCP6_UDP_OFFSET + udp_bytes, SCRATCH_BYTES) ?
		       OUTCOME_ANSWER :
		       OUTCOME_DROP;
}

__noinline int answer_dhcp6(struct __sk_buff *skb, struct packet *packet)
{
	struct scratch *space = scratch();
	struct dhcp6_request request = {};
	struct dhcp6_template *template;
	struct dhcp6_message *message;
	__u32 body_bytes;
	struct port *port;
	int verdict;

	if (!packet)
		return OUTCOME_DROP;
	port = find_port(packet->key.ifindex);
	if (!port || !space)
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	template = bpf_map_lookup_elem(&dhcp6_templates, &port->dhcp6_subnet);
	if (!template)
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	message = (struct dhcp6_message *)space->bytes;
	if (packet->l4_offset != DHCP6_UDP_OFFSET || packet->fragment ||
	    bpf_skb_load_bytes(skb, 0, message, sizeof(*message)) ||
	    !read_dhcp6_options(skb, packet, &request))
		return drop(packet, STAGE_ANSWER, DROP_DHCP_INVALID);
	verdict = judge_dhcp6(message->type, &request, names_server(skb, &request, template),
			      !is_unspecified(port->dhcp6_address));
	if (verdict == DHCP6_INVALID)
		return drop(packet, STAGE_ANSWER, DROP_DHCP_INVALID);
	if (verdict == DHCP6_SILENT)
		return decide_stage(packet, STAGE_ANSWER, DECISION_CONSUMED, OUTCOME_CONSUMED);
	message->type = message->type == DHCP6_SOLICIT ? DHCP6_ADVERTISE : DHCP6_REPLY;
	body_bytes = fill_dhcp6_body(skb, space->bytes + sizeof(*message), &request, port, template,
				     verdict);
	if (!body_bytes)
		return drop(packet, STAGE_ANSWER, DROP_DHCP_INVALID);
	verdict = message->type;
	if (send_dhcp6(skb, packet, template, message, body_bytes) != OUTCOME_ANSWER)
		return drop(packet, STAGE_ANSWER, DROP_INTERNAL);
	return decide_stage(packet, STAGE_ANSWER,
			    verdict == DHCP6_ADVERTISE ? DECISION_DHCP6_ADVERTISE :
							 DECISION_DHCP6_REPLY,
			    OUTCOME_ANSWER);
}
