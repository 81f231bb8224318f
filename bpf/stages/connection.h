/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections: what two directions of a flow have in common. The entry of the
 * direction that began holds it; the entry of the other one says where that
 * is. A BPF timer ends it when nothing was heard for the timeout of its state,
 * with or without an agent.
 */
#pragma once

#include "stages/parse.h"

#define SECONDS 1000000000ull
#define CLOCK_MONOTONIC 1
/* How often to look at a connection at least: its ports may be gone. */
#define ALARM_MAX_NS (300 * SECONDS)
#define ALARM_MIN_NS 10000000ull
/* What a timeout shrinks to when a port has used up its limit. */
#define TIMEOUT_MIN_NS (1 * SECONDS)
/* The first look comes soon, so that shorter timeouts of later states seldom
 * need the timer to be set anew. */
#define FIRST_ALARM_NS (30 * SECONDS)

/* The defaults of Linux' conntrack (net.netfilter.nf_conntrack_*_timeout). */
static const __u32 timeout_seconds[CONNECTION_STATE_COUNT] = {
	[CONNECTION_SYN_SENT] = 120,
	[CONNECTION_SYN_RECEIVED] = 60,
	[CONNECTION_ESTABLISHED] = 432000,
	[CONNECTION_FIN_WAIT] = 120,
	[CONNECTION_CLOSE_WAIT] = 60,
	[CONNECTION_LAST_ACK] = 30,
	[CONNECTION_TIME_WAIT] = 120,
	[CONNECTION_CLOSED] = 10,
};
/* Picked up in its midst, and not answered yet (nf_conntrack_tcp_timeout_unacknowledged). */
#define TCP_UNREPLIED_SECONDS 300
#define UDP_SECONDS 30
#define UDP_REPLIED_SECONDS 120
#define ICMP_SECONDS 30
#define OTHER_SECONDS 600

/* ---- states ------------------------------------------------------------- */

/* RFC 9293 3.3.2, as seen from between the ends. Windows are not checked, so
 * an ACK after a FIN is taken to acknowledge it. */
static __always_inline __u8 next_tcp_state(const struct flow *connection, bool is_reply, __u8 flags)
{
	bool first_closed = !!(connection->connection_flags & CONNECTION_REPLY_CLOSED_FIRST);
	bool from_closer = is_reply == first_closed;
	__u8 state = connection->state;

	if (flags & TCP_RST)
		return CONNECTION_CLOSED;
	if (flags & TCP_SYN)
		return state == CONNECTION_SYN_SENT && is_reply ? CONNECTION_SYN_RECEIVED : state;
	switch (state) {
	case CONNECTION_SYN_RECEIVED:
	case CONNECTION_ESTABLISHED:
		if (flags & TCP_FIN)
			return CONNECTION_FIN_WAIT;
		return flags & TCP_ACK && !is_reply ? CONNECTION_ESTABLISHED : state;
	case CONNECTION_FIN_WAIT:
	case CONNECTION_CLOSE_WAIT:
		if (from_closer)
			return state;
		if (flags & TCP_FIN)
			return CONNECTION_LAST_ACK;
		return flags & TCP_ACK ? CONNECTION_CLOSE_WAIT : state;
	case CONNECTION_LAST_ACK:
		return flags & TCP_ACK && from_closer ? CONNECTION_TIME_WAIT : state;
	}
	return state;
}

static __always_inline void advance(struct flow *connection, const struct packet *packet,
				    bool is_reply)
{
	__u8 before = connection->state;

	if (is_reply)
		connection->connection_flags |= CONNECTION_REPLIED;
	if (packet->key.l4_protocol != IPPROTO_TCP || packet->fragment == FRAGMENT_LATER) {
		if (before == CONNECTION_NEW && is_reply)
			connection->state = CONNECTION_ASSURED;
		return;
	}
	connection->state = next_tcp_state(connection, is_reply, packet->tcp_flags);
	if (connection->state == CONNECTION_FIN_WAIT && before != CONNECTION_FIN_WAIT && is_reply)
		connection->connection_flags |= CONNECTION_REPLY_CLOSED_FIRST;
}

/* States in which a packet without SYN, FIN and RST changes nothing. */
static __always_inline bool is_settled(__u8 state)
{
	return state == CONNECTION_NEW || state == CONNECTION_ASSURED ||
	       state == CONNECTION_ESTABLISHED || state == CONNECTION_CLOSE_WAIT;
}

/* What may be the first packet of a connection. An ACK may: the connection can
 * be older than this table (as with Linux' nf_conntrack_tcp_loose). */
