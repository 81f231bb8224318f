/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How much of heddle's own making (ICMP errors, questions of routers) may be sent. */
#pragma once

#include "shared/packet.h"

#define TOKEN_NS (1000000000ull / ICMP_PER_SECOND)

/* A token bucket. Two CPUs may spend the same token now and then, which is
 * cheaper than a lock. A trace looks, but does not spend. */
static __always_inline bool take_token(struct icmp_budget *budget, bool spend)
{
	__u64 now = bpf_ktime_get_ns(), tokens, refilled_at;

	if (!budget)
		return false;
	tokens = budget->tokens;
	refilled_at = budget->refilled_at;
	if (now > refilled_at) { /* the CPU that refilled it may be ahead */
		__u64 earned = (now - refilled_at) / TOKEN_NS;

		tokens += earned;
		refilled_at += earned * TOKEN_NS;
	}
	if (!tokens)
		return false;
	if (spend) {
		budget->tokens = (tokens > ICMP_BURST ? ICMP_BURST : tokens) - 1;
		budget->refilled_at = refilled_at;
	}
	return true;
}

/* Full at first. */
static __always_inline struct icmp_budget *foreign_budget_of(__u32 host, enum foreign_expense expense)
{
	struct foreign_budget_key key = { .host = host, .expense = expense };
	struct icmp_budget *budget = bpf_map_lookup_elem(&foreign_budgets, &key);
	struct icmp_budget fresh = {};

	if (budget)
		return budget;
	bpf_map_update_elem(&foreign_budgets, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&foreign_budgets, &key);
}
