/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the stages know of the packet in hand, and the small things that all
 * of them do with it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shared/tables.h"

#define ETHERNET_BYTES 14
#define TRACE_MARK_MASK 0xffff0000
#define IPV4_WITHOUT_OPTIONS 0x45 /* version, and words of the header */
#define ECN_MASK 3 /* of the traffic class */
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define BE16_ARP bpf_htons(ETH_P_ARP)
#define BE16_IPV4 bpf_htons(ETH_P_IP)
#define BE16_IPV6 bpf_htons(ETH_P_IPV6)

/* What becomes of the packet after a stage. */
enum outcome {
	OUTCOME_NEXT, /* the next stage decides */
	OUTCOME_DROP, /* packet->drop_reason says why */
	OUTCOME_ANSWER, /* the frame now is the answer: send it back */
	OUTCOME_CONSUMED, /* taken note of, nothing to send */
	OUTCOME_PORT, /* to packet->to_ifindex */
	OUTCOME_FLOOD, /* to every other port of the network */
	OUTCOME_RELAY, /* the envelope is addressed anew: send it back into the tunnel */
	OUTCOME_PROBE, /* it probes the path between two hosts */
	OUTCOME_MOVED, /* its port is at packet->to_host now */
	OUTCOME_SERVE, /* for an address of heddle's own: answered once the sender may ask */
};

struct packet {
	struct flow_key key;
	__u8 macs[2 * MAC_BYTES]; /* destination, source: as received */
	__u32 l3_bytes; /* of the IP packet, headers included */
	__u32 segment_bytes; /* the same of the largest segment of a GSO packet */
	__u16 ethertype_be;
	__u16 l4_offset; /* from the start of the frame; 0: no L4 header here */
	__u8 ttl;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	__u8 fragment; /* enum fragment_kind */
	__u8 trackable; /* has a flow: not ND, an ICMP error, an orphaned fragment, ... */
	__u8 stage; /* enum stage reached */
	__u8 drop_reason; /* enum drop_reason */
	__u8 decisions[STAGE_COUNT]; /* enum decision */
	__u32 identification; /* of a fragment */
	__u32 cached_ifindex;
	__u32 device; /* ifindex of the device it came from */
	__u32 from_host; /* number of the host that sent the envelope, 0: it has none */
	__u32 envelope; /* its ENVELOPE_ bits */
	__u8 vtep[ADDRESS_BYTES]; /* of that host */
	bool has_entry; /* in the flow table, whatever that is good for */

	/* From here on filled by the slow path alone, and zero before it. */
	__u8 sent_macs[2 * MAC_BYTES]; /* as they will leave */
	__u32 trace; /* 1 + slot of a traced packet, else 0 */
	__u32 network; /* VNI in which the packet is */
	__u32 epoch; /* of the network, read before the first decision, */
	__u32 epoch_slot; /* from here */
	__u32 reply_epoch; /* of the network it goes to, read before the rules */
	__u32 router; /* number of the router that has it, 0: none */
	__u32 router_network; /* VNI from which that router took it */
	__u32 arrived_in; /* VNI of the envelope, when routed here for a foreign machine */
	__u32 to_ifindex; /* or TUNNEL_ZONE | VNI of this host's port, and to_host */
	__u32 to_host; /* number */
	__u32 to_network;
	__u32 copies;
	__u32 host_copies;
	__u32 passed_over; /* ports that were looked at in vain */
	__u32 frame_bytes;
	__u32 blamed_ifindex; /* port whose rules or limits it broke; 0: the sender */
	__u32 from_rule;
	__u32 to_rule;
	__u16 hops;
	__u16 mtu; /* of the network it is in, then on the way to the destination */
	__u8 icmp_error_type; /* an error to send with the drop; 0: none */
	__u8 icmp_error_code;
	__u8 route_bits;
	__u8 settled; /* later packets of the flow need no look at the connection */
	__u8 connection_state; /* 1 + enum connection_state before this packet; 0: none */
	__u8 via[ADDRESS_BYTES];
	__u8 wanted[ADDRESS_BYTES]; /* neighbor in to_network that a router does not know */
	struct flow_key opener; /* of the connection it belongs to */
	struct flow_key other; /* of the direction that it does not take */
	struct flow_key own; /* of an ICMP error, while that of what it quotes is in hand */
	bool is_reply;
	bool is_announcement; /* of an address that moves: all ports hear it */
	bool is_movable; /* an end may speak up at another port any time */
	/* Nobody known has it, so that it is flooded to: */
	bool is_for_foreign; /* hosts of which only their frames tell, */
	bool is_for_open; /* ports without port security, here and at other hosts */
	bool is_written; /* its entry holds all that was decided */
	bool is_shaped; /* has been through the shaper, and now is flooded */
	bool asks; /* a router shall ask for the wanted neighbor */
};

