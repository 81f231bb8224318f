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
	STAGE_TUNNEL, /* of what came from another host */
	STAGE_PARSE,
	STAGE_GUARD,
	STAGE_ANSWER,
	STAGE_FLOW,
	STAGE_SWITCH,
	STAGE_ROUTE,
	STAGE_POLICY,
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
	DECISION_FLOW_UNSETTLED, /* its connection is opening or closing: decide */
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
	DECISION_SWITCH_REMOTE, /* to the host that has the port */
	DECISION_SWITCH_TO_ROUTER,
	DECISION_ROUTE_CONNECTED,
	DECISION_ROUTE_STATIC,
	DECISION_ROUTE_LOCAL, /* the packet is for the router itself */
	DECISION_POLICY_ALLOWED, /* by rules of the security groups */
	DECISION_POLICY_REPLY, /* by the connection it replies in */
	DECISION_POLICY_RELATED, /* an ICMP error about a packet of a known connection */
	DECISION_POLICY_OPEN, /* port security is off at every end concerned */
	DECISION_ICMP_TIME_EXCEEDED,
	DECISION_ICMP_UNREACHABLE,
	DECISION_ICMP_TOO_BIG,
	DECISION_ICMP_LIMITED, /* an error was due, but this port used up its share */
	DECISION_DELIVER,
	DECISION_DELIVER_PEER,
	DECISION_DELIVER_BACK, /* an answer, to the port that asked */
	DECISION_DELIVER_COPIES,
	DECISION_DELIVER_TUNNEL, /* to another host */
	DECISION_RELAY, /* an envelope for another host, sent on to it */
	DECISION_PROBE, /* of the path between two hosts: answered, or reported */
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
	DROP_NEIGHBOR_ASKED, /* the same, but somebody behind a foreign host may have it, who is asked */
	DROP_BLACKHOLE,
	DROP_TTL_EXCEEDED,
	DROP_TOO_BIG,
	DROP_ROUTED_MULTICAST, /* multicast, broadcast or link-local addresses are not routed */
	DROP_ROUTER_SERVICE, /* sent to a router address that serves nothing but ping */
	DROP_ROUTE_LOOP, /* more than ROUTER_HOPS_MAX routers in a row */
	DROP_POLICY_FROM_VM, /* no rule of the sender's security groups allows it */
	DROP_POLICY_TO_VM, /* no rule of the receiver's security groups allows it */
	DROP_CONNECTION_INVALID, /* belongs to no connection and can't open one */
	DROP_FRAGMENT_ORPHAN, /* a later fragment whose first one was not seen */
	DROP_CONNECTION_LIMIT, /* the port has all the connections that it may have */
	DROP_FLOW_TABLE_FULL,
	DROP_PACKET_RATE_FROM_VM,
	DROP_PACKET_RATE_TO_VM,
	/* Full queues of bandwidth limits. No program sees these drops: the qdisc counts them. */
	DROP_BANDWIDTH_FROM_VM,
	DROP_BANDWIDTH_TO_VM,
	DROP_NOT_TAKEN_TO_VM, /* off, or slower than what comes: its device counts it, no program */
	DROP_FLOOD_LIMIT, /* more broadcast, multicast than a port may send */
	DROP_UNKNOWN_VTEP, /* an envelope from an address that is no host's */
	DROP_UNKNOWN_VNI, /* an envelope of a network that has no port here */
	DROP_TUNNEL_MALFORMED, /* headers in the envelope are cut off, or contradict each other */
	DROP_NO_VTEP, /* for a host of which no address is known */
	DROP_TUNNEL_LOOP, /* sent on from host to host TUNNEL_FORWARDS_MAX times */
	DROP_TUNNEL_MTU, /* fits its network, but not the path to the host */
	DROP_INTERNAL, /* a kernel helper failed */
	DROP_REASON_COUNT,
};

enum endpoint_kind {
	ENDPOINT_PORT, /* target is the ifindex of the port's device */
	ENDPOINT_ROUTER, /* target is the router's number */
	ENDPOINT_SERVICE, /* DHCP address of a subnet without a router: answers ARP/ND, DHCP, ping */
	ENDPOINT_REMOTE, /* target is the number of the host that has the port; 0: not known */
};