static __always_inline bool may_open(const struct packet *packet)
{
	switch (packet->key.l4_protocol) {
	case IPPROTO_TCP:
		if (packet->fragment == FRAGMENT_LATER)
			return true;
		if (packet->tcp_flags & (TCP_FIN | TCP_RST))
			return false;
		return !(packet->tcp_flags & TCP_SYN) != !(packet->tcp_flags & TCP_ACK);
	case IPPROTO_ICMP:
		return packet->icmp_type != ICMP_ECHOREPLY || !is_ipv4(packet);
	case IPPROTO_ICMPV6:
		return packet->icmp_type != ICMP6_ECHO_REPLY || !is_ipv6(packet);
	}
	return true;
}

static __always_inline __u8 first_state(const struct packet *packet)
{
	if (packet->key.l4_protocol != IPPROTO_TCP)
		return CONNECTION_NEW;
	return packet->tcp_flags & TCP_SYN ? CONNECTION_SYN_SENT : CONNECTION_ESTABLISHED;
}

/* ---- the two entries ------------------------------------------------------ */

static __always_inline __be16 echo_counterpart(__be16 type_and_code_be)
{
	switch (bpf_ntohs(type_and_code_be) >> 8) {
	case ICMP_ECHO:
		return bpf_htons(ICMP_ECHOREPLY << 8);
	case ICMP_ECHOREPLY:
		return bpf_htons(ICMP_ECHO << 8);
	case ICMP6_ECHO_REQUEST:
		return bpf_htons(ICMP6_ECHO_REPLY << 8);
	}
	return bpf_htons(ICMP6_ECHO_REQUEST << 8);
}

/* The key of the other direction, which comes from that device. */
static __always_inline void reverse_key(struct flow_key *reverse, const struct flow_key *key,
					__u32 ifindex)
{
	bool is_echo = key->l4_protocol ==
		       (is_mapped(key->source) ? IPPROTO_ICMP : IPPROTO_ICMPV6);

	__builtin_memset(reverse, 0, sizeof(*reverse));
	reverse->ifindex = ifindex;
	reverse->l4_protocol = key->l4_protocol;
	if (is_echo) {
		reverse->source_port_be = key->source_port_be;
		reverse->destination_port_be = echo_counterpart(key->destination_port_be);
	} else {
		reverse->source_port_be = key->destination_port_be;
		reverse->destination_port_be = key->source_port_be;
	}
	copy_address(reverse->source, key->destination);
	copy_address(reverse->destination, key->source);
}


/* ---- how many there are --------------------------------------------------- */

static __always_inline struct port_usage *all_usage(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&total_usage, &zero);
}

/* Of the port at this device, which has that slot now or had it. */
static __always_inline struct port_usage *usage_of(__u32 ifindex, __u32 slot)
{
	struct port_usage *found = bpf_map_lookup_elem(&usage, &slot);

	return found && found->ifindex == ifindex ? found : NULL;
}

static __always_inline __u64 connections_of(const struct port *port, __u32 ifindex)
{
	struct port_usage *own = usage_of(ifindex, port->counter_slot);

	return own ? own->connections : 0;
}

/* A port may have as many connections as are left free (a dynamic threshold,
 * Choudhury and Hahne 1998): one that takes all it can get leaves as much to
 * the others, two leave them a third, and what they don't use is not lost. */
static __always_inline __u64 connection_limit(const struct port *port, __u64 total)
{
	__u64 left = total < FLOWS_MAX / 2 ? FLOWS_MAX / 2 - total : 0;

	return port->connections_max && port->connections_max < left ? port->connections_max : left;
}

static __always_inline void count_opened(__u32 ifindex, __u32 slot)
{
	struct port_usage *own = bpf_map_lookup_elem(&usage, &slot), *all = all_usage();

	if (own && own->ifindex != ifindex) { /* the slot is this port's only now */
		own->connections = 0;
		own->ifindex = ifindex;
	}
	if (own)
		__sync_fetch_and_add(&own->connections, 1);
	if (all)
		__sync_fetch_and_add(&all->connections, 1);
}

static __always_inline void count_ended(__u32 ifindex, __u32 slot)
{
	struct port_usage *own = usage_of(ifindex, slot), *all = all_usage();

	if (own)
		__sync_fetch_and_add(&own->connections, -1);
	if (all)
		__sync_fetch_and_add(&all->connections, -1);
}

/* The port that a connection counts for: its opener, or who it was opened to from
 * another host. Its counter slot is the from_slot of the opener's entry. */
static __always_inline __u32 payer_of(__u32 opener, __u32 other)
{
	return is_zone(opener) ? other : opener;
}

static __always_inline bool may_have_another(__u32 ifindex)
{
	struct port *port = find_port(ifindex);
	struct port_usage *all = all_usage();

	return all && port && connections_of(port, ifindex) < connection_limit(port, all->connections);
}

/* ---- their end ------------------------------------------------------------ */

