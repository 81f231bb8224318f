/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the data plane and Python: every enum, key and value
 * that both sides use. Python reads all of it from the BTF of the compiled
 * object (heddle/datapath/abi.py); no number of this file is typed twice.
 *
 * Addresses are 16 bytes in network order; IPv4 is IPv4-mapped
 * (::ffff:a.b.c.d, RFC 4291 2.5.5.2). Fields named *_be are in network order,
 * all others in host order. Padding is explicit and always zero, since the
 * kernel compares keys byte by byte.
 */
#pragma once

#define ADDRESS_BYTES 16
#define MAC_BYTES 6

/* The stages in the order in which a packet meets them. A traced packet
 * leaves one decision per stage. */
enum stage {
	STAGE_PARSE,
	STAGE_GUARD,
	STAGE_ANSWER,
	STAGE_FLOW,
	STAGE_SWITCH,
	STAGE_ROUTE,
	STAGE_DELIVER,
	STAGE_COUNT,
};

enum decision {
	DECISION_NONE, /* the packet did not reach the stage */
	DECISION_PASS,
	DECISION_DROP,
	DECISION_FLOW_HIT,
	DECISION_FLOW_MISS,
	DECISION_FLOW_STALE, /* decided under an older policy: decide again */
	DECISION_FLOW_NONE, /* this kind of packet is never cached */
	DECISION_ARP_REPLY,
	DECISION_ND_ADVERTISEMENT,
	DECISION_ROUTER_ADVERTISEMENT,
	DECISION_DHCP4_OFFER,
	DECISION_DHCP4_ACK,
	DECISION_DHCP4_NAK,
	DECISION_DHCP6_ADVERTISE,
	DECISION_DHCP6_REPLY,
	DECISION_ECHO_REPLY,
	DECISION_CONSUMED, /* needs no answer: an announcement, DAD for one's own address, a release */
	DECISION_SWITCH_UNICAST,
	DECISION_SWITCH_FLOOD,
	DECISION_SWITCH_TO_ROUTER,
	DECISION_ROUTE_CONNECTED,
	DECISION_ROUTE_STATIC,
	DECISION_ROUTE_LOCAL, /* the packet is for the router itself */
	DECISION_ICMP_TIME_EXCEEDED,
	DECISION_ICMP_UNREACHABLE,
	DECISION_ICMP_TOO_BIG,
	DECISION_ICMP_LIMITED, /* an error was due, but this port used up its share */
	DECISION_DELIVER,
	DECISION_DELIVER_PEER,
	DECISION_DELIVER_BACK, /* an answer, to the port that asked */
	DECISION_DELIVER_COPIES,
};

/* Why a packet went no further. Each has a counter per port, a sampled event
 * and a test; docs/drops.md says what to do about each. */
enum drop_reason {
	DROP_NONE,
	DROP_UNKNOWN_PORT, /* no port is configured for this device */
	DROP_MALFORMED, /* headers shorter than they say, or contradicting each other */
	DROP_VLAN_TAGGED, /* 802.1Q/802.1ad tag from a port that is no trunk */
	DROP_UNSUPPORTED_ETHERTYPE, /* neither IPv4, IPv6 nor ARP */
	DROP_SOURCE_MAC,
	DROP_SOURCE_IP,
	DROP_ARP_SPOOF, /* sender fields of an ARP message are not the port's */
	DROP_ND_SPOOF, /* an ND message speaks for an address or MAC that is not the port's */
	DROP_DHCP_SERVER, /* a VM must not answer DHCP or DHCPv6 */
	DROP_ROUTER_ADVERTISEMENT, /* a VM must not send RA or redirect */
	DROP_ARP_UNKNOWN, /* ARP for an address nobody has */
	DROP_ND_UNKNOWN, /* NS for an address nobody has */
	DROP_DHCP_INVALID, /* a DHCP or DHCPv6 message that no server would answer */
	DROP_UNKNOWN_MAC, /* no port or router of the network has the destination MAC */
	DROP_TO_ITSELF, /* destination is the sending port */
	DROP_LINK_RESERVED, /* 01:80:c2:00:00:0x, never forwarded (IEEE 802.1Q 8.6.3) */
	DROP_NO_ROUTE,
	DROP_NO_NEIGHBOR, /* routed to a subnet in which nobody has the address */
	DROP_BLACKHOLE,
	DROP_TTL_EXCEEDED,
	DROP_TOO_BIG,
	DROP_ROUTED_MULTICAST, /* multicast, broadcast or link-local addresses are not routed */
	DROP_ROUTER_SERVICE, /* sent to a router address that serves nothing but ping */
	DROP_ROUTE_LOOP, /* more than ROUTER_HOPS_MAX routers in a row */
	DROP_INTERNAL, /* a kernel helper failed */
	DROP_REASON_COUNT,
};

