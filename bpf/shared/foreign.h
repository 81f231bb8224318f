/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Machines behind foreign VTEPs. Nobody guards what they send, as a host of heddle's
 * does for its ports, and nobody answers and routes for them before it gets here.
 */
#pragma once

#include "shared/neighbors.h"
#include "shared/packet.h"

static __always_inline bool is_from_foreign(const struct packet *packet)
{
	struct vtep *vtep = find_vtep(packet->from_host);

	return vtep && vtep->flags & VTEP_FOREIGN;
}

/* Does intent have the address at another place than behind this foreign VTEP? */
static __always_inline bool is_of_another(const struct packet *packet, const __u8 *address)
{
	struct neighbor *owner = find_assigned(packet->network, address);

	return owner && (owner->kind != ENDPOINT_REMOTE || owner->target != packet->from_host);
}