#define PARSED_BYTES offsetof(struct packet, sent_macs)

/* On no stack: with that of the functions below it would not fit. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

static __always_inline struct packet *packet_in_hand(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&packets, &zero);
}

static __always_inline bool is_ipv4(const struct packet *packet)
{
	return packet->ethertype_be == BE16_IPV4;
}

static __always_inline bool is_ipv6(const struct packet *packet)
{
	return packet->ethertype_be == BE16_IPV6;
}

static __always_inline int decide_stage(struct packet *packet, enum stage stage,
					enum decision decision, enum outcome outcome)
{
	packet->stage = stage;
	packet->decisions[stage] = decision;
	return outcome;
}

static __always_inline int pass(struct packet *packet, enum stage stage)
{
	return decide_stage(packet, stage, DECISION_PASS, OUTCOME_NEXT);
}

static __always_inline int drop(struct packet *packet, enum stage stage, enum drop_reason reason)
{
	packet->drop_reason = reason;
	return decide_stage(packet, stage, DECISION_DROP, OUTCOME_DROP);
}

/* A drop of which the sender is told by ICMP or ICMPv6. */
static __always_inline int drop_with_error(struct packet *packet, enum stage stage,
					   enum drop_reason reason, __u8 type, __u8 code)
{
	packet->icmp_error_type = type;
	packet->icmp_error_code = code;
	return drop(packet, stage, reason);
}

/* ---- MACs --------------------------------------------------------------- */

static __always_inline void copy_mac(void *to, const void *from)
{
	__builtin_memcpy(to, from, MAC_BYTES);
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	__u8 difference = 0;

	for (int i = 0; i < MAC_BYTES; i++)
		difference |= a[i] ^ b[i];
	return !difference;
}

static __always_inline const __u8 *destination_mac(const struct packet *packet)
{
	return packet->macs;
}

static __always_inline const __u8 *source_mac(const struct packet *packet)
{
	return packet->macs + MAC_BYTES;
}

/* ---- addresses ---------------------------------------------------------- */

static __always_inline void copy_address(void *to, const void *from)
{
	__builtin_memcpy(to, from, ADDRESS_BYTES);
}

