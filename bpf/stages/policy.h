/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy -> deliver | flood | serve | drop
 *
 * Security groups and connections. What opens a connection needs a rule of the
 * sender's groups and one of the receiver's; what belongs to one needs none
 * until the policy changes. Comes after switch and route, since the networks of
 * both ends are a part of the question, and before anything is answered.
 */
#pragma once

#include "stages/connection.h"
#include "stages/rules.h"
#include "stages/switch.h"

/* What Neutron lets pass without a rule: a port could not work without. */
static __always_inline bool needs_no_rule(const struct packet *packet)
{
	if (packet->ethertype_be == BE16_ARP || is_nd(packet) || is_dhcp4_request(packet) ||
	    is_dhcp6_request(packet))
		return true;
	return is_ipv6(packet) && packet->key.l4_protocol == IPPROTO_ICMPV6 &&
	       packet->fragment != FRAGMENT_LATER &&
	       (packet->icmp_type == MLD_QUERY || packet->icmp_type == MLD_REPORT ||
		packet->icmp_type == MLD_DONE || packet->icmp_type == MLD2_REPORT);
}

/* ICMP errors are about a packet that they quote. */
static __always_inline bool is_icmp_error(const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_LATER || !is_icmp(packet))
		return false;
	if (is_ipv6(packet))
		return packet->icmp_type >= ICMP6_UNREACHABLE &&
		       packet->icmp_type <= ICMP6_PARAMETER_PROBLEM;
	return packet->icmp_type == ICMP_DEST_UNREACH || packet->icmp_type == ICMP_REDIRECT ||
	       packet->icmp_type == ICMP_TIME_EXCEEDED ||
	       packet->icmp_type == ICMP_PARAMETER_PROBLEM;
}

/* Bytes of the packet; what follows it in the frame is none of its own. */
static __always_inline bool load_inside(struct __sk_buff *skb, const struct packet *packet,
					__u32 offset, void *to, __u32 bytes)
{
	return offset + bytes <= ETHERNET_BYTES + packet->l3_bytes &&
	       !bpf_skb_load_bytes(skb, offset, to, bytes);
}