enum endpoint_kind {
	ENDPOINT_PORT, /* target is the ifindex of the port's device */
	ENDPOINT_ROUTER, /* target is the router's number */
	ENDPOINT_SERVICE, /* DHCP address of a subnet without a router: answers ARP/ND, DHCP, ping */
};

enum port_flag {
	PORT_PEER = 1, /* a container's veth: deliver with bpf_redirect_peer */
	PORT_DHCP4 = 2,
	PORT_DHCP6 = 4,
	PORT_RA = 8,
};

enum route_kind {
	ROUTE_CONNECTED,
	ROUTE_VIA,
	ROUTE_BLACKHOLE,
};

/* Sizes and limits that Python must know. */
enum limits {
	DHCP_OPTIONS_MAX = 304, /* a client must take 576 bytes of IP packet, RFC 2131 2 */
	RA_OPTIONS_MAX = 480,
	EPOCH_SLOTS = 4096,
	COUNTER_SLOTS = 16384,
	ROUTER_HOPS_MAX = 4,
	EVENT_CAPTURE_BYTES = 128,
	ICMP_BURST = 100, /* errors to one port in a row, */
	ICMP_PER_SECOND = 100, /* and as many a second thereafter */
	TRACE_SLOTS = 64,
	/* skb->mark of a traced packet is TRACE_MARK | slot. A guest can't set
	 * it: a TAP gives mark 0 and a veth clears it between namespaces. */
	TRACE_MARK = 0x68640000,
};

/* ---- ports: device ifindex -> port ------------------------------------- */

struct port {
	__u32 network; /* VNI */
	__u32 flags; /* enum port_flag */
	__u32 counter_slot;
	__u32 flood_next; /* ifindex of the next port of the network; the ports form a ring */
	__u32 dhcp4_subnet; /* key of dhcp4_templates */
	__u32 dhcp6_subnet; /* key of dhcp6_templates */
	__u8 dhcp4_address[4]; /* network order */
	__u8 dhcp6_address[ADDRESS_BYTES];
	__u8 mac[MAC_BYTES];
	__u16 mtu; /* of the network: largest IP packet */
};

/* ---- macs: (network, MAC) -> endpoint ---------------------------------- */

struct mac_key {
	__u32 network;
	__u8 mac[MAC_BYTES];
	__u8 pad[2];
};

struct endpoint {
	__u32 kind; /* enum endpoint_kind */
	__u32 target;
};

/* ---- addresses: (network, IP address) -> who has it -------------------- */

struct address_key {
	__u32 network;
	__u8 address[ADDRESS_BYTES];
};

struct neighbor {
	__u32 kind; /* enum endpoint_kind */
	__u32 target;
	__u8 mac[MAC_BYTES];
	__u8 pad[2];
};

/* ---- source_prefixes: what a port may send from besides its own addresses.
 * The value is the IP version, since ::/0 matches IPv4-mapped addresses too. */

struct source_prefix_key {
	__u32 prefix_bits; /* 32 for ifindex + 0..128 */
	__u32 ifindex;
	__u8 address[ADDRESS_BYTES];
};

/* ---- router_interfaces: (router, network) -> the router's side of it --- */

struct router_interface_key {
	__u32 router;
	__u32 network;
};

struct router_interface {
	__u8 mac[MAC_BYTES];
	__u16 mtu;
	__u8 address4[ADDRESS_BYTES]; /* zero: none. Source of ICMP errors */
	__u8 address6[ADDRESS_BYTES]; /* zero: none, the link-local address is used */
};

/* ---- routes: longest prefix per router --------------------------------- */

struct route_key {
	__u32 prefix_bits; /* 32 for router + 0..128 */
	__u32 router;
	__u8 address[ADDRESS_BYTES];
};

struct route {
	__u32 kind; /* enum route_kind */
	__u32 network; /* VNI in which the next hop or the destination lives */
	__u8 ip_version; /* ::/0 would match every IPv4-mapped address as well */
	__u8 bits; /* length of the prefix in its own family */
	__u8 pad[2];
	__u8 via[ADDRESS_BYTES]; /* zero for ROUTE_CONNECTED */
};

