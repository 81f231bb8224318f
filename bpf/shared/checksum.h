/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Internet checksums (RFC 1071) of answers that the data plane makes. */
#pragma once

#include "shared/packet.h"

/* bpf_csum_diff takes at most so many bytes (kernels before 6.12). */
#define SUM_BYTES_MAX 512

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u16 finish_checksum(__u64 sum)
{
	return ~fold(sum);
}

/* Sum of memory; length a multiple of 4, at most SUM_BYTES_MAX. */
#define sum_of(memory, length) \
	((__u32)bpf_csum_diff(NULL, 0, (void *)(memory), (length), 0))

static __always_inline __u32 pseudo_header_sum4(__u32 source_be, __u32 destination_be,
						__u8 protocol, __u16 length)
{
	return fold((__u64)source_be + destination_be +
		    bpf_htonl((__u32)protocol << 16 | length));
}

static __always_inline __u32 pseudo_header_sum6(const __u8 *source, const __u8 *destination,
						__u8 protocol, __u32 length)
{
	return fold((__u64)sum_of(source, ADDRESS_BYTES) + sum_of(destination, ADDRESS_BYTES) +
		    bpf_htonl(length) + bpf_htonl(protocol));
}

/* The checksum field of a UDP answer built on top of the request's skb. When
 * the guest left its own checksum to the device (CHECKSUM_PARTIAL), the skb
 * stays so and the field must hold the sum of the pseudo header alone. BPF
 * can't ask for that state, but the request's field then holds just that sum. */
static __always_inline __u16 udp_checksum(__u16 request_field, __u32 request_pseudo_sum,
					  __u32 pseudo_sum, __u32 message_sum)
{
	__u16 checksum;

	if (request_field && request_field == fold(request_pseudo_sum))
		return fold(pseudo_sum);
	checksum = finish_checksum((__u64)pseudo_sum + message_sum);
	return checksum ? checksum : 0xffff;
}
