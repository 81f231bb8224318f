/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets and their connections: what opens one needs rules at both ends, what
 * belongs to one notes its state, and is judged again when the policy changed.
 */
#pragma once

#include "stages/ends.h"
#include "stages/foresee.h"
#include "stages/quote.h"
#include "stages/recall.h"

/* No epoch has this number: the first packet asks the rules. */
#define EPOCH_NEVER 0xffffffff

/* Make an entry in place of whatever is in the way, which seldom is anything. The
 * reply's entry is replaced, so that at no time there is none: a reply that passes by
 * could not open one. Returns -EEXIST when another CPU has made the same opener. */
static __always_inline int put_entry(struct flow_key *key, struct flow_key *room,
				     const struct flow *entry)
{
	int error = bpf_map_update_elem(&flows, key, entry, BPF_NOEXIST);
	struct flow *old;
	__u32 before;
	__u8 role;

	if (error != -EEXIST)
		return error;
	old = bpf_map_lookup_elem(&flows, key);
	if (!old)
		return bpf_map_update_elem(&flows, key, entry, BPF_NOEXIST);
	before = old->other_ifindex;
	role = old->role;
	if (role == entry->role && before == entry->other_ifindex && role != FLOW_REPLY)
		return -EEXIST;
	reverse_key(room, key, before);
	if (role == FLOW_REPLY && entry->role == FLOW_REPLY) {
		error = bpf_map_update_elem(&flows, key, entry, BPF_ANY);
		if (!error && before != entry->other_ifindex)
			end_opener(room, key);
		return error;
	}
	if (role == FLOW_REPLY)
		end_connection(room, key);
	else
		end_connection(key, room);
	return bpf_map_update_elem(&flows, key, entry, BPF_NOEXIST);
}

/* The opener's entry, with the timer that will end the connection. */
static __always_inline int put_opener(struct packet *packet, struct flow *fresh, __u64 now)
{
	__u32 payer = payer_of(packet->key.ifindex, fresh->other_ifindex);
	int error = put_entry(&packet->key, &packet->other, fresh);
	struct flow *connection;
	__u64 ns;

	if (error)
		return error == -EEXIST ? 0 : -1;
	count_opened(payer, fresh->from_slot);
	connection = bpf_map_lookup_elem(&flows, &packet->key);
	if (!connection)
		return -1;
	bpf_timer_init(&connection->timer, &flows, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&connection->timer, on_alarm);
	ns = adapted(timeout_of(connection, packet->key.l4_protocol), connection, payer);
	set_alarm(connection, now, ns < FIRST_ALARM_NS ? ns : FIRST_ALARM_NS);
	return 0;
}

/* Make the other direction's entry from the opener's, whose key is in hand. Its way is
 * not known. */
static __always_inline void turn(struct packet *packet, struct flow *fresh)
{
	__u64 used_at = fresh->used_at;

	reverse_key(&packet->other, &packet->key, fresh->other_ifindex);
	__builtin_memset(fresh, 0, offsetof(struct flow, other_ifindex));
	fresh->used_at = used_at;
	fresh->role = FLOW_REPLY;
	fresh->other_ifindex = packet->key.ifindex;
}

static __always_inline int put_reply(struct packet *packet, const struct flow *fresh)
{
	if (!put_entry(&packet->other, &packet->opener, fresh))
		return 0;
	end_connection(&packet->key, &packet->other);
	return -1;
}

/* Make the entries of both directions, the opener's first, with the opener's key
 * in hand. Returns 0, or not when the table is full. */
static __always_inline int put_connection(struct packet *packet, struct flow *fresh, __u64 now)
{
	if (put_opener(packet, fresh, now))
		return -1;
	if (fresh->role == FLOW_UNTRACKED)
		return 0;
	turn(packet, fresh);
	return put_reply(packet, fresh);
}

