/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which rule of a port's security groups allows this? The question goes through
 * the groups of the port, and in each through the prefix lengths and sets that
 * its rules use (abi.h says how rules are kept): the number of rules, members
 * and ports does not matter.
 */
#pragma once

#include "stages/parse.h"

#define STEPS_MAX (GROUPS_MAX * (1 + POLICY_PREFIXES_MAX + POLICY_SETS_MAX))
#define RULE_NONE 0
#define RULE_OPEN 0xffffffff /* port security is off: no rule is needed */

/* Who asks what, and how far the search is. The peer is the destination for
 * FROM_VM and the source for TO_VM. */
struct question {
	__u32 ifindex;
	__u32 peer_network; /* VNI */
	__u8 peer[ADDRESS_BYTES];
	__u16 protocol;
	__u16 port; /* host order */
	__u8 direction; /* enum direction */
	__u8 ip_version;
	__u8 is_stateless; /* the answer: the rule's group is */
	__u8 group_index; /* next group of the port */
	__u32 item; /* next prefix length or set of the group */
	__u32 group;
	__u32 rule; /* the answer */
	struct policy_group row;
	/* Here and not on the stack, which is too small. */
	struct policy_remote_key remote_key;
	struct policy_rule_key rule_key;
	struct set_member_key member_key;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct question);
} questions SEC(".maps");

static __always_inline struct question *question(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&questions, &zero);
}

static __always_inline __u32 word_mask_be(__u32 bits, __u32 word)
{
	if (bits <= 32 * word)
		return 0;
	bits -= 32 * word;
	return bits >= 32 ? ~0u : bpf_htonl(~(~0u >> bits));
}

static __always_inline void mask_address(__u8 *to, const __u8 *address, __u32 bits)
{
	const __u32 *from_words = (const __u32 *)address;
	__u32 *words = (__u32 *)to;

	words[0] = from_words[0] & word_mask_be(bits, 0);
	words[1] = from_words[1] & word_mask_be(bits, 1);
	words[2] = from_words[2] & word_mask_be(bits, 2);
	words[3] = from_words[3] & word_mask_be(bits, 3);
}

static __always_inline __u32 rule_at(struct policy_rule_key *key, __u16 protocol, __u16 port,
				     __u32 bits)
{
	__u32 *rule;

	key->protocol = protocol;
	key->port_bits = bits;
	key->port = bits ? port & (0xffff << (16 - bits)) : 0;
	rule = bpf_map_lookup_elem(&policy_rules, key);
	return rule ? *rule : RULE_NONE;
}

static __always_inline __u32 port_lengths(const struct policy_remote *remote,
					  const struct question *ask)
{
	switch (ask->protocol) {
	case IPPROTO_TCP:
		return remote->tcp;
	case IPPROTO_UDP:
		return remote->udp;
	case IPPROTO_ICMP:
		return ask->ip_version == 4 ? remote->icmp : remote->other;
	case IPPROTO_ICMPV6:
		return ask->ip_version == 6 ? remote->icmp : remote->other;
	}
	return remote->other;
}

/* The rule for this peer: a prefix of so many bits, or a set that it is in. */
static __always_inline __u32 rule_of_remote(struct question *ask, __u32 set, __u32 bits)
{
	struct policy_remote_key *remote_key = &ask->remote_key;
	struct policy_rule_key *key = &ask->rule_key;
	struct policy_remote *remote;
	__u32 rule = RULE_NONE, lengths;

	remote_key->group = key->group = ask->group;
	remote_key->set = key->set = set;
	remote_key->direction = key->direction = ask->direction;
	remote_key->ip_version = key->ip_version = ask->ip_version;
	remote_key->prefix_bits = key->prefix_bits = bits;
	mask_address(key->address, ask->peer, bits);
	copy_address(remote_key->address, key->address);
	remote = bpf_map_lookup_elem(&policy_remotes, remote_key);
	if (!remote)
		return RULE_NONE;
	if (remote->any_protocol)
		rule = rule_at(key, PROTOCOL_ANY, 0, 0);
	lengths = port_lengths(remote, ask);
	for (int bits = 16; bits >= 0; bits--) {
		if (rule)
			break;
		if (lengths >> bits & 1)
			rule = rule_at(key, ask->protocol, ask->port, bits);
	}
	return rule;
}

