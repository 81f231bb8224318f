// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Connections of a machine that moves here: run by the agent with connection
 * records (abi.h) after an Ethernet header, as many as the frame holds. Only a
 * program can set the timers that end connections. No device runs it.
 */
#include "shared/packet.h"
#include "stages/track.h"

#define RECORDS_MAX 64

struct adoption {
	struct connection_record record;
	struct flow fresh;
};

static __always_inline void fill_flow(struct flow *fresh, const struct connection_record *record,
				      __u32 slot)
{
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->role = record->role;
	fresh->state = record->state;
	fresh->connection_flags = record->connection_flags;
	fresh->from_slot = slot;
	fresh->other_ifindex = record->other_ifindex;
	fresh->policy_epoch = EPOCH_NEVER;
	fresh->from_rule = record->from_rule;
	fresh->to_rule = record->to_rule;
	fresh->opened_at = record->opened_at;
	fresh->used_at = record->used_at;
	fresh->packets = record->packets;
	fresh->bytes = record->bytes;
}

static __always_inline void fill_reply(const struct packet *packet,
				       const struct connection_record *record)
{
	struct flow_key key = packet->other; /* 6.1 wants keys on the stack */
	struct flow *reply = bpf_map_lookup_elem(&flows, &key);

	if (!reply)
		return;
	reply->packets = record->reply_packets;
	reply->bytes = record->reply_bytes;
}

/* Has it timed out where it was kept (a machine's memory in a file)? */
static __always_inline bool is_over(const struct flow *fresh, const struct packet *packet,
				    __u64 now)
{
	return fresh->used_at + timeout_of(fresh, packet->key.l4_protocol) < now;
}

static __always_inline struct flow *used_by(const struct flow_key *name, __u64 now)
{
	struct flow_key key = *name; /* 6.1 wants keys on the stack */
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);

	if (flow && flow->used_at > now)
		flow->used_at = now;
	return flow;
}

/* The machine is here: that its connection counted as used ahead of time is over. */
static __always_inline void await_no_more(struct packet *packet, __u64 now)
{
	struct flow *connection;

	used_by(&packet->other, now);
	connection = used_by(&packet->key, now);
	if (connection && connection->role != FLOW_REPLY)
		hasten(connection, &packet->key);
}

/* Returns 1 when the record is carried out, 0 when there is no room for it. */
__noinline int adopt(struct __sk_buff *skb, __u32 offset)
{
	struct packet *packet = packet_in_hand();
	struct adoption *room = (struct adoption *)scratch();
	__u64 now = bpf_ktime_get_ns();
	struct port *payer;

	_Static_assert(sizeof(*room) <= SCRATCH_BYTES, "an adoption fits the scratch space");
	if (!packet || !room ||
	    bpf_skb_load_bytes(skb, offset, &room->record, sizeof(room->record)))
		return 0;
	packet->key = room->record.opener;
	reverse_key(&packet->other, &packet->key, room->record.other_ifindex);
	if (room->record.has_ended) {
		end_connection(&packet->key, &packet->other);
		return 1;
	}
	if (room->record.is_awaited_no_more) {
		await_no_more(packet, now);
		return 1;
	}
	payer = find_port(payer_of(packet->key.ifindex, room->record.other_ifindex));
	fill_flow(&room->fresh, &room->record, payer ? payer->counter_slot : 0);
	if (is_over(&room->fresh, packet, now))
		return 1;
	end_opener(&packet->key, &packet->other); /* it has changed since it was made */
	if (put_connection(packet, &room->fresh, now))
		return 0;
	if (room->record.role == FLOW_OPENER)
		fill_reply(packet, &room->record);
	return 1;
}

/* The verdict is the number of records that were carried out. */
SEC("tc")
int adopt_connections(struct __sk_buff *skb)
{
	__u32 offset = ETHERNET_BYTES;
	int adopted = 0;

	for (int i = 0; i < RECORDS_MAX; i++) {
		if (offset + sizeof(struct connection_record) > skb->len)
			break;
		adopted += adopt(skb, offset);
		offset += sizeof(struct connection_record);
	}
	return adopted;
}

char _license[] SEC("license") = "Dual BSD/GPL";