/* ---- answers rendered by the compiler ---------------------------------- */

/* DHCPv4 of a subnet: the options after option 53 (message type). OFFER and
 * ACK carry all of them; NAK carries the server identifier alone. */
struct dhcp4_template {
	__u8 server_mac[MAC_BYTES];
	__u16 options_length; /* bytes used, option 255 included */
	__u8 server_address[4]; /* network order; option 54 */
	__u8 options[DHCP_OPTIONS_MAX];
};

/* DHCPv6 of a subnet: the options that are the same for every client
 * (server identifier first, then DNS servers, domain list, ...). */
struct dhcp6_template {
	__u8 server_mac[MAC_BYTES];
	__u16 options_length;
	__u16 server_id_length; /* bytes of the DUID in the first option */
	__u8 pad[2];
	__u32 preferred_lifetime; /* seconds */
	__u32 valid_lifetime;
	__u8 options[DHCP_OPTIONS_MAX];
};

/* RA of a network: the ICMPv6 message from its type byte on, checksum field
 * zero. length is a multiple of 8. */
struct ra_template {
	__u8 router_mac[MAC_BYTES]; /* the source address is its EUI-64 link-local */
	__u16 length;
	__u8 message[RA_OPTIONS_MAX];
};

/* ---- flows: the memory of every decision of a first packet ------------- */

enum fragment_kind {
	FRAGMENT_NONE,
	FRAGMENT_FIRST, /* has the ports */
	FRAGMENT_LATER,
};

struct flow_key {
	__u32 ifindex; /* of the port it came from */
	__u16 source_port_be; /* ICMP echo: identifier; a later fragment: 0 */
	__u16 destination_port_be; /* ICMP: type and code; a later fragment: 0 */
	__u8 l4_protocol;
	__u8 fragment; /* enum fragment_kind */
	__u8 pad[2];
	__u8 source[ADDRESS_BYTES];
	__u8 destination[ADDRESS_BYTES];
};

enum flow_flag {
	FLOW_PEER = 1, /* bpf_redirect_peer */
};

struct flow {
	__u8 received_macs[2 * MAC_BYTES]; /* destination, source: as in the frame */
	__u8 sent_macs[2 * MAC_BYTES];
	__u32 ifindex; /* deliver to */
	__u32 epoch;
	__u32 from_slot; /* counter slots of both ends */
	__u32 to_slot;
	__u16 epoch_slot;
	__u16 mtu;
	__u16 flags; /* enum flow_flag */
	__u16 hops; /* routers passed, so much is taken off the TTL; 0: switched */
};

/* ---- counters ---------------------------------------------------------- */

struct port_counters {
	__u64 from_vm_packets;
	__u64 from_vm_bytes;
	__u64 to_vm_packets;
	__u64 to_vm_bytes;
};

struct drop_key {
	__u32 ifindex; /* of the port the packet came from */
	__u32 reason; /* enum drop_reason */
};

struct drop_counter {
	__u64 packets;
	__u64 bytes;
	__u64 sampled_at; /* ns, when this CPU last sent an event */
};

struct icmp_budget {
	__u64 refilled_at; /* ns */
	__u64 tokens;
};

/* ---- facts ------------------------------------------------------------- */

enum event_kind {
	EVENT_DROP = 1,
};

struct drop_event {
	__u32 kind; /* enum event_kind */
	__u32 reason; /* enum drop_reason */
	__u32 ifindex;
	__u32 length; /* bytes of the frame */
	__u64 time; /* ns of CLOCK_MONOTONIC */
	__u32 captured; /* bytes of frame[] in use */
	__u32 stage; /* enum stage */
	__u8 frame[EVENT_CAPTURE_BYTES];
};

/* What a traced packet met, one slot per trace (mark & (TRACE_SLOTS - 1)). */
struct trace_record {
	__u32 decisions[STAGE_COUNT]; /* enum decision */
	__u32 drop_reason;
	__u32 to_ifindex; /* 0: nowhere, or to many */
	__u32 copies; /* ports that would get a copy of a flooded frame */
	__u32 router; /* number, when routed */
	__u32 to_network; /* VNI in which it was delivered */
	__u32 cached_ifindex; /* what the flow table holds for it; 0: nothing valid */
	__u32 route_bits; /* prefix length in the address family of the packet */
	__u32 hops; /* routers passed */
	__u8 via[ADDRESS_BYTES]; /* next hop of a static route */
};
