/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is behind ports without port security: bridges and routers of guests of
 * their own. That is learned from what they send, never over what intent assigns
 * or an address pair allows, and within limits for each port and each other host:
 * who speaks from more MACs or addresses pushes out its own alone.
 */
#pragma once

#include "shared/slots.h"

#define OPEN_NS (OPEN_SECONDS * 1000000000ull)

/* Has the network open ports, here or elsewhere? */
static __always_inline bool has_open_ports(__u32 network)
{
	return bpf_map_lookup_elem(&open_networks, &network);
}

/* Does who was heard from still count? */
static __always_inline bool is_open_holder(__u32 network, __u32 kind, __u32 target, __u64 heard_at)
{
	struct port *port;

	if (!has_open_ports(network) || bpf_ktime_get_ns() - heard_at > OPEN_NS)
		return false;
	if (kind == ENDPOINT_REMOTE)
		return find_vtep(target);
	port = find_port(target);
	return port && port->network == network && port->flags & PORT_OPEN;
}

static __always_inline struct endpoint *find_open_mac(const struct mac_key *key)
{
	struct open_endpoint *found = bpf_map_lookup_elem(&open_macs, key);

	if (!found || !is_open_holder(key->network, found->kind, found->target, found->heard_at))
		return NULL;
	return (struct endpoint *)found;
}

static __always_inline struct neighbor *find_open_address(const struct address_key *key)
{
	struct open_neighbor *found = bpf_map_lookup_elem(&open_addresses, key);

	if (!found || !is_open_holder(key->network, found->kind, found->target, found->heard_at))
		return NULL;
	return (struct neighbor *)found;
}

/* Flood what nobody known has to those who may have it. False: there are none. */
static __always_inline bool ask_unknown(struct packet *packet)
{
	struct tunnel_network *found = find_tunnel_network(packet->network);

	packet->is_for_foreign = found && found->flags & TUNNEL_LEARN;
	packet->is_for_open = has_open_ports(packet->network);
	return packet->is_for_foreign || packet->is_for_open;
}

/* ---- learning ------------------------------------------------------------------ */

/* The source MAC is behind the port, or the host, unless intent knows better. */
__noinline int learn_open_mac(struct packet *packet, __u32 kind, __u32 target)
{
	struct open_endpoint *known, fresh = { .kind = kind, .target = target };
	struct address_key item = {};
	struct mac_key key = {};

	if (!packet || source_mac(packet)[0] & 1)
		return -1;
	key.network = item.network = packet->network;
	copy_mac(key.mac, source_mac(packet));
	copy_mac(item.address, source_mac(packet));
	if (bpf_map_lookup_elem(&macs, &key))
		return -1;
	packet->is_movable = true;
	known = bpf_map_lookup_elem(&open_macs, &key);
	if (packet->trace)
		return 0;
	fresh.heard_at = bpf_ktime_get_ns();
	if (known && known->kind == kind && known->target == target) {
		known->heard_at = fresh.heard_at;
		return 0;
	}
	take_slot(slot_owner(kind, target), LEARNED_OPEN_MAC, &item);
	bpf_map_update_elem(&open_macs, &key, &fresh, BPF_ANY);
	return 0;
}

/* Link-local addresses that follow from a MAC are its own without learning. */
static __always_inline bool is_learnable(const __u8 *address)
{
	__u8 mac[MAC_BYTES];

	return !is_unspecified(address) && !mac_of_link_local(mac, address);
}

/* The same for an address that it has announced. */
__noinline int learn_open_address(struct packet *packet, struct address_key *announced, __u32 kind,
				  __u32 target)
{
	struct open_neighbor *known, fresh = { .kind = kind, .target = target };
	struct address_key key;

	if (!packet || !announced)
		return -1;
	key = *announced;
	if (source_mac(packet)[0] & 1 || !is_learnable(key.address) ||
	    bpf_map_lookup_elem(&addresses, &key))
		return -1;
	packet->is_announcement = true;
	if (packet->trace)
		return 0;
	copy_mac(fresh.mac, source_mac(packet));
	fresh.heard_at = bpf_ktime_get_ns();
	known = bpf_map_lookup_elem(&open_addresses, &key);
	if (!known || known->kind != kind || known->target != target)
		take_slot(slot_owner(kind, target), LEARNED_OPEN_ADDRESS, &key);
	bpf_map_update_elem(&open_addresses, &key, &fresh, BPF_ANY);
	return 0;
}