/* Of ports of this host the way of the first packet is known before its entry is
 * made, so that it need not be looked for again. */
static __always_inline void write_first(struct packet *packet, struct flow *fresh,
					const struct port *from, const struct port *to)
{
	write_way(fresh, packet, from, to, 0);
	fresh->epoch = packet->epoch;
	packet->is_written = true;
}

/* Returns 0, or not when the table is full. */
__noinline int open_connection(int stateless)
{
	bool is_tracked = stateless != STATELESS_BOTH;
	struct packet *packet = packet_in_hand();
	struct scratch *space = scratch();
	struct port *from, *to, *payer;
	struct flow *fresh;

	if (!packet || !space)
		return -1;
	from = port_at(packet->key.ifindex);
	to = port_at(packet->to_ifindex);
	payer = from ? from : to;
	if (!payer)
		return -1;
	fresh = (struct flow *)space->bytes;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->role = is_tracked ? FLOW_OPENER : FLOW_UNTRACKED;
	fresh->from_slot = payer->counter_slot;
	fresh->other_ifindex = packet->to_ifindex;
	fresh->connection_flags = stateless;
	fresh->state = is_tracked ? first_state(packet) : CONNECTION_NEW;
	fresh->policy_epoch = packet->epoch;
	fresh->from_rule = packet->from_rule;
	fresh->to_rule = packet->to_rule;
	fresh->opened_at = fresh->used_at = bpf_ktime_get_ns();
	packet->settled = is_settled(fresh->state);
	if (!from || !to || packet->to_ifindex == packet->key.ifindex)
		return put_connection(packet, fresh, fresh->opened_at);
	write_first(packet, fresh, from, to);
	if (put_opener(packet, fresh, fresh->opened_at))
		return -1;
	if (!is_tracked)
		return 0;
	turn(packet, fresh);
	if (fresh->state == CONNECTION_SYN_SENT && !stateless)
		foresee(packet, from, to, fresh);
	return put_reply(packet, fresh);
}

/* A packet without a connection, or with one that has just ended. A traced one
 * ends none (makes_room). */
static __always_inline int judge_first(struct packet *packet, bool makes_room)
{
	int stateless;

	packet->reply_epoch = current_epoch(packet->to_network % EPOCH_SLOTS);
	stateless = judge_or_recall(packet);
	if (stateless < 0)
		return drop(packet, STAGE_POLICY, -stateless);
	if (is_icmp_error(packet) || !may_open(packet)) {
		if (stateless != STATELESS_BOTH)
			return drop(packet, STAGE_POLICY, DROP_CONNECTION_INVALID);
	}
	if (!packet->trackable)
		return allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
	if (!makes_room &&
	    !may_have_another(payer_of(packet->key.ifindex, packet->to_ifindex))) {
		if (stateless != STATELESS_BOTH)
			return drop(packet, STAGE_POLICY, DROP_CONNECTION_LIMIT);
	} else if (packet->trace) {
		return allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
	} else if (open_connection(stateless) && stateless != STATELESS_BOTH) {
		return drop(packet, STAGE_POLICY, DROP_FLOW_TABLE_FULL);
	}
	return allow(packet, DECISION_POLICY_ALLOWED, OUTCOME_PORT);
}

/* The connection of a packet, NULL if there is none, from the entry that its key
 * has. Leaves both keys in the packet: that of its opener, and that of the other
 * direction. */
