/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who has an address or a MAC in a network. Nearly all of it is intent. What
 * several ports may use (allowed address pairs) belongs to the one that last
 * announced it by ARP or ND. All else may be behind an open port.
 */
#pragma once

#include "shared/open_ports.h"
#include "shared/packet.h"

static __always_inline struct neighbor *find_assigned(__u32 network, const __u8 *address)
{
	struct address_key key = { .network = network };

	copy_address(key.address, address);
	return bpf_map_lookup_elem(&addresses, &key);
}

/* May a port of this network send from the address with this MAC, because of a
 * pair or of a route? */
static __always_inline bool has_pair(__u32 ifindex, const __u8 *mac, const __u8 *address)
{
	struct source_prefix_key key = {
		.prefix_bits = 32 + 64 + 8 * ADDRESS_BYTES,
		.ifindex = ifindex,
	};
	__u32 *version;

	copy_mac(key.mac, mac);
	copy_address(key.address, address);
	version = bpf_map_lookup_elem(&source_prefixes, &key);
	return version && *version == (is_mapped(address) ? 4 : 6);
}

static __always_inline bool is_own_neighbor(const struct packet *packet,
					    const struct neighbor *neighbor)
{
	return neighbor->kind == ENDPOINT_PORT && neighbor->target == packet->key.ifindex;
}

/* Was the address heard from a port that still may use it? Of other hosts' ports
 * their host knows. */
__noinline int is_learned(struct address_key *wanted)
{
	struct address_key key;
	struct neighbor *heard;
	struct port *port;

	if (!wanted)
		return false;
	key = *wanted;
	heard = bpf_map_lookup_elem(&learned_addresses, &key);
	if (heard && heard->kind == ENDPOINT_REMOTE)
		return !!find_vtep(heard->target);
	port = heard ? find_port(heard->target) : NULL;
	return port && port->network == key.network &&
	       has_pair(heard->target, heard->mac, key.address);
}

static __always_inline struct neighbor *find_neighbor(struct packet *packet, __u32 network,
						      const __u8 *address)
{
	struct address_key key = { .network = network };
	struct neighbor *neighbor;

	copy_address(key.address, address);
	neighbor = bpf_map_lookup_elem(&addresses, &key);
	if (neighbor)
		return neighbor;
	packet->is_movable = true;
	if (is_learned(&key))
		return bpf_map_lookup_elem(&learned_addresses, &key);
	return find_open_address(&key);
}

static __always_inline struct endpoint *find_endpoint(struct packet *packet, __u32 network,
						      const __u8 *mac)
{
	struct mac_key key = { .network = network };
	struct endpoint *endpoint;
	struct port *port;

	copy_mac(key.mac, mac);
	endpoint = bpf_map_lookup_elem(&macs, &key);
	if (endpoint)
		return endpoint;
	packet->is_movable = true;
	endpoint = bpf_map_lookup_elem(&learned_macs, &key);
	if (!endpoint)
		return find_open_mac(&key);
	if (endpoint->kind == ENDPOINT_REMOTE)
		return find_vtep(endpoint->target) ? endpoint : find_open_mac(&key);
	port = find_port(endpoint->target);
	return port && port->network == network ? endpoint : find_open_mac(&key);
}

/* Each holder has room for so many; a new one is the oldest one's end. */
static __always_inline void put_learned_address(struct address_key *key,
						const struct neighbor *holder)
{
	struct neighbor *known = bpf_map_lookup_elem(&learned_addresses, key);

	if (!known || known->kind != holder->kind || known->target != holder->target)
		take_slot(slot_owner(holder->kind, holder->target), LEARNED_ADDRESS, key);
	bpf_map_update_elem(&learned_addresses, key, holder, BPF_ANY);
}

/* The sender has announced an address, which the guard found that it may use.
 * Nothing that intent assigns to somebody is learned. */
__noinline int learn(struct packet *packet, struct address_key *announced)
{
	struct neighbor neighbor = { .kind = ENDPOINT_PORT };
	struct endpoint endpoint = { .kind = ENDPOINT_PORT };
	struct address_key key;
	struct mac_key mac = {};

	if (!packet || !announced)
		return -1;
	key = *announced;
	mac.network = key.network;
	copy_mac(mac.mac, source_mac(packet));
	neighbor.target = endpoint.target = packet->key.ifindex;
	copy_mac(neighbor.mac, mac.mac);
	if (bpf_map_lookup_elem(&addresses, &key))
		return -1;
	packet->is_announcement = true;
	if (packet->trace)
		return 0;
	put_learned_address(&key, &neighbor);
	if (!bpf_map_lookup_elem(&macs, &mac))
		bpf_map_update_elem(&learned_macs, &mac, &endpoint, BPF_ANY);
	return 0;
}