static __always_inline bool is_unreplied(const struct flow *connection)
{
	return connection->state == CONNECTION_ESTABLISHED &&
	       !(connection->connection_flags & CONNECTION_REPLIED);
}

static __always_inline __u64 timeout_of(const struct flow *connection, __u8 l4_protocol)
{
	__u32 state = connection->state;

	settle(state);
	if (is_unreplied(connection))
		return TCP_UNREPLIED_SECONDS * SECONDS;
	if (state < CONNECTION_STATE_COUNT && timeout_seconds[state])
		return timeout_seconds[state] * SECONDS;
	switch (l4_protocol) {
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return (state == CONNECTION_NEW ? UDP_SECONDS : UDP_REPLIED_SECONDS) * SECONDS;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return ICMP_SECONDS * SECONDS;
	}
	return OTHER_SECONDS * SECONDS;
}

/* The more of its limit a port has used up, the sooner its connections end that are
 * not established, as far as both ends have shown (pf.conf(5), adaptive timeouts). */
static __always_inline __u64 adapted(__u64 timeout, const struct flow *connection, __u32 ifindex)
{
	struct port *port = find_port(ifindex);
	struct port_usage *all = all_usage();
	__u64 limit, used;

	if (!all || !port ||
	    (connection->state == CONNECTION_ESTABLISHED && !is_unreplied(connection)))
		return timeout;
	limit = connection_limit(port, all->connections);
	used = connections_of(port, ifindex);
	if (used * 2 < limit)
		return timeout;
	if (used >= limit)
		return TIMEOUT_MIN_NS;
	return timeout / (limit / 2) * (limit - used) + TIMEOUT_MIN_NS;
}

/* Remove the reply's entry, if it belongs to that opener. */
static __always_inline void end_reply(const struct flow_key *opener, struct flow_key *other)
{
	struct flow *reply = bpf_map_lookup_elem(&flows, other);

	if (reply && reply->role == FLOW_REPLY && reply->other_ifindex == opener->ifindex)
		bpf_map_delete_elem(&flows, other);
}

/* Remove the opener's entry. Without a connection that of the other direction is
 * none of ours: it is counted for its own sender. */
static __always_inline void end_opener(struct flow_key *opener, const struct flow_key *other)
{
	struct flow *connection = bpf_map_lookup_elem(&flows, opener);
	__u32 slot;

	if (!connection || connection->role == FLOW_REPLY ||
	    connection->other_ifindex != other->ifindex)
		return;
	slot = connection->from_slot;
	if (!bpf_map_delete_elem(&flows, opener))
		count_ended(payer_of(opener->ifindex, other->ifindex), slot);
}

static __always_inline void end_connection(struct flow_key *opener, struct flow_key *other)
{
	end_reply(opener, other);
	end_opener(opener, other);
}

/* When nothing more is heard, the connection ends at this time. */
static __always_inline __u64 end_of(const struct flow_key *key, const struct flow *connection,
				    const struct flow *other)
{
	__u64 heard = connection->used_at;

	if (other && other->used_at > heard)
		heard = other->used_at;
	return heard + adapted(timeout_of(connection, key->l4_protocol), connection,
			       payer_of(key->ifindex, connection->other_ifindex));
}

static __always_inline void set_alarm(struct flow *connection, __u64 now, __u64 ns)
{
	if (ns > ALARM_MAX_NS)
		ns = ALARM_MAX_NS;
	if (ns < ALARM_MIN_NS)
		ns = ALARM_MIN_NS;
	connection->alarm_at = now + ns;
	bpf_timer_start(&connection->timer, ns, 0);
}

/* Is the port still there? Of an end at another host nobody knows: that this host
 * floods to no other one now may mean that all machines of the network have come here. */
static __always_inline bool has_end(__u32 ifindex)
{
	return is_zone(ifindex) || find_port(ifindex);
}

static int on_alarm(void *map, struct flow_key *key, struct flow *connection)
{
	__u64 now = bpf_ktime_get_ns(), end;
	bool is_whole = has_end(key->ifindex) && has_end(connection->other_ifindex);
	struct flow_key other;

	reverse_key(&other, key, connection->other_ifindex);
	end = end_of(key, connection, bpf_map_lookup_elem(&flows, &other));
	if (is_whole && end > now)
		set_alarm(connection, now, end - now);
	else
		end_connection(key, &other);
	return 0;
}

/* The state has changed: it may have to end sooner than the timer is set for. */
static __always_inline void hasten(struct flow *connection, const struct flow_key *key)
{
	__u64 timeout = timeout_of(connection, key->l4_protocol);

	if (bpf_ktime_get_coarse_ns() + timeout < connection->alarm_at)
		set_alarm(connection, bpf_ktime_get_ns(),
			  adapted(timeout, connection,
				  payer_of(key->ifindex, connection->other_ifindex)));
}
