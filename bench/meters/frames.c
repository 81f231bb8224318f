/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU time per frame from one container to another.
 *
 * Live XDP frames leave the sending container's veth, so that each enters the
 * host end's NAPI as an arriving frame does; a tc ingress program on the
 * receiving container's veth counts and drops them. Soft interrupts run on the
 * generator's CPU, in its time or in ksoftirqd's: the sum is the cost of
 * generating, forwarding and dropping one frame.
 *
 * Settings: PROGRAMS, SWITCH_NETNS, SWITCH_DEVICE (the sender's host end),
 * SENDER_NETNS, RECEIVER_NETNS, DEVICE (in both), SOURCE_MAC, DESTINATION_MAC,
 * SOURCE_IP, DESTINATION_IP, LENGTH (without the frame check sequence), CPU,
 * SOFTIRQD_SCHEDSTAT (of that CPU's ksoftirqd), MILLISECONDS.
 * Prints {"sent": frames, "delivered": frames, "cpu_ns": ns}.
 */
#include "meter.h"
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#define BATCH 64
#define REPEAT (1 << 14)

struct generator {
	int program;
	int ifindex;
	int length;
	uint8_t frame[FRAME_MAX];
};

static uint32_t switch_gro(uint32_t command, uint32_t on)
{
	struct ethtool_value value = { .cmd = command, .data = on };
	struct ifreq request = { .ifr_data = (void *)&value };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(request.ifr_name, setting("SWITCH_DEVICE"), IFNAMSIZ - 1);
	if (ioctl(fd, SIOCETHTOOL, &request))
		err(1, "GRO of %s", request.ifr_name);
	close(fd);
	return value.data;
}

static void send_frames(struct generator *generator)
{
	struct xdp_md context = {
		.data_end = generator->length,
		.ingress_ifindex = generator->ifindex,
	};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = generator->frame,
		    .data_size_in = generator->length, .ctx_in = &context,
		    .ctx_size_in = sizeof(context), .repeat = REPEAT,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);
	int error = bpf_prog_test_run_opts(generator->program, &options);

	if (error)
		errx(1, "cannot send live XDP frames: %s", strerror(-error));
}

static void measure(struct generator *generator, struct bpf_object *object)
{
	const char *softirqd = setting("SOFTIRQD_SCHEDSTAT");
	uint64_t duration = number_setting("MILLISECONDS") * 1000000ull;

	send_frames(generator); /* warms caches and flow tables up */
	uint64_t sent = 0, delivered = delivered_frames(object);
	uint64_t softirqd_ns = schedstat_ns(softirqd);
	uint64_t start = clock_ns(CLOCK_MONOTONIC);
	uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	for (; clock_ns(CLOCK_MONOTONIC) - start < duration; sent += REPEAT)
		send_frames(generator);
	cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns + schedstat_ns(softirqd) - softirqd_ns;
	printf("{\"sent\": %lu, \"delivered\": %lu, \"cpu_ns\": %lu}\n", sent,
	       delivered_frames(object) - delivered, cpu_ns);
}

int main(void)
{
	struct bpf_object *object = load_programs(setting("PROGRAMS"));
	struct generator generator = {
		.program = program_fd(object, "transmit"),
		.length = number_setting("LENGTH"),
	};
	uint32_t first = 0;

	build_frame(generator.frame, generator.length);
	bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "headers"), &first,
			    generator.frame, 0);

	/* A veth takes XDP frames from its peer only while it has a NAPI,
	 * which GRO gives it. */
	enter_namespace(setting("SWITCH_NETNS"));
	uint32_t gro = switch_gro(ETHTOOL_GGRO, 0);
	switch_gro(ETHTOOL_SGRO, 1);
	enter_namespace(setting("RECEIVER_NETNS"));
	int receiver = if_nametoindex(setting("DEVICE"));
	attach_filter(receiver, BPF_TC_INGRESS, program_fd(object, "sink"));
	enter_namespace(setting("SENDER_NETNS"));
	generator.ifindex = if_nametoindex(setting("DEVICE"));

	pin_to(number_setting("CPU"));
	measure(&generator, object);

	enter_namespace(setting("RECEIVER_NETNS"));
	detach_filter(receiver, BPF_TC_INGRESS);
	enter_namespace(setting("SWITCH_NETNS"));
	switch_gro(ETHTOOL_SGRO, gro);
	return 0;
}