struct membership {
	__u32 set;
	__u32 is_member;
};

/* Is the peer in the set, by the next prefix length that the set uses? */
static long member_step(__u32 index, struct membership *membership)
{
	struct question *ask = question();
	__u32 set_number = membership->set, bits;
	struct set *set = bpf_map_lookup_elem(&sets, &set_number);

	if (!ask || !set || index >= POLICY_PREFIXES_MAX)
		return 1;
	if (index >= (ask->ip_version == 4 ? set->prefix_count4 : set->prefix_count6))
		return 1;
	bits = ask->ip_version == 4 ? set->prefix_bits4[index] : set->prefix_bits6[index];
	ask->member_key.set = set_number;
	ask->member_key.network = set->in_network ? ask->peer_network : 0;
	ask->member_key.ip_version = ask->ip_version;
	ask->member_key.prefix_bits = bits;
	mask_address(ask->member_key.address, ask->peer, bits);
	membership->is_member = !!bpf_map_lookup_elem(&set_members, &ask->member_key);
	return membership->is_member;
}

static __always_inline bool is_member(__u32 set)
{
	struct membership membership = { .set = set };

	bpf_loop(POLICY_PREFIXES_MAX, member_step, &membership, 0);
	return membership.is_member;
}

/* Take the rules of the port's next group in hand; false when it has no more. */
static __always_inline bool next_group(struct question *ask)
{
	struct port *port = find_port(ask->ifindex);
	struct policy_group_key key = {
		.direction = ask->direction,
		.ip_version = ask->ip_version,
	};
	struct policy_group *row;
	__u32 index = ask->group_index;

	if (!port || index >= port->group_count || index >= GROUPS_MAX)
		return false;
	ask->group = port->groups[index];
	ask->group_index = index + 1;
	ask->item = 0;
	key.group = ask->group;
	row = bpf_map_lookup_elem(&policy_groups, &key);
	if (row)
		ask->row = *row;
	else
		ask->row.prefix_count = ask->row.set_count = 0;
	return true;
}

/* One prefix length or set of one group. */
static long rule_step(__u32 index, void *context)
{
	struct question *ask = question();
	__u32 item, rule = RULE_NONE;

	if (!ask)
		return 1;
	item = ask->item++;
	if (item >= ask->row.prefix_count + ask->row.set_count)
		return !next_group(ask);
	if (item < ask->row.prefix_count) {
		if (item < POLICY_PREFIXES_MAX)
			rule = rule_of_remote(ask, 0, ask->row.prefix_bits[item]);
	} else {
		item -= ask->row.prefix_count;
		if (item < POLICY_SETS_MAX && is_member(ask->row.sets[item]))
			rule = rule_of_remote(ask, ask->row.sets[item], 0);
	}
	if (!rule)
		return 0;
	ask->rule = rule;
	ask->is_stateless = ask->row.flags & POLICY_STATELESS;
	return !ask->is_stateless; /* a stateful rule would be worth more */
}

/* The number of a rule that allows what was asked, RULE_NONE or RULE_OPEN. */
static __always_inline __u32 find_rule(struct question *ask)
{
	struct port *port = find_port(ask->ifindex);

	ask->rule = RULE_NONE;
	ask->is_stateless = false;
	ask->group_index = 0;
	ask->item = 0;
	ask->row.prefix_count = 0;
	ask->row.set_count = 0;
	if (!port)
		return RULE_NONE;
	if (port->flags & PORT_OPEN) {
		ask->is_stateless = true;
		return RULE_OPEN;
	}
	bpf_loop(STEPS_MAX, rule_step, NULL, 0);
	return ask->rule;
}