enum port_flag {
	PORT_PEER = 1, /* a container's veth: deliver with bpf_redirect_peer */
	PORT_DHCP4 = 2,
	PORT_DHCP6 = 4,
	PORT_RA = 8,
	PORT_OPEN = 16, /* port security is off: neither guard nor security groups; others may be behind it */
	PORT_SHAPED_TO_VM = 32, /* its device has a qdisc that must be passed */
	PORT_DSCP = 64, /* mark what the VM sends with port.dscp */
	PORT_STANDBY = 128, /* its VM is being moved here: until its first frame it is elsewhere */
	PORT_AWAY = 256, /* its VM runs elsewhere by now, or is about to */
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
	/* MACs, and as many addresses, that are learned behind one open port, of the address
	 * pairs of another port, and of all at another host. The oldest makes room. */
	OPEN_PORT_MAX = 512,
	PAIRS_PORT_MAX = 1024,
	LEARNED_HOST_MAX = 4096,
	OPEN_SECONDS = 300, /* that they count without a word (IEEE 802.1D table 7-5) */
	ROUTER_HOPS_MAX = 16,
	EVENT_CAPTURE_BYTES = 128,
	GROUPS_MAX = 16, /* security groups of a port */
	POLICY_PREFIXES_MAX = 132, /* 0 to 128, and padding */
	POLICY_SETS_MAX = 64, /* remote groups and address groups that a group may name per direction */
	PROTOCOL_ANY = 256,
	FLOWS_MAX = 524288, /* two of them are a connection */
	/* What a port may flood: a copy costs one unit, the packet itself as much
	 * as follows. A port may save up units for one second. */
	FLOOD_UNITS_PER_SECOND = 100000,
	FLOOD_UNITS_BROADCAST = 100,
	FLOOD_UNITS_MULTICAST = 10,
	/* Set on frames on their way through the shaper. In the lower 24 bits the
	 * ifindex of the device they are for, or come from when they are flooded. */
	SHAPED_MARK = 0x53000000,
	SHAPED_FLOOD_MARK = 0x54000000,
	/* For another host: the VNI in the lower 24 bits, the host's number in tc_index. */
	SHAPED_TUNNEL_MARK = 0x55000000,
	SHAPED_OPEN_TUNNEL_MARK = 0x56000000, /* the same, from an open port */
	SHAPER_MAJOR = 1, /* handle of the shaper's qdisc; a port's class is its counter slot + 1 */
	ICMP_BURST = 100, /* errors to one port in a row, */
	ICMP_PER_SECOND = 100, /* and as many a second thereafter */
	TRACE_SLOTS = 64,
	/* skb->mark of a traced packet is TRACE_MARK | slot. A guest can't set
	 * it: a TAP gives mark 0 and a veth clears it between namespaces. */
	TRACE_MARK = 0x68640000,
};