static __always_inline struct flow *connection_of(struct packet *packet, struct flow *flow)
{
	struct flow *connection;

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

/* The same when another CPU may replace the entry just now: what was found is gone. */
static __always_inline struct flow *find_connection(struct packet *packet, struct flow *flow)
{
	struct flow *connection = connection_of(packet, flow);

	if (connection || !flow)
		return connection;
	return connection_of(packet, bpf_map_lookup_elem(&flows, &packet->key));
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

/* Flags that no TCP sends together (RFC 9293 3.10.7): they say nothing. */
static __always_inline bool has_odd_flags(const struct packet *packet)
{
	__u8 flags = packet->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);

	return flags == TCP_FIN || (flags & TCP_SYN && flags & (TCP_FIN | TCP_RST));
}

/* Is it this connection still? Its other end may have moved to another port,
 * and a SYN after the end begins another one (RFC 9293 3.6.1). */
static __always_inline bool is_current(const struct flow *connection, const struct packet *packet)
{
	__u32 opener = packet->opener.ifindex, other = connection->other_ifindex;

	if (packet->key.ifindex != (packet->is_reply ? other : opener) ||
	    packet->to_ifindex != (packet->is_reply ? opener : other))
		return false;
	if (packet->key.l4_protocol != IPPROTO_TCP || connection->role == FLOW_UNTRACKED ||
	    has_odd_flags(packet))
		return true;
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN ||
	       (connection->state != CONNECTION_TIME_WAIT && connection->state != CONNECTION_CLOSED);
}

/* A SYN of the other side is no reply, but where both open at once: it needs rules. */
static __always_inline bool opens_back(const struct flow *connection, const struct packet *packet)
{
	return packet->is_reply && connection->state >= CONNECTION_ESTABLISHED &&
	       (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* ---- connections of VMs that move ---------------------------------------------- */

/* Make the connection anew between other ends; its state and its age stay. The end
 * that has not moved keeps the key of its entry: that of a reply is never away. */
static __always_inline void move_ends(struct packet *packet, struct flow *connection,
				      __u32 opener, __u32 other)
{
	__u32 opener_before = packet->opener.ifindex, other_before = connection->other_ifindex;
	struct port *payer = find_port(payer_of(opener, other));
	struct scratch *space = scratch();
	struct flow *fresh;

	if (!space || !payer)
		return;
	fresh = (struct flow *)space->bytes;
	__builtin_memcpy(fresh, connection, offsetof(struct flow, timer));
	__builtin_memset(&fresh->timer, 0, sizeof(fresh->timer));
	fresh->ifindex = 0; /* this has to be decided, too */
	fresh->from_slot = payer->counter_slot;
	fresh->other_ifindex = other;
	fresh->policy_epoch = EPOCH_NEVER;
	packet->key = packet->opener;
	reverse_key(&packet->other, &packet->key, other_before);
	end_opener(&packet->key, &packet->other);
	packet->key.ifindex = opener;
	put_connection(packet, fresh, bpf_ktime_get_ns());
	packet->key.ifindex = opener_before;
	reverse_key(&packet->other, &packet->key, other_before);
	end_reply(&packet->key, &packet->other); /* unless the new one has taken its place */
}

/* Did an end of a connection leave that place because its VM is on its way? */
static __always_inline bool has_left(__u32 ifindex)
{
	struct port *port;

	if (is_zone(ifindex))
		return true;
	port = find_port(ifindex);
	return !port || is_elsewhere(port);
}

/* Does it look as if one of its ends had moved, given the entry of its key? */
static __always_inline bool shows_move(const struct packet *packet, const struct flow *flow)
{
	__u32 before = flow ? flow->other_ifindex : packet->key.ifindex;

	if (flow && before == packet->to_ifindex)
		return false;
	return packet->trackable && (is_zone(before) || is_zone(packet->to_ifindex));
}

/* The entry in hand is one of the two of a connection. Its other end was known to be
 * at one place, and now is at another. Returns whether it has moved. */
static __always_inline bool follow(struct packet *packet, struct flow *flow, __u32 now)
{
	__u32 near = packet->key.ifindex;
	struct flow *connection;

	if (flow->other_ifindex == now || !has_left(flow->other_ifindex))
		return false;
	connection = connection_of(packet, flow);
	if (connection)
		move_ends(packet, connection, packet->is_reply ? now : near,
			  packet->is_reply ? near : now);
	return true;
}

/* An end of the packet's connection may have moved to another host or from there:
 * then its entries follow. If it is the sender, only the receiver's entry is to be
 * found. What comes the long way round, by the host that the receiver has left,
 * counts as sent here. A function of its own for the sake of the stack. */
__noinline int follow_ends(void)
{
	struct packet *packet = packet_in_hand();
	bool is_receiver;
	struct flow *flow;
	__u32 before, now;

	if (!packet)
		return -1;
	packet->own = packet->key;
	flow = bpf_map_lookup_elem(&flows, &packet->key);
	is_receiver = flow;
	now = packet->to_ifindex;
	if (!flow) {
		now = packet->key.ifindex;
		reverse_key(&packet->key, &packet->own, packet->to_ifindex);
		flow = bpf_map_lookup_elem(&flows, &packet->key);
	}
	before = flow ? flow->other_ifindex : now;
	if (flow && follow(packet, flow, now))
		before = now;
	packet->key = packet->own;
	if (!is_receiver && before != now && is_zone(now)) {
		packet->key.ifindex = before;
		packet->trackable = false; /* the next one may come directly */
	}
	return 0;
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
	struct flow *other = connection;

	if (connection->role == FLOW_OPENER)
		advance(connection, packet, packet->is_reply);
	packet->settled = is_settled(connection->state);
	if (connection->state == before)
		return;
	hasten(connection, &packet->opener);
	if (packet->settled || !is_settled(before))
		return;
	if (!packet->is_reply)
		other = bpf_map_lookup_elem(&flows, &packet->other);
	if (other)
		other->flags &= ~FLOW_SETTLED;
}

/* What to do with the packet is known, and its connection is opening or closing:
 * is there more to say than its state? */
static __always_inline bool track(struct packet *packet, struct flow *flow)
{
	struct flow *connection = connection_of(packet, flow);

	if (!connection || connection->role != FLOW_OPENER ||
	    connection->policy_epoch != current_epoch(connection->epoch_slot))
		return false;
	packet->to_ifindex = flow->ifindex;
	if (!is_current(connection, packet) || has_odd_flags(packet) ||
	    opens_back(connection, packet))
		return false;
	note(packet, connection);
	if (packet->settled)
		flow->flags |= FLOW_SETTLED;
	else
		flow->flags &= ~FLOW_SETTLED;
	return true;
}

/* Now, of the network of the opener, or of this host's port where that is not here. */
static __always_inline __u32 opener_epoch(const struct packet *packet)
{
	if (!packet->is_reply || is_zone(packet->opener.ifindex))
		return packet->epoch;
	return current_epoch(packet->to_network % EPOCH_SLOTS);
}

__noinline int judge_tracked(void)
{
	struct packet *packet = packet_in_hand();
	struct flow *flow, *connection;
	int stateless, outcome;
	__u32 epoch;

	if (!packet)
		return OUTCOME_DROP;
	flow = packet->has_entry ? bpf_map_lookup_elem(&flows, &packet->key) : NULL;
	if (!packet->trace && shows_move(packet, flow)) {
		follow_ends();
		flow = bpf_map_lookup_elem(&flows, &packet->key);
	}
	connection = find_connection(packet, flow);
	if (!connection)
		return judge_first(packet, false);
	epoch = opener_epoch(packet);
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
	if (connection->role == FLOW_OPENER && has_odd_flags(packet))
		return drop(packet, STAGE_POLICY, DROP_CONNECTION_INVALID);
	if (opens_back(connection, packet))
		stateless = STATELESS_BOTH;
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
	struct flow *flow = bpf_map_lookup_elem(&flows, &packet->key);
	struct flow *connection = connection_of(packet, flow);
	int stateless;
	__u32 epoch;

	if (!connection || connection->role != FLOW_OPENER || !is_current(connection, packet))
		return -1;
	epoch = opener_epoch(packet);
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