static __always_inline bool load_quoted4(struct __sk_buff *skb, const struct packet *packet,
					 __u32 offset, struct flow_key *key, __u32 *l4_offset)
{
	struct iphdr ip;

	if (!load_inside(skb, packet, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    bpf_ntohs(ip.frag_off) & IPV4_FRAGMENT_OFFSET)
		return false;
	key->l4_protocol = ip.protocol;
	map_ipv4(key->source, ip.daddr);
	map_ipv4(key->destination, ip.saddr);
	*l4_offset = offset + ip.ihl * 4;
	return true;
}

static __always_inline bool load_quoted6(struct __sk_buff *skb, const struct packet *packet,
					 __u32 offset, struct flow_key *key, __u32 *l4_offset)
{
	struct ipv6hdr ip;

	if (!load_inside(skb, packet, offset, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	key->l4_protocol = ip.nexthdr;
	copy_address(key->source, &ip.daddr);
	copy_address(key->destination, &ip.saddr);
	*l4_offset = offset + sizeof(ip);
	return true;
}

static __always_inline bool is_echo_kind(const struct packet *packet, __be16 type_and_code_be)
{
	__u16 kind = bpf_ntohs(type_and_code_be);

	return is_ipv4(packet) ? kind == ICMP_ECHO << 8 || kind == ICMP_ECHOREPLY << 8 :
				 kind == ICMP6_ECHO_REQUEST << 8 || kind == ICMP6_ECHO_REPLY << 8;
}

/* Take the key in hand that a reply to the quoted packet has. False unless the
 * error goes to the sender of that packet. */
__noinline int load_quoted(struct __sk_buff *skb, struct packet *packet)
{
	struct flow_key key = {};
	__be16 ports[4] = {};
	__u32 offset, l4 = 0;

	if (!packet)
		return false;
	offset = packet->l4_offset + sizeof(struct icmp_header);
	if (!(is_ipv4(packet) ? load_quoted4(skb, packet, offset, &key, &l4) :
				load_quoted6(skb, packet, offset, &key, &l4)))
		return false;
	if (!same_address(key.destination, packet->key.destination))
		return false;
	key.ifindex = packet->key.ifindex;
	switch (key.l4_protocol) {
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: /* type and code, checksum, identifier */
		if (key.l4_protocol != packet->key.l4_protocol)
			break;
		if (!load_inside(skb, packet, l4, ports, sizeof(ports)) ||
		    !is_echo_kind(packet, ports[0]))
			return false;
		key.source_port_be = ports[2];
		key.destination_port_be = echo_counterpart(ports[0]);
		break;
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		if (!load_inside(skb, packet, l4, ports, sizeof(ports)))
			return false;
		key.source_port_be = ports[1];
		key.destination_port_be = ports[0];
	}
	packet->own = packet->key;
	packet->key = key;
	return true;
}

/* ---- rules of one end ------------------------------------------------------ */

/* Ask on behalf of one end. is_turned: about the direction in which the
 * connection was opened, while the packet in hand goes the other way. */
static __always_inline struct question *ask_for(const struct packet *packet, __u32 ifindex,
						enum direction direction, bool is_turned)
{
	struct question *ask = question();
	bool peer_is_source = (direction == TO_VM) != is_turned;
	struct flow_key reverse;

	if (!ask)
		return NULL;
	ask->ifindex = ifindex;
	ask->direction = direction;
	ask->ip_version = is_ipv4(packet) ? 4 : 6;
	ask->peer_network = peer_is_source ? packet->network : packet->to_network;
	copy_address(ask->peer, peer_is_source ? packet->key.source : packet->key.destination);
	ask->protocol = packet->key.l4_protocol;
	reverse_key(&reverse, &packet->key, 0);
	ask->port = bpf_ntohs(is_turned ? reverse.destination_port_be :
					  packet->key.destination_port_be);
	return ask;
}

/* What the rules of one end say: minus a drop reason, or whether the one that
 * allows it is stateless. Leaves its number in the packet. */
static __always_inline int judge_end(struct packet *packet, __u32 ifindex, enum direction direction,
				     bool is_turned)
{
	struct question *ask = ask_for(packet, ifindex, direction, is_turned);
	__u32 rule = ask ? find_rule(ask) : RULE_NONE;

	if (direction == FROM_VM)
		packet->from_rule = rule;
	else
		packet->to_rule = rule;
	packet->blamed_ifindex = rule ? 0 : ifindex;
	if (!ask || !rule)
		return direction == FROM_VM ? -DROP_POLICY_FROM_VM : -DROP_POLICY_TO_VM;
	return ask->is_stateless;
}

/* The sender's own rules, about this packet alone. */
__noinline int may_leave(struct packet *packet)
{
	return packet && judge_end(packet, packet->key.ifindex, FROM_VM, false) >= 0;
}

/* A receiver's own rules, about this packet alone. */
__noinline int may_enter(struct packet *packet, __u32 ifindex)
{
	return packet && judge_end(packet, ifindex, TO_VM, false) >= 0;
}

static __always_inline int refuse_sender(struct packet *packet)
{
	packet->icmp_error_type = 0;
	return drop(packet, STAGE_POLICY, DROP_POLICY_FROM_VM);
}

static __always_inline int refuse_receiver(struct packet *packet, __u32 ifindex)
{
	packet->blamed_ifindex = ifindex;
	return drop(packet, STAGE_POLICY, DROP_POLICY_TO_VM);
}

static __always_inline int allow(struct packet *packet, enum decision decision, int outcome)
{
	bool is_open = packet->from_rule == RULE_OPEN && packet->to_rule == RULE_OPEN;

	return decide_stage(packet, STAGE_POLICY,
			    decision == DECISION_POLICY_ALLOWED && is_open ? DECISION_POLICY_OPEN :
									     decision,
			    outcome);
}

/* ---- connections ----------------------------------------------------------- */

#define STATELESS_BOTH (CONNECTION_STATELESS_FROM | CONNECTION_STATELESS_TO)

/* Which ends are stateless, as bits, or minus a drop reason. */
__noinline int judge_opening(struct packet *packet, __u32 from, __u32 to, int is_reply)
{
	int at_from, at_to;

	if (!packet)
		return -DROP_INTERNAL;
	at_from = judge_end(packet, from, FROM_VM, is_reply);
	if (at_from < 0)
		return at_from;
	at_to = judge_end(packet, to, TO_VM, is_reply);
	if (at_to < 0)
		return at_to;
	return (at_from ? CONNECTION_STATELESS_FROM : 0) | (at_to ? CONNECTION_STATELESS_TO : 0);
}

/* Make an entry in place of whatever is in the way. */
static __always_inline int put_entry(struct flow_key *key, struct flow_key *room,
				     const struct flow *entry)
{
	struct flow *old = bpf_map_lookup_elem(&flows, key);

	if (old) {
		reverse_key(room, key, old->other_ifindex);
		if (old->role == FLOW_REPLY)
			end_connection(room, key);
		else
			end_connection(key, room);
	}
	return bpf_map_update_elem(&flows, key, entry, BPF_NOEXIST);
}

/* The opener's entry, with the timer that will end the connection. */
static __always_inline int put_opener(struct packet *packet, struct flow *fresh)
{
	struct flow *connection;
	__u64 ns;

	if (put_entry(&packet->key, &packet->other, fresh))
		return -1;
	count_opened(packet->key.ifindex, fresh->from_slot);
	connection = bpf_map_lookup_elem(&flows, &packet->key);
	if (!connection)
		return -1;
	bpf_timer_init(&connection->timer, &flows, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&connection->timer, on_alarm);
	ns = adapted(timeout_of(connection, packet->key.l4_protocol), connection,
		     packet->key.ifindex);
	set_alarm(connection, fresh->opened_at, ns < FIRST_ALARM_NS ? ns : FIRST_ALARM_NS);
	return 0;
}

/* Make the entries of both directions, the opener's first. Returns 0, or not
 * when the table is full. */
__noinline int open_connection(int stateless)
{
	bool is_tracked = stateless != STATELESS_BOTH;
	struct packet *packet = packet_in_hand();
	struct scratch *space = scratch();
	struct flow *fresh;
	struct port *from;

	if (!packet || !space)
		return -1;
	from = find_port(packet->key.ifindex);
	if (!from)
		return -1;
	fresh = (struct flow *)space->bytes;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->role = is_tracked ? FLOW_OPENER : FLOW_UNTRACKED;
	fresh->from_slot = from->counter_slot;
	fresh->other_ifindex = packet->to_ifindex;
	fresh->connection_flags = stateless;
	fresh->state = is_tracked ? first_state(packet) : CONNECTION_NEW;
	fresh->policy_epoch = packet->epoch;
	fresh->from_rule = packet->from_rule;
	fresh->to_rule = packet->to_rule;
	fresh->opened_at = fresh->used_at = bpf_ktime_get_ns();
	packet->settled = is_settled(fresh->state);
	if (put_opener(packet, fresh))
		return -1;
	if (!is_tracked)
		return 0;
	fresh->role = FLOW_REPLY;
	fresh->other_ifindex = packet->key.ifindex;
	reverse_key(&packet->other, &packet->key, packet->to_ifindex);
	if (!put_entry(&packet->other, &packet->opener, fresh))
		return 0;
	end_connection(&packet->key, &packet->other);
	return -1;
}

/* A packet without a connection, or with one that has just ended. A traced one
 * ends none (makes_room). */
static __always_inline int judge_first(struct packet *packet, bool makes_room)
{
	int stateless = judge_opening(packet, packet->key.ifindex, packet->to_ifindex, false);

	if (stateless < 0)
		return drop(packet, STAGE_POLICY, -stateless);
	if (is_icmp_error(packet) || !may_open(packet)) {
		if (stateless != STATELESS_BOTH)
			return drop(packet, STAGE_POLICY, DROP_CONNECTION_INVALID);
	}
	if (!packet->trackable)
		return allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
	if (!makes_room && !may_have_another(packet->key.ifindex)) {
		if (stateless != STATELESS_BOTH)
			return drop(packet, STAGE_POLICY, DROP_CONNECTION_LIMIT);
	} else if (packet->trace) {
		return allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
	} else if (open_connection(stateless) && stateless != STATELESS_BOTH) {
		return drop(packet, STAGE_POLICY, DROP_FLOW_TABLE_FULL);
	}
	return allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
}

/* The connection of a packet, NULL if there is none. Leaves both keys in the
 * packet: that of its opener, and that of the other direction. */
static __always_inline struct flow *find_connection(struct packet *packet)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &packet->key), *connection;

	if (!flow)
		return NULL;
	reverse_key(&packet->other, &packet->key, flow->other_ifindex);
	packet->is_reply = flow->role == FLOW_REPLY;
	if (!packet->is_reply) {
		packet->opener = packet->key;
		return flow;
	}
	packet->opener = packet->other;
	connection = bpf_map_lookup_elem(&flows, &packet->opener);
	return connection && connection->role == FLOW_OPENER ? connection : NULL;
}

static __always_inline void forget(struct packet *packet)
{
	if (packet->trace)
		return;
	if (packet->is_reply)
		end_connection(&packet->other, &packet->key);
	else
		end_connection(&packet->key, &packet->other);
}

/* Is it this connection still? Its other end may have moved to another port,
 * and a SYN after the end begins another one (RFC 9293 3.6.1). */
static __always_inline bool is_current(const struct flow *connection, const struct packet *packet)
{
	__u32 opener = packet->opener.ifindex, other = connection->other_ifindex;

	if (packet->key.ifindex != (packet->is_reply ? other : opener) ||
	    packet->to_ifindex != (packet->is_reply ? opener : other))
		return false;
	if (packet->key.l4_protocol != IPPROTO_TCP || connection->role == FLOW_UNTRACKED)
		return true;
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN ||
	       (connection->state != CONNECTION_TIME_WAIT && connection->state != CONNECTION_CLOSED);
}

/* The policy has changed: would the connection still be opened? */
static __always_inline int judge_again(struct packet *packet, struct flow *connection, __u32 epoch)
{
	int stateless = judge_opening(packet, packet->opener.ifindex, connection->other_ifindex,
				      packet->is_reply);

	if (stateless < 0 || packet->trace)
		return stateless;
	connection->from_rule = packet->from_rule;
	connection->to_rule = packet->to_rule;
	connection->connection_flags =
		(connection->connection_flags & ~STATELESS_BOTH) | stateless;
	connection->policy_epoch = epoch;
	return stateless;
}

/* Ends without state look at replies as at any packet. */
static __always_inline int judge_reply(struct packet *packet, int stateless,
				       enum decision decision)
{
	if (stateless & CONNECTION_STATELESS_TO && !may_leave(packet))
		return refuse_sender(packet);
	if (stateless & CONNECTION_STATELESS_FROM && !may_enter(packet, packet->to_ifindex))
		return refuse_receiver(packet, packet->to_ifindex);
	return allow(packet, decision, OUTCOME_PORT);
}

/* Take the packet into account. Both directions come here until the connection
 * has settled. */
static __always_inline void note(struct packet *packet, struct flow *connection)
{
	__u8 before = connection->state;
	struct flow *other;

	if (connection->role == FLOW_OPENER)
		advance(connection, packet, packet->is_reply);
	packet->settled = is_settled(connection->state);
	if (connection->state == before)
		return;
	hasten(connection, &packet->opener);
	if (packet->settled)
		return;
	other = bpf_map_lookup_elem(&flows, &packet->other);
	if (other)
		other->flags &= ~FLOW_SETTLED;
}

/* What to do with the packet is known, and its connection is opening or closing:
 * is there more to say than its state? */
__noinline int track(void)
{
	struct packet *packet = packet_in_hand();
	struct flow *flow, *connection;

	if (!packet)
		return false;
	flow = bpf_map_lookup_elem(&flows, &packet->key);
	connection = flow ? find_connection(packet) : NULL;
	if (!connection || connection->role != FLOW_OPENER ||
	    connection->policy_epoch != current_epoch(connection->epoch_slot))
		return false;
	packet->to_ifindex = flow->ifindex;
	if (!is_current(connection, packet))
		return false;
	note(packet, connection);
	if (packet->settled)
		flow->flags |= FLOW_SETTLED;
	else
		flow->flags &= ~FLOW_SETTLED;
	return true;
}

__noinline int judge_tracked(void)
{
	struct packet *packet = packet_in_hand();
	struct flow *connection;
	int stateless, outcome;
	__u32 epoch;

	if (!packet)
		return OUTCOME_DROP;
	connection = find_connection(packet);
	if (!connection)
		return judge_first(packet, false);
	epoch = packet->is_reply ? current_epoch(packet->to_network % EPOCH_SLOTS) : packet->epoch;
	if (!is_current(connection, packet) ||
	    (connection->role == FLOW_UNTRACKED && connection->policy_epoch != epoch)) {
		forget(packet);
		return judge_first(packet, packet->trace && !packet->is_reply);
	}
	packet->connection_state = 1 + connection->state;
	stateless = connection->connection_flags & STATELESS_BOTH;
	packet->from_rule = connection->from_rule;
	packet->to_rule = connection->to_rule;
	if (connection->policy_epoch != epoch)
		stateless = judge_again(packet, connection, epoch);
	if (stateless < 0) {
		forget(packet);
		return drop(packet, STAGE_POLICY, -stateless);
	}
	outcome = packet->is_reply ? judge_reply(packet, stateless, DECISION_POLICY_REPLY) :
				     allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
	if (outcome == OUTCOME_PORT && !packet->trace)
		note(packet, connection);
	return outcome;
}

/* ---- ICMP errors --------------------------------------------------------------- */

/* With the key of a reply to the quoted packet in hand: which ends of its
 * connection are stateless, as that reply sees them, or -1 without one. */
static __always_inline int judge_quoted(struct packet *packet)
{
	struct flow *connection = find_connection(packet);
	int stateless;
	__u32 epoch;

	if (!connection || connection->role != FLOW_OPENER || !is_current(connection, packet))
		return -1;
	epoch = packet->is_reply ? current_epoch(packet->to_network % EPOCH_SLOTS) : packet->epoch;
	stateless = connection->connection_flags & STATELESS_BOTH;
	packet->from_rule = connection->from_rule;
	packet->to_rule = connection->to_rule;
	if (connection->policy_epoch != epoch)
		stateless = judge_again(packet, connection, epoch);
	if (stateless < 0) {
		forget(packet);
		return -1;
	}
	if (packet->is_reply || stateless == STATELESS_BOTH)
		return stateless;
	return stateless ^ (stateless ? STATELESS_BOTH : 0);
}

/* An error about a packet of a connection that was sent to this port passes as
 * a reply does. Returns -1 when it is about nothing known. */
__noinline int judge_related(struct __sk_buff *skb)
{
	struct packet *packet = packet_in_hand();
	int stateless;

	if (!packet || !load_quoted(skb, packet))
		return -1;
	stateless = judge_quoted(packet);
	packet->key = packet->own;
	return stateless < 0 ? -1 : judge_reply(packet, stateless, DECISION_POLICY_RELATED);
}

/* ---- the stage --------------------------------------------------------------- */

__noinline int is_known(void)
{
	struct packet *packet = packet_in_hand();

	return packet && packet->trackable && bpf_map_lookup_elem(&flows, &packet->key);
}

/* What stays with heddle, or goes to many: the sender's rules alone. Who may
 * reply but not open must learn as well that a packet was too big. */
static __always_inline int judge_sender(struct packet *packet, int outcome)
{
	if (outcome == OUTCOME_DROP && is_known())
		return outcome;
	if (!may_leave(packet))
		return refuse_sender(packet);
	if (outcome == OUTCOME_DROP) /* the sender may be told why */
		return outcome;
	packet->to_rule = RULE_OPEN;
	return allow(packet, DECISION_POLICY_ALLOWED, outcome);
}

static __always_inline bool is_orphan(const struct packet *packet)
{
	return packet->fragment == FRAGMENT_LATER && !packet->trackable;
}

static __always_inline bool is_open(__u32 ifindex)
{
	struct port *port = find_port(ifindex);

	return port && port->flags & PORT_OPEN;
}

__noinline int stage_policy(struct __sk_buff *skb, struct packet *packet, int outcome)
{
	if (!packet)
		return OUTCOME_DROP;
	if (outcome == OUTCOME_CONSUMED || outcome == OUTCOME_ANSWER ||
	    (outcome == OUTCOME_DROP && !packet->icmp_error_type))
		return outcome;
	if (needs_no_rule(packet)) {
		if (outcome == OUTCOME_DROP)
			return outcome;
		return decide_stage(packet, STAGE_POLICY, DECISION_PASS, outcome);
	}
	if (outcome != OUTCOME_PORT)
		return judge_sender(packet, outcome);
	if (is_orphan(packet)) {
		if (!is_open(packet->key.ifindex) || !is_open(packet->to_ifindex))
			return drop(packet, STAGE_POLICY, DROP_FRAGMENT_ORPHAN);
		return decide_stage(packet, STAGE_POLICY, DECISION_POLICY_OPEN, outcome);
	}
	if (is_icmp_error(packet)) {
		int related = judge_related(skb);

		if (related >= 0)
			return related;
	}
	return judge_tracked();
}
