/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of QEMU that is between a guest and its network, with a container in
 * place of the guest: takes frames from a TAP in the container's namespace and
 * hands them to a TAP of the host, whole and with their virtio-net headers, or
 * to a UDP socket, each as a datagram, as `-netdev dgram` does. So the ends of a
 * ladder of ways between guests need no emulated CPU.
 *
 * Settings: INNER_NETNS, INNER_TAP, OUTER_NETNS, CPU, and either OUTER_TAP, or
 * OUTER_TAP empty and LOCAL_IP, REMOTE_IP, UDP_PORT. The TAPs exist; with
 * OUTER_TAP both have virtio-net headers, else the inner one has none.
 * Says "up" and runs until it is killed or its parent has gone.
 */
#include "meter.h"
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define FRAMES_AT_ONCE 64
#define LARGEST (1 << 17)
#define SOCKET_BUFFER (1 << 20)
/* Newer than Debian 12's headers (Linux 6.2). */
#define USO4 0x20
#define USO6 0x40

static char frame[LARGEST];

static int open_tap(const char *netns, const char *name, int header)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | header };
	unsigned long offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	int fd;

	enter_namespace(netns);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		err(1, "TAP %s", name);
	if (header && ioctl(fd, TUNSETOFFLOAD, offloads | USO4 | USO6) &&
	    ioctl(fd, TUNSETOFFLOAD, offloads))
		err(1, "offloads of TAP %s", name);
	return fd;
}

static struct sockaddr_in address(const char *name)
{
	struct sockaddr_in found = { .sin_family = AF_INET,
				     .sin_port = htons(number_setting("UDP_PORT")) };

	if (inet_pton(AF_INET, setting(name), &found.sin_addr) != 1)
		errx(2, "%s is no IPv4 address", name);
	return found;
}

static int open_socket(const char *netns)
{
	struct sockaddr_in local = address("LOCAL_IP"), remote = address("REMOTE_IP");
	int size = SOCKET_BUFFER, fd;

	enter_namespace(netns);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (void *)&local, sizeof(local)) ||
	    connect(fd, (void *)&remote, sizeof(remote)))
		err(1, "UDP socket at %s", setting("LOCAL_IP"));
	return fd;
}

/* Frames for which the other side has no room are lost, as QEMU loses them. */
static void pass(int from, int to)
{
	for (int i = 0; i < FRAMES_AT_ONCE; i++) {
		ssize_t got = read(from, frame, sizeof(frame));

		if (got <= 0)
			return;
		if (write(to, frame, got) < 0 && errno != EAGAIN && errno != ENOBUFS &&
		    errno != ECONNREFUSED && errno != EIO)
			err(1, "cannot hand over a frame of %zd bytes", got);
	}
}

int main(void)
{
	const char *outer_tap = setting("OUTER_TAP");
	int header = *outer_tap ? IFF_VNET_HDR : 0;
	struct pollfd ends[2] = { { .events = POLLIN }, { .events = POLLIN } };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ends[0].fd = open_tap(setting("INNER_NETNS"), setting("INNER_TAP"), header);
	ends[1].fd = *outer_tap ? open_tap(setting("OUTER_NETNS"), outer_tap, header) :
				  open_socket(setting("OUTER_NETNS"));
	pin_to(number_setting("CPU"));
	puts("up");
	fflush(stdout);
	while (poll(ends, 2, -1) > 0) {
		pass(ends[0].fd, ends[1].fd);
		pass(ends[1].fd, ends[0].fd);
	}
	return 0;
}
