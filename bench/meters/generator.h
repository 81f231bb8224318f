/* SPDX-License-Identifier: Apache-2.0 */
/* Sends frames of many flows from a container, as flows.bpf.c makes them. */
#pragma once

#include "meter.h"
#include "flows.h"
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>

#define BATCH 64
#define SLICE (1 << 14) /* frames that are sent by one system call */

struct generator {
	struct bpf_object *object;
	int ifindex; /* of the container's device */
	int netns; /* of the container */
	struct recipe recipe;
};

/* A veth takes XDP frames from its peer only while it has a NAPI, which GRO
 * gives it. */
static inline void switch_gro_on(const char *device)
{
	struct ethtool_value value = { .cmd = ETHTOOL_SGRO, .data = 1 };
	struct ifreq request = { .ifr_data = (void *)&value };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCETHTOOL, &request))
		err(1, "GRO of %s", device);
	close(fd);
}

static inline void address_frame(struct recipe *recipe, const char *source_mac,
				 const char *destination_mac, const char *source_ip,
				 const char *destination_ip)
{
	struct ethhdr *ethernet = (void *)recipe->frame;
	struct iphdr *ip = (void *)(ethernet + 1);

	parse_mac(source_mac, ethernet->h_source);
	parse_mac(destination_mac, ethernet->h_dest);
	ethernet->h_proto = htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->tot_len = htons(FRAME_BYTES - sizeof(*ethernet));
	if (inet_pton(AF_INET, source_ip, &ip->saddr) != 1 ||
	    inet_pton(AF_INET, destination_ip, &ip->daddr) != 1)
		errx(2, "no IPv4 address: %s or %s", source_ip, destination_ip);
}

static inline void fill_frame(struct recipe *recipe, uint8_t protocol)
{
	struct iphdr *ip = (void *)(recipe->frame + sizeof(struct ethhdr));
	struct udphdr *udp = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	uint32_t mark = MARK;

	ip->protocol = protocol;
	ip->check = ip_checksum(ip);
	if (protocol == IPPROTO_TCP) {
		tcp->doff = sizeof(*tcp) / 4;
		tcp->syn = 1;
		tcp->window = htons(65535);
	} else {
		udp->len = htons(FRAME_BYTES - sizeof(struct ethhdr) - sizeof(*ip));
	}
	memcpy(recipe->frame + MARK_OFFSET, &mark, sizeof(mark));
}

static inline void start_over(struct generator *generator)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t zeros[cpus];
	uint32_t first = 0;

	memset(zeros, 0, sizeof(zeros));
	bpf_map_update_elem(bpf_object__find_map_fd_by_name(generator->object, "recipes"), &first,
			    &generator->recipe, 0);
	bpf_map_update_elem(bpf_object__find_map_fd_by_name(generator->object, "sent"), &first,
			    zeros, 0);
}

/* Send the next frames. */
static inline void send_frames(struct generator *generator, uint32_t count)
{
	struct xdp_md context = {
		.data_end = FRAME_BYTES,
		.ingress_ifindex = generator->ifindex,
	};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = generator->recipe.frame,
		    .data_size_in = FRAME_BYTES, .ctx_in = &context,
		    .ctx_size_in = sizeof(context), .repeat = count,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);
	int error;

	if (setns(generator->netns, CLONE_NEWNET))
		err(1, "network namespace of the generator");
	error = bpf_prog_test_run_opts(program_fd(generator->object, "transmit"), &options);
	if (error)
		errx(1, "cannot send live XDP frames: %s", strerror(-error));
}

/* A generator at DEVICE of a container whose other end is host_device of
 * SWITCH_NETNS. */
static inline struct generator new_generator(struct bpf_object *object, const char *netns,
					     const char *host_device)
{
	struct generator generator = { .object = object };

	enter_namespace(setting("SWITCH_NETNS"));
	switch_gro_on(host_device);
	enter_namespace(netns);
	generator.netns = open(netns, O_RDONLY | O_CLOEXEC);
	generator.ifindex = if_nametoindex(setting("DEVICE"));
	generator.recipe.flows = number_setting("FLOWS");
	generator.recipe.first_flow = number_setting("FIRST_FLOW");
	return generator;
}
