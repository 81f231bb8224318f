/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU time per frame from one TAP to another.
 *
 * A thread writes frames to a TAP as QEMU does (with a virtio-net header);
 * the kernel forwards each within the write and a filter of the other TAP counts
 * and drops it, so the writer's CPU time is the whole cost.
 *
 * Settings: PROGRAMS, SOURCE_TAP, DESTINATION_TAP (both must exist),
 * SOURCE_MAC, DESTINATION_MAC, SOURCE_IP, DESTINATION_IP, LENGTH, CPU,
 * MILLISECONDS, and FORWARDING: "redirect" puts the least program at the first
 * TAP, "sink" drops and counts there already, "given" leaves what is there.
 * Prints {"sent": frames, "delivered": frames, "cpu_ns": ns}.
 */
#include "meter.h"
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/ioctl.h>

#define SLICE 1000
#define PATIENCE_NS 5000000000ull

static int open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		err(1, "TAP %s", name);
	return fd;
}

static void put_least_program(struct bpf_object *object, const char *program)
{
	uint32_t first = 0, ifindex = if_nametoindex(setting("DESTINATION_TAP"));

	if (!strcmp(program, "given"))
		return;
	bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "target"), &first, &ifindex, 0);
	attach_filter(if_nametoindex(setting("SOURCE_TAP")), BPF_TC_INGRESS,
		      program_fd(object, program));
}

static void write_slice(int tap, const uint8_t *packet, int length)
{
	for (int i = 0; i < SLICE; i++)
		if (write(tap, packet, length) != length)
			err(1, "cannot write to %s", setting("SOURCE_TAP"));
}

/* A TAP that was just opened gets its carrier, and with it its place in the
 * topology, a moment later. */
static void await_forwarding(int tap, struct bpf_object *object, const uint8_t *packet, int length)
{
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	while (!delivered_frames(object)) {
		if (clock_ns(CLOCK_MONOTONIC) - start > PATIENCE_NS)
			errx(1, "nothing arrives at %s", setting("DESTINATION_TAP"));
		write_slice(tap, packet, length);
	}
}

static void measure(int tap, struct bpf_object *object)
{
	uint8_t packet[sizeof(struct virtio_net_hdr) + FRAME_MAX] = {};
	int length = number_setting("LENGTH");
	uint64_t duration = number_setting("MILLISECONDS") * 1000000ull;
	uint64_t sent = 0;

	build_frame(packet + sizeof(struct virtio_net_hdr), length);
	length += sizeof(struct virtio_net_hdr);
	await_forwarding(tap, object, packet, length);
	write_slice(tap, packet, length); /* warms caches and flow tables up */
	uint64_t delivered = delivered_frames(object);
	uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID), used;

	do {
		write_slice(tap, packet, length);
		sent += SLICE;
		used = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
	} while (used < duration);
	printf("{\"sent\": %lu, \"delivered\": %lu, \"cpu_ns\": %lu}\n", sent,
	       delivered_frames(object) - delivered, used);
}

int main(void)
{
	struct bpf_object *object = load_programs(setting("PROGRAMS"));
	int source = open_tap(setting("SOURCE_TAP"));
	int destination = open_tap(setting("DESTINATION_TAP"));
	int sink = program_fd(object, "tap_sink");

	put_least_program(object, setting("FORWARDING"));
	if (ioctl(destination, TUNSETFILTEREBPF, &sink))
		err(1, "filter of %s", setting("DESTINATION_TAP"));
	pin_to(number_setting("CPU"));
	measure(source, object);
	return 0;
}
