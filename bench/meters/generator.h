/* SPDX-License-Identifier: Apache-2.0 */
/* Sends frames of many flows from a container, as flows.bpf.c makes them. */
#pragma once

#include "meter.h"
#include "flows.h"
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#define BATCH TOGETHER
#define SLICE (1 << 14) /* frames that are sent by one system call */
#define PATIENCE_NS 1000000000ull

struct generator {
	struct bpf_object *object;
	int ifindex; /* of the container's device */
	int netns; /* of the container */
	const char *program;
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

/* UDP, or TCP with SYN. */
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
	error = bpf_prog_test_run_opts(program_fd(generator->object, generator->program), &options);
	if (error)
		errx(1, "cannot send live XDP frames: %s", strerror(-error));
}

/* Whoever forwards delivers when it comes to it; what is lost is not waited for. */
static inline void await_delivery(struct bpf_object *object, uint64_t count)
{
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	while (delivered_frames(object) < count && clock_ns(CLOCK_MONOTONIC) - start < PATIENCE_NS)
		usleep(100);
}

/* One frame of each flow, and then wait for all of them: returns how many came. */
static inline uint64_t one_of_each(struct generator *generator)
{
	uint64_t before = delivered_frames(generator->object);

	start_over(generator);
	send_frames(generator, generator->recipe.flows);
	await_delivery(generator->object, before + generator->recipe.flows);
	return delivered_frames(generator->object) - before;
}

/* CPU time of this thread, and of the soft interrupts that follow from its frames. */
static inline uint64_t own_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID) + schedstat_ns(setting("SOFTIRQD_SCHEDSTAT"));
}

static inline void put_sink(struct bpf_object *object, const char *netns)
{
	enter_namespace(netns);
	attach_filter(if_nametoindex(setting("DEVICE")), BPF_TC_INGRESS,
		      program_fd(object, "sink"));
}

static inline void remove_sink(const char *netns)
{
	enter_namespace(netns);
	detach_filter(if_nametoindex(setting("DEVICE")), BPF_TC_INGRESS);
}

/* A generator at DEVICE of a container whose other end is host_device of
 * SWITCH_NETNS. */
static inline struct generator new_generator(struct bpf_object *object, const char *netns,
					     const char *host_device)
{
	struct generator generator = { .object = object, .program = "transmit" };

	enter_namespace(setting("SWITCH_NETNS"));
	switch_gro_on(host_device);
	enter_namespace(netns);
	generator.netns = open(netns, O_RDONLY | O_CLOEXEC);
	generator.ifindex = if_nametoindex(setting("DEVICE"));
	generator.recipe.flows = number_setting("FLOWS");
	generator.recipe.first_flow = number_setting("FIRST_FLOW");
	generator.recipe.stride = number_setting("STRIDE");
	generator.recipe.other_port = number_setting("FIRST_PORT");
	return generator;
}

/* Generators at both containers of a pair, the one that opens flows first. */
static inline void new_generators(struct bpf_object *object, uint8_t protocol,
				  struct generator *opener, struct generator *replier)
{
	*opener = new_generator(object, setting("SENDER_NETNS"), setting("SENDER_PORT"));
	*replier = new_generator(object, setting("RECEIVER_NETNS"), setting("RECEIVER_PORT"));
	address_frame(&opener->recipe, setting("SOURCE_MAC"), setting("DESTINATION_MAC"),
		      setting("SOURCE_IP"), setting("DESTINATION_IP"));
	address_frame(&replier->recipe, setting("REPLY_SOURCE_MAC"),
		      setting("REPLY_DESTINATION_MAC"), setting("DESTINATION_IP"),
		      setting("SOURCE_IP"));
	fill_frame(&opener->recipe, protocol);
	fill_frame(&replier->recipe, protocol);
	replier->recipe.reply = 1;
	put_sink(object, setting("SENDER_NETNS"));
	put_sink(object, setting("RECEIVER_NETNS"));
	pin_to(number_setting("CPU"));
}

static inline void remove_sinks(void)
{
	remove_sink(setting("SENDER_NETNS"));
	remove_sink(setting("RECEIVER_NETNS"));
}