static __always_inline bool same_address(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __always_inline bool is_unspecified(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !(words[0] | words[1] | words[2] | words[3]);
}

/* ::ffff:a.b.c.d */
static __always_inline void map_ipv4(__u8 *address, __u32 ipv4_be)
{
	__u32 *words = (__u32 *)address;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = ipv4_be;
}

static __always_inline __u32 mapped_ipv4(const __u8 *address)
{
	return ((const __u32 *)address)[3];
}

/* In a packet nobody may use such an address (RFC 4291 2.5.5.2 is about APIs);
 * in a key it means IPv4. */
static __always_inline bool is_mapped(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return words[2] == bpf_htonl(0xffff) && !words[0] && !words[1];
}

static __always_inline bool is_link_local6(const __u8 *address)
{
	return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

/* The link-local address that a MAC gives (RFC 4291 appendix A). */
static __always_inline void link_local_of(__u8 *address, const __u8 *mac)
{
	__u32 *words = (__u32 *)address;

	words[0] = bpf_htonl(0xfe800000);
	words[1] = 0;
	address[8] = mac[0] ^ 2;
	address[9] = mac[1];
	address[10] = mac[2];
	address[11] = 0xff;
	address[12] = 0xfe;
	address[13] = mac[3];
	address[14] = mac[4];
	address[15] = mac[5];
}

/* The reverse; false when the address was not made from a MAC. */
static __always_inline bool mac_of_link_local(__u8 *mac, const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (words[0] != bpf_htonl(0xfe800000) || words[1] || address[11] != 0xff ||
	    address[12] != 0xfe)
		return false;
	mac[0] = address[8] ^ 2;
	mac[1] = address[9];
	mac[2] = address[10];
	mac[3] = address[13];
	mac[4] = address[14];
	mac[5] = address[15];
	return true;
}

/* ---- ports ---------------------------------------------------------------- */

/* A device with a qdisc of its own must not be bypassed. */
static __always_inline bool delivers_to_peer(const struct port *port)
{
	return (port->flags & (PORT_PEER | PORT_SHAPED_TO_VM)) == PORT_PEER;
}

/* ---- the tunnel ------------------------------------------------------------ */

/* Does this stand for the tunnel, and not for a port? */
static __always_inline bool is_zone(__u32 ifindex)
{
	return ifindex & TUNNEL_ZONE;
}

/* What stands for the other hosts, seen from a port in this network. */
static __always_inline __u32 zone_of(__u32 network)
{
	return TUNNEL_ZONE | network;
}

static __always_inline struct this_host *find_this_host(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&this_host, &zero);
}

static __always_inline struct vtep *find_vtep(__u32 host)
{
	return bpf_map_lookup_elem(&vteps, &host);
}

static __always_inline struct tunnel_network *find_tunnel_network(__u32 network)
{
	return bpf_map_lookup_elem(&tunnel_networks, &network);
}

/* Fits a packet the path to that host, as far as that was measured? */
static __always_inline bool fits_path(const struct packet *packet, const struct vtep *vtep)
{
	return !vtep->mtu || packet->segment_bytes <= vtep->mtu;
}

/* ---- who is where --------------------------------------------------------- */

static __always_inline struct port *find_port(__u32 ifindex)
{
	return bpf_map_lookup_elem(&ports, &ifindex);
}

/* NULL for an end at another host. */
static __always_inline struct port *port_at(__u32 ifindex)
{
	return is_zone(ifindex) ? NULL : find_port(ifindex);
}

/* A port of a VM that is on its way counts as one of another host. */
static __always_inline bool is_elsewhere(const struct port *port)
{
	return port->flags & (PORT_STANDBY | PORT_AWAY);
}

static __always_inline struct router_interface *find_router_interface(__u32 router, __u32 network)
{
	struct router_interface_key key = { .router = router, .network = network };

	return bpf_map_lookup_elem(&router_interfaces, &key);
}

static __always_inline __u32 current_epoch(__u32 slot)
{
	__u32 *epoch = bpf_map_lookup_elem(&epochs, &slot);

	return epoch ? *epoch : 0;
}

/* Keep the compiler from computing a length anew after its bounds were
 * checked: the verifier knows the bounds of the checked copy alone. */
#define settle(length) asm volatile("" : "+r"(length))

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch_space, &zero);
}

/* Load least to most bytes, in a way whose bounds the verifier of 6.1 follows:
 * it learns nothing from a comparison with zero, so least is at least 2. */
static __always_inline bool load_between(struct __sk_buff *skb, __u32 offset, void *to, __u32 bytes,
					 __u32 least, __u32 most)
{
	settle(bytes);
	if (bytes < least)
		return false;
	settle(bytes); /* or both checks become one subtraction */
	if (bytes > most)
		return false;
	return !bpf_skb_load_bytes(skb, offset, to, bytes);
}

/* Make the frame an answer of so many bytes, ETHERNET_BYTES to most. */
static __always_inline bool replace_frame(struct __sk_buff *skb, const void *answer, __u32 bytes,
					  __u32 most)
{
	if (bpf_skb_change_tail(skb, bytes, 0))
		return false;
	settle(bytes);
	if (bytes < ETHERNET_BYTES)
		return false;
	settle(bytes); /* see load_between */
	if (bytes > most)
		return false;
	return !bpf_skb_store_bytes(skb, 0, answer, bytes, 0);
}

/* Is it a traced packet (stages/trace.h)? The number of its slot, and one. */
static __always_inline __u32 trace_of(const struct __sk_buff *skb)
{
	if ((skb->mark & TRACE_MARK_MASK) != TRACE_MARK)
		return 0;
	return 1 + (skb->mark & (TRACE_SLOTS - 1));
}
