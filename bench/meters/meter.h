/* SPDX-License-Identifier: Apache-2.0 */
/* What the meters share: frames, clocks, namespaces, the counting sink. */
#pragma once

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX 2048
#define DISCARD_PORT 9
#define SOURCE_PORT 1234

/* A meter is told what to do by environment variables. */
static inline const char *setting(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		errx(2, "environment variable %s is missing", name);
	return value;
}

static inline long number_setting(const char *name)
{
	return atol(setting(name));
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static inline void parse_mac(const char *text, uint8_t *mac)
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3,
		   mac + 4, mac + 5) != 6)
		errx(2, "not a MAC address: %s", text);
}

static inline uint16_t ip_checksum(const void *header)
{
	const uint16_t *words = header;
	uint32_t sum = 0;

	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* A UDP datagram from SOURCE_MAC and SOURCE_IP to DESTINATION_MAC and
 * DESTINATION_IP; length counts from the Ethernet header to the last byte
 * before the frame check sequence. */
static inline void build_frame(uint8_t *frame, int length)
{
	struct ethhdr *ethernet = (void *)frame;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *udp = (void *)(ip + 1);

	parse_mac(setting("SOURCE_MAC"), ethernet->h_source);
	parse_mac(setting("DESTINATION_MAC"), ethernet->h_dest);
	ethernet->h_proto = htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->tot_len = htons(length - sizeof(*ethernet));
	if (inet_pton(AF_INET, setting("SOURCE_IP"), &ip->saddr) != 1 ||
	    inet_pton(AF_INET, setting("DESTINATION_IP"), &ip->daddr) != 1)
		errx(2, "SOURCE_IP or DESTINATION_IP is no IPv4 address");
	ip->check = ip_checksum(ip);
	udp->source = htons(SOURCE_PORT);
	udp->dest = htons(DISCARD_PORT);
	udp->len = htons(length - sizeof(*ethernet) - sizeof(*ip));
}

static inline void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "cannot run on CPU %d", cpu);
}

static inline void enter_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "network namespace %s", path);
	close(fd);
}

static inline struct bpf_object *load_programs(const char *path)
{
	struct bpf_object *object = bpf_object__open(path);

	if (!object || bpf_object__load(object))
		errx(1, "cannot load %s", path);
	return object;
}

static inline int program_fd(struct bpf_object *object, const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(object, name));
}

static inline void attach_filter(int ifindex, enum bpf_tc_attach_point point, int fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = fd, .handle = 1, .priority = 1,
		    .flags = BPF_TC_F_REPLACE);
	int created = bpf_tc_hook_create(&hook);

	if ((created && created != -EEXIST) || bpf_tc_attach(&hook, &options))
		errx(1, "cannot attach a filter to interface %d", ifindex);
}

static inline void detach_filter(int ifindex, enum bpf_tc_attach_point point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = 1, .priority = 1);

	bpf_tc_detach(&hook, &options);
}

static inline uint64_t delivered_frames(struct bpf_object *object)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t counts[cpus], sum = 0;
	uint32_t first = 0;

	if (bpf_map_lookup_elem(bpf_object__find_map_fd_by_name(object, "delivered"), &first,
				counts))
		err(1, "cannot read the sink's counter");
	for (int i = 0; i < cpus; i++)
		sum += counts[i];
	return sum;
}

/* CPU time that a task has used, ns. */
static inline uint64_t schedstat_ns(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long run = 0;

	if (!file || fscanf(file, "%llu", &run) != 1)
		err(1, "%s", path);
	fclose(file);
	return run;
}