/* Of its own, since one does not fit an int. */
enum tunnel_limits {
	/* Stands for the ifindex in the key of a flow from the tunnel, and of the other
	 * end of one into it: TUNNEL_ZONE | VNI of the network of this host's port. */
	TUNNEL_ZONE = 0x80000000,
	VNI_MASK = 0xffffff,
	PROBE_VNI = 0xffffff, /* no network's */
	PROBE_ETHERTYPE = 0x88b5, /* IEEE 802 local experimental */
	/* Of the 32 bits that an envelope has for a group policy: the number of the
	 * host that it is for (0: who gets it), whether the sender is an open port, and
	 * how often it was sent on. When a relay has sent on what an open port sent, the
	 * number is that of the open port's host. */
	ENVELOPE_HOST_MASK = 0x7fff,
	ENVELOPE_OPEN = 0x8000,
	ENVELOPE_FORWARDED_ONCE = 0x80000,
	ENVELOPE_FORWARDED_TWICE = 0x400000,
	TUNNEL_FORWARDS_MAX = 3,
	HOSTS_MAX = 32767,
	WAY_FRESH_MS = 100, /* so long an envelope may go the way that the stack's last one went */
	/* Source ports of envelopes, RFC 7348 5. */
	SOURCE_PORT_MIN = 49152,
	SOURCE_PORT_MAX = 65535,
	GROUP_HOSTS = 0x8000, /* from here on the numbers of vteps are those of multicast groups */
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
	/* Quality of service. */
	__u32 shaper; /* ifindex through which what it sends goes; 0: it is not shaped */
	__u32 from_vm_packet_ns; /* a packet each so many ns, 0: no limit */
	__u32 to_vm_packet_ns;
	__u32 packet_burst; /* packets in a row beyond that rate */
	__u32 connections_max; /* 0: its fair share of the flow table alone */
	__u32 elsewhere; /* number of the host where its VM runs: PORT_STANDBY, PORT_AWAY */
	__u8 dscp; /* 0 to 63, RFC 2474 */
	__u8 group_count; /* 0: nothing is allowed, unless PORT_OPEN */
	__u8 pad[2];
	__u32 groups[GROUPS_MAX]; /* numbers of its security groups */
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

/* ---- who is behind open ports. */

struct open_endpoint { /* begins like an endpoint */
	__u32 kind;
	__u32 target;
	__u64 heard_at; /* ns of the monotonic clock */
};

struct open_neighbor { /* begins like a neighbor */
	__u32 kind;
	__u32 target;
	__u8 mac[MAC_BYTES];
	__u8 pad[2];
	__u64 heard_at;
};

/* ---- what each port, or each other host, has had learned, in the order in which it
 * makes room. */

enum learned_kind {
	LEARNED_OPEN_MAC, /* open_macs */
	LEARNED_OPEN_ADDRESS, /* open_addresses */
	LEARNED_MAC, /* learned_macs, of other hosts alone: a port's are known by its pairs */
	LEARNED_ADDRESS, /* learned_addresses */
	LEARNED_KIND_COUNT,
};

struct learned_slot_key {
	__u32 owner; /* ifindex, or TUNNEL_ZONE | number of the host */
	__u16 slot;
	__u8 kind; /* enum learned_kind */
	__u8 pad;
};

struct learned_counts {
	__u32 taken[LEARNED_KIND_COUNT]; /* slots so far, by enum learned_kind */
};

/* ---- source_prefixes: what a port may send from besides its own MAC and
 * addresses: prefixes that are routed to it, and allowed address pairs. The
 * value is the IP version, since ::/0 matches IPv4-mapped addresses too; 0 takes
 * a part out of a shorter prefix. */

struct source_prefix_key {
	__u32 prefix_bits; /* 96 for ifindex and MAC + 0..128 */
	__u32 ifindex;
	__u8 mac[MAC_BYTES];
	__u8 pad[2];
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

/* ---- other hosts -------------------------------------------------------- */

struct this_host {
	__u32 number;
	__u32 tunnel_ifindex; /* of the VXLAN device; 0: no other host can be reached */
	__be16 udp_port_be; /* of envelopes */
	__u16 pad;
};

/* By underlay address: how the host's stack last sent an envelope there. */
struct seen_way {
	__u64 seen_at;
	__u32 ifindex;
	__u8 macs[2 * MAC_BYTES]; /* destination, source */
	__be16 udp_port_be;
	__u8 pad[6];
};

enum vtep_flag {
	VTEP_FOREIGN = 1, /* no heddle: knows no ENVELOPE_ bits */
};

/* By number of a host: where envelopes for it go. */
struct vtep {
	__u8 address[ADDRESS_BYTES]; /* its own, that of a relay, or a multicast group */
	__u8 source[ADDRESS_BYTES]; /* of this host; zero: the kernel chooses */
	__u32 relayed_to; /* the host's number when the address is a relay's, else 0 */
	__u16 mtu; /* largest IP packet in an envelope that passes; 0: any, not measured */
	__u8 ip_version; /* of the underlay */
	__u8 flags; /* enum vtep_flag */
};

/* Underlay address -> number of the host. Others may not send envelopes. */
struct tunnel_sender_key {
	__u8 address[ADDRESS_BYTES];
};

enum tunnel_network_flag {
	TUNNEL_LEARN = 1, /* has members of which only their frames tell: learn and flood */
};

/* By VNI: the networks that this host takes envelopes of. */
struct tunnel_network {
	__u32 first_port; /* ifindex of any port of the ring; 0: none is here */
	__u32 first_host; /* number of the first host to flood to; 0: none */
	__u16 mtu;
	__u16 flags; /* enum tunnel_network_flag */
};

/* The value is the next host to flood to; 0: that was the last. */
struct flood_host_key {
	__u32 network; /* VNI */
	__u32 host;
};

enum probe_kind {
	PROBE_REQUEST,
	PROBE_REPLY,
};

/* What follows the Ethernet header of a frame of PROBE_VNI; padding up to length
 * follows it. Unlike elsewhere on a wire, in the byte order of the hosts. */
struct probe {
	__u32 kind; /* enum probe_kind */
	__u32 host; /* number of its sender */
	__u32 sequence;
	__u32 length; /* bytes of the frame in the envelope */
	__u64 sent_at; /* ns of CLOCK_MONOTONIC of the host that asked */
};

/* ---- policy: security groups --------------------------------------------
 *
 * Rules only ever allow. A packet is allowed when some rule of some group of
 * the port matches. A rule's remote end is a prefix or a set of addresses (the
 * members of a security group, or an address group). So the question for one
 * group is a handful of exact lookups: for each prefix length that its rules
 * use, and each set that they name, is there a policy_remote for the peer? If
 * so, for each length of port prefix in use, is there a policy_rule?
 */

enum direction {
	FROM_VM,
	TO_VM,
};

struct policy_group_key {
	__u32 group; /* number of a security group */
	__u8 direction; /* enum direction */
	__u8 ip_version; /* 4 or 6 */
	__u8 pad[2];
};

enum policy_group_flag {
	POLICY_STATELESS = 1, /* replies are not allowed by themselves */
};

struct policy_group {
	__u32 flags; /* enum policy_group_flag */
	__u8 prefix_count;
	__u8 set_count;
	__u8 pad[2];
	/* Lengths in use, ascending; of IPv4-mapped addresses 96 more than of IPv4. */
	__u8 prefix_bits[POLICY_PREFIXES_MAX];
	__u32 sets[POLICY_SETS_MAX]; /* numbers in use, ascending */
};

/* Members of sets. For a security group an address counts in the network of
 * its port alone; an address group knows no network. */
struct set {
	__u8 in_network; /* 1: a security group */
	__u8 prefix_count4;
	__u8 prefix_count6;
	__u8 pad;
	__u8 prefix_bits4[POLICY_PREFIXES_MAX]; /* lengths in use, ascending, as in policy_group */
	__u8 prefix_bits6[POLICY_PREFIXES_MAX];
};

struct set_member_key {
	__u32 set;
	__u32 network; /* VNI, or 0 */
	__u8 ip_version;
	__u8 prefix_bits;
	__u8 pad[2];
	__u8 address[ADDRESS_BYTES]; /* host bits zero */
};

struct policy_remote_key {
	__u32 group;
	__u32 set; /* 0: the remote end is a prefix */
	__u8 direction;
	__u8 ip_version;
	__u8 prefix_bits; /* 0 with a set */
	__u8 pad;
	__u8 address[ADDRESS_BYTES]; /* host bits zero; all zero with a set */
};

/* Lengths of port prefixes in use, as bits 0 to 16, by what the rules say of
 * the protocol. Ports are those of the destination in the direction of the
 * rule; of ICMP the type is the upper and the code the lower byte. */
struct policy_remote {
	__u32 any_protocol; /* bit 0 or nothing */
	__u32 tcp;
	__u32 udp;
	__u32 icmp; /* ICMP, or ICMPv6 with IPv6 */
	__u32 other; /* all others, those with ports as well (SCTP, DCCP, UDP-Lite) */
};

struct policy_rule_key {
	__u32 group; /* up to address as in policy_remote_key */
	__u32 set;
	__u8 direction;
	__u8 ip_version;
	__u8 prefix_bits;
	__u8 port_bits; /* length of the port prefix, 0 to 16 */
	__u8 address[ADDRESS_BYTES];
	__u16 protocol; /* IP protocol number, or PROTOCOL_ANY */
	__u16 port; /* host order, lower bits zero */
};

/* The value of a policy_rule is the number of the rule. */

/* ---- flows: what was decided about a packet, and its connection ---------- */

enum fragment_kind {
	FRAGMENT_NONE,
	FRAGMENT_FIRST, /* has the ports */
	FRAGMENT_LATER,
};

struct flow_key {
	__u32 ifindex; /* of the port it came from, or TUNNEL_ZONE | VNI */
	__u16 source_port_be; /* ICMP echo: identifier */
	__u16 destination_port_be; /* ICMP: type and code */
	__u8 l4_protocol;
	__u8 pad[3];
	__u8 source[ADDRESS_BYTES];
	__u8 destination[ADDRESS_BYTES];
};

enum flow_flag {
	FLOW_PEER = 1, /* bpf_redirect_peer */
	FLOW_SETTLED = 2, /* packets without SYN, FIN and RST need no look at the connection */
	FLOW_ALONE = 4, /* each packet is decided about: an end is paced, or may move */
	FLOW_DSCP = 8,
};

enum flow_role {
	FLOW_OPENER, /* the direction of the first packet; its entry holds the connection */
	FLOW_REPLY,
	FLOW_UNTRACKED, /* port security is off, or all that allows it is stateless */
};

enum connection_flag {
	CONNECTION_REPLIED = 1,
	CONNECTION_REPLY_CLOSED_FIRST = 2, /* the first FIN came from the other side */
	CONNECTION_STATELESS_FROM = 4, /* at that end, replies need a rule of their own */
	CONNECTION_STATELESS_TO = 8,
};

/* States of TCP (RFC 9293 3.3.2) as an observer in the middle sees them. */
enum connection_state {
	CONNECTION_NEW, /* not TCP, no reply yet */
	CONNECTION_ASSURED, /* not TCP, replied */
	CONNECTION_SYN_SENT,
	CONNECTION_SYN_RECEIVED,
	CONNECTION_ESTABLISHED,
	CONNECTION_FIN_WAIT, /* one side has sent FIN */
	CONNECTION_CLOSE_WAIT, /* ... and the other acknowledged it */
	CONNECTION_LAST_ACK, /* both have sent FIN */
	CONNECTION_TIME_WAIT,
	CONNECTION_CLOSED, /* RST */
	CONNECTION_STATE_COUNT,
};

struct flow {
	/* What a hit reads. */
	__u8 received_macs[2 * MAC_BYTES]; /* destination, source: as in the frame */
	__u8 sent_macs[2 * MAC_BYTES];
	__u32 ifindex; /* deliver to, or TUNNEL_ZONE | VNI; 0: not decided yet */
	__u32 epoch;
	__u32 from_slot; /* counter slots of both ends; from the tunnel both the receiver's */
	__u32 to_slot;
	__u32 shaper; /* ifindex to send it through, 0: none */
	__u32 tunnel; /* ifindex of the VXLAN device, 0: to a port of this host */
	__u32 host; /* number of the other host that it goes to or comes from */
	__u32 to_network; /* VNI in which it is sent there */
	__u16 epoch_slot;
	__u16 mtu;
	__u16 flags; /* enum flow_flag */
	__u8 hops; /* routers passed, so much is taken off the TTL; 0: switched */
	__u8 dscp;
	/* What a hit writes. */
	__u64 used_at; /* ns of CLOCK_MONOTONIC, some ms coarse */
	__u64 packets;
	__u64 bytes;
	/* The connection. A reply's entry knows its role and the other end alone. */
	__u32 other_ifindex; /* of the entry of the other direction, or TUNNEL_ZONE | VNI */
	__u32 policy_epoch; /* under which the rules were looked up */
	__u8 role; /* enum flow_role */
	__u8 state; /* enum connection_state */
	__u8 connection_flags; /* enum connection_flag */
	__u8 pad[5];
	__u32 from_rule; /* numbers of the rules that allow it at both ends; 0: */
	__u32 to_rule; /* none was needed */
	__u64 opened_at; /* ns */
	__u64 alarm_at; /* ns, when the timer fires */
	struct bpf_timer timer;
};

/* ---- connection records: connections on their way to another host ---------
 *
 * What follows an Ethernet header in a run of the program adopt_connections. On
 * the wire between hosts numbers of ends stand where ifindexes are, and ages
 * where times are (heddle/datapath/moving.py).
 */

struct connection_record {
	struct flow_key opener;
	__u32 other_ifindex; /* of the other end */
	__u32 from_rule; /* as in struct flow */
	__u32 to_rule;
	__u8 role; /* enum flow_role, not FLOW_REPLY */
	__u8 state; /* enum connection_state */
	__u8 connection_flags; /* enum connection_flag */
	__u8 has_ended; /* 1: forget it */
	__u8 is_awaited_no_more; /* 1: from now on its own packets keep it */
	__u8 pad[3];
	__u64 opened_at; /* ns of CLOCK_MONOTONIC */
	__u64 used_at; /* may lie ahead: it is in use where its packets are seen as yet */
	__u64 packets;
	__u64 bytes;
	__u64 reply_packets;
	__u64 reply_bytes;
};

/* ---- fragments: the ports that a first fragment had ----------------------- */

struct fragment_key {
	__u32 ifindex;
	__u32 identification;
	__u8 source[ADDRESS_BYTES];
	__u8 destination[ADDRESS_BYTES];
	__u8 l4_protocol; /* 0 in IPv6, where only the first one tells (RFC 8200 4.5) */
	__u8 pad[3];
};

struct fragment {
	__u64 seen_at; /* ns */
	__u16 source_port_be;
	__u16 destination_port_be;
	__u8 l4_protocol;
	__u8 pad[3];
};

/* ---- usage: of the flow table, by counter slot of the port that opened ---- */

struct port_usage {
	__u64 connections;
	__u32 ifindex; /* whose they are: a slot may have had another port before */
	__u32 pad;
};

/* ---- counters ---------------------------------------------------------- */

struct port_counters {
	__u64 from_vm_packets;
	__u64 from_vm_bytes;
	__u64 to_vm_packets;
	__u64 to_vm_bytes;
};

struct drop_key {
	__u32 ifindex; /* of the port whose rules or limits it broke, mostly the sender */
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

/* What routers send on behalf of machines behind a foreign host: no port pays for it. */
enum foreign_expense {
	FOREIGN_ERRORS,
	FOREIGN_QUESTIONS, /* for neighbors */
};

struct foreign_budget_key {
	__u32 host;
	__u32 expense; /* enum foreign_expense */
};

/* By address: when routers of this host last asked foreign hosts for it. */
struct asked_neighbor {
	__u64 asked_at; /* ns */
	__u32 questions; /* in a row, without an answer */
	__u32 pad;
};

/* Virtual time up to which a rate is used up (GCRA, ITU-T I.371), in ns. */
struct pace {
	__u64 from_vm;
	__u64 to_vm;
	__u64 flood;
};

/* ---- facts ------------------------------------------------------------- */

enum event_kind {
	EVENT_DROP = 1,
	EVENT_PROBE, /* a probe was answered */
	EVENT_ACTIVE, /* first frame of a port with PORT_STANDBY */
};

struct drop_event {
	__u32 kind; /* enum event_kind */
	__u32 reason; /* enum drop_reason */
	__u32 ifindex; /* of the port in drop_key */
	__u32 from_ifindex; /* of the device the packet came from */
	__u32 length; /* bytes of the frame */
	__u32 network; /* VNI in the envelope, when it came from the tunnel */
	__u64 time; /* ns of CLOCK_MONOTONIC */
	__u32 captured; /* bytes of frame[] in use */
	__u32 stage; /* enum stage */
	__u8 vtep[ADDRESS_BYTES]; /* that sent the envelope; zero: it is no other host's */
	__u8 frame[EVENT_CAPTURE_BYTES];
};

struct probe_event {
	__u32 kind; /* enum event_kind */
	__u32 host; /* these four are what the reply says */
	__u32 sequence;
	__u32 length;
	__u64 sent_at;
	__u64 time; /* ns of CLOCK_MONOTONIC, when the reply came */
	__u8 vtep[ADDRESS_BYTES]; /* whence */
};

struct active_event {
	__u32 kind; /* enum event_kind */
	__u32 ifindex;
	__u64 time; /* ns of CLOCK_MONOTONIC */
};

/* What a traced packet met, one slot per trace (mark & (TRACE_SLOTS - 1)). */
struct trace_record {
	__u32 decisions[STAGE_COUNT]; /* enum decision */
	__u32 drop_reason;
	__u32 to_ifindex; /* 0: nowhere, or to many; TUNNEL_ZONE | VNI: to_host */
	__u32 to_host; /* number of another host that would get it, 0: none */
	__u32 copies; /* ports that would get a copy of a flooded frame */
	__u32 host_copies; /* and other hosts */
	__u32 router; /* number, when routed */
	__u32 to_network; /* VNI in which it was delivered */
	__u32 cached_ifindex; /* what the flow table holds for it; 0: nothing valid */
	__u32 route_bits; /* prefix length in the address family of the packet */
	__u32 hops; /* routers passed */
	__u32 blamed_ifindex; /* of the port in drop_key */
	__u32 from_rule; /* as in struct flow */
	__u32 to_rule;
	__u32 connection_state; /* 1 + enum connection_state before the packet; 0: no connection */
	__u8 via[ADDRESS_BYTES]; /* next hop of a static route */
};
