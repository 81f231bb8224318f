/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map but those that hold what one CPU is busy with. The first group is
 * written by the applier from intent, the second belongs to the data plane and
 * is only read from outside.
 */
#pragma once

#include "shared/abi.h"

#define TABLE(name, map_type, entries, key_type, value_type, flags) \
	struct {                                                     \
		__uint(type, map_type);                              \
		__uint(max_entries, entries);                        \
		__type(key, key_type);                               \
		__type(value, value_type);                           \
		__uint(map_flags, flags);                            \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                 \
	} name SEC(".maps")

/* Intent, written by the applier. */
TABLE(ports, BPF_MAP_TYPE_HASH, 16384, __u32, struct port, 0);
TABLE(macs, BPF_MAP_TYPE_HASH, 65536, struct mac_key, struct endpoint, 0);
TABLE(addresses, BPF_MAP_TYPE_HASH, 131072, struct address_key, struct neighbor, 0);
TABLE(source_prefixes, BPF_MAP_TYPE_LPM_TRIE, 65536, struct source_prefix_key, __u32, BPF_F_NO_PREALLOC);
TABLE(router_interfaces, BPF_MAP_TYPE_HASH, 16384, struct router_interface_key, struct router_interface, 0);
TABLE(routes, BPF_MAP_TYPE_LPM_TRIE, 65536, struct route_key, struct route, BPF_F_NO_PREALLOC);
TABLE(policy_groups, BPF_MAP_TYPE_HASH, 65536, struct policy_group_key, struct policy_group, BPF_F_NO_PREALLOC);
TABLE(policy_remotes, BPF_MAP_TYPE_HASH, 262144, struct policy_remote_key, struct policy_remote, BPF_F_NO_PREALLOC);
TABLE(policy_rules, BPF_MAP_TYPE_HASH, 524288, struct policy_rule_key, __u32, BPF_F_NO_PREALLOC);
TABLE(sets, BPF_MAP_TYPE_HASH, 65536, __u32, struct set, BPF_F_NO_PREALLOC);
TABLE(set_members, BPF_MAP_TYPE_HASH, 524288, struct set_member_key, __u32, BPF_F_NO_PREALLOC);
TABLE(dhcp4_templates, BPF_MAP_TYPE_HASH, 16384, __u32, struct dhcp4_template, BPF_F_NO_PREALLOC);
TABLE(dhcp6_templates, BPF_MAP_TYPE_HASH, 16384, __u32, struct dhcp6_template, BPF_F_NO_PREALLOC);
TABLE(ra_templates, BPF_MAP_TYPE_HASH, 16384, __u32, struct ra_template, BPF_F_NO_PREALLOC);
TABLE(this_host, BPF_MAP_TYPE_HASH, 1, __u32, struct this_host, 0);
TABLE(vteps, BPF_MAP_TYPE_HASH, 131072, __u32, struct vtep, BPF_F_NO_PREALLOC);
TABLE(tunnel_senders, BPF_MAP_TYPE_HASH, 131072, struct tunnel_sender_key, __u32, BPF_F_NO_PREALLOC);
TABLE(tunnel_networks, BPF_MAP_TYPE_HASH, 65536, __u32, struct tunnel_network, BPF_F_NO_PREALLOC);
TABLE(flood_hosts, BPF_MAP_TYPE_HASH, 524288, struct flood_host_key, __u32, BPF_F_NO_PREALLOC);
TABLE(open_networks, BPF_MAP_TYPE_HASH, 65536, __u32, __u32, BPF_F_NO_PREALLOC);

/* A change of policy advances the epoch of the networks it touches; slot is
 * VNI modulo EPOCH_SLOTS, so a collision only costs a needless re-decision. */
TABLE(epochs, BPF_MAP_TYPE_ARRAY, EPOCH_SLOTS, __u32, __u32, 0);

/* The data plane's own. Room for all flows is set aside at the start: to ask the
 * kernel for some costs a first packet more than all else that it needs. */
TABLE(flows, BPF_MAP_TYPE_HASH, FLOWS_MAX, struct flow_key, struct flow, 0);
TABLE(learned_addresses, BPF_MAP_TYPE_LRU_HASH, 32768, struct address_key, struct neighbor, 0);
TABLE(learned_macs, BPF_MAP_TYPE_LRU_HASH, 16384, struct mac_key, struct endpoint, 0);
TABLE(open_addresses, BPF_MAP_TYPE_LRU_HASH, 32768, struct address_key, struct open_neighbor, 0);
TABLE(open_macs, BPF_MAP_TYPE_LRU_HASH, 32768, struct mac_key, struct open_endpoint, 0);
TABLE(learned_slots, BPF_MAP_TYPE_LRU_HASH, 98304, struct learned_slot_key, struct address_key, 0);
TABLE(learned_counts, BPF_MAP_TYPE_LRU_HASH, 16384, __u32, struct learned_counts, 0);
TABLE(seen_ways, BPF_MAP_TYPE_LRU_HASH, 8192, struct tunnel_sender_key, struct seen_way, 0);
TABLE(fragments, BPF_MAP_TYPE_LRU_HASH, 16384, struct fragment_key, struct fragment, 0);
TABLE(usage, BPF_MAP_TYPE_ARRAY, COUNTER_SLOTS, __u32, struct port_usage, 0);
TABLE(total_usage, BPF_MAP_TYPE_ARRAY, 1, __u32, struct port_usage, 0);
TABLE(paces, BPF_MAP_TYPE_ARRAY, COUNTER_SLOTS, __u32, struct pace, 0);
TABLE(counters, BPF_MAP_TYPE_PERCPU_ARRAY, COUNTER_SLOTS, __u32, struct port_counters, 0);
TABLE(drops, BPF_MAP_TYPE_LRU_PERCPU_HASH, 16384, struct drop_key, struct drop_counter, 0);
TABLE(icmp_budgets, BPF_MAP_TYPE_ARRAY, COUNTER_SLOTS, __u32, struct icmp_budget, 0);
TABLE(foreign_budgets, BPF_MAP_TYPE_LRU_HASH, 4096, struct foreign_budget_key, struct icmp_budget, 0);
TABLE(asked_neighbors, BPF_MAP_TYPE_LRU_HASH, 8192, struct address_key, struct asked_neighbor, 0);
TABLE(traces, BPF_MAP_TYPE_ARRAY, TRACE_SLOTS, __u32, struct trace_record, 0);

/* Room to build an answer in, and to sum it up. The stack is too small. */
#define SCRATCH_BYTES 1024
struct scratch {
	__u8 bytes[SCRATCH_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch_space SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

/* clang 14 keeps an enum in BTF only when something refers to it. */
struct shared_types {
	enum stage stage;
	enum decision decision;
	enum drop_reason drop_reason;
	enum endpoint_kind endpoint_kind;
	enum learned_kind learned_kind;
	enum port_flag port_flag;
	enum route_kind route_kind;
	enum direction direction;
	enum policy_group_flag policy_group_flag;
	enum fragment_kind fragment_kind;
	enum flow_flag flow_flag;
	enum flow_role flow_role;
	enum connection_flag connection_flag;
	enum connection_state connection_state;
	enum event_kind event_kind;
	enum vtep_flag vtep_flag;
	enum foreign_expense foreign_expense;
	enum tunnel_network_flag tunnel_network_flag;
	enum probe_kind probe_kind;
	enum limits limits;
	enum tunnel_limits tunnel_limits;
	struct drop_event drop_event;
	struct connection_record connection_record;
	struct probe_event probe_event;
	struct active_event active_event;
	struct probe probe;
};
const volatile struct shared_types shared_types;
