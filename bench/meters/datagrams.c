/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP datagrams at a steady rate from one network namespace to another, and how
 * many of their bytes arrive. The sender's buffer is without bounds, so that a
 * full queue loses datagrams and does not slow it down.
 *
 * Settings: SENDER_NETNS, RECEIVER_NETNS, DESTINATION_IP, BITS_PER_SECOND,
 * DATAGRAM_BYTES, SEGMENTS (datagrams handed over as one packet), SENDER_CPU,
 * RECEIVER_CPU, MILLISECONDS.
 * Prints {"sent": bytes, "received": bytes, "wall_ns": ns}, without headers, all
 * after the warm-up.
 */
#include "meter.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PORT 5201
#define BLOCK 65536
#define BUFFER (256 << 20)
#define WARM_UP_NS 500000000ull

static char block[BLOCK];
static volatile uint64_t *sent; /* shared with the child */

static struct sockaddr_in destination(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	if (inet_pton(AF_INET, setting("DESTINATION_IP"), &address.sin_addr) != 1)
		errx(2, "DESTINATION_IP is no IPv4 address");
	return address;
}

static int new_socket(int buffer_option, int level, int option, int value)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = BUFFER;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, buffer_option, &size, sizeof(size)) ||
	    setsockopt(fd, level, option, &value, sizeof(value)))
		err(1, "UDP socket");
	return fd;
}

/* Child: send until killed. */
static void send_datagrams(void)
{
	struct sockaddr_in to = destination();
	size_t datagram = number_setting("DATAGRAM_BYTES");
	size_t size = datagram * number_setting("SEGMENTS");
	double per_ns = number_setting("BITS_PER_SECOND") / 8e9;

	enter_namespace(setting("SENDER_NETNS"));
	pin_to(number_setting("SENDER_CPU"));
	int fd = new_socket(SO_SNDBUFFORCE, IPPROTO_UDP, UDP_SEGMENT, datagram);

	if (size > BLOCK - 28 || connect(fd, (void *)&to, sizeof(to)))
		err(1, "cannot send to %s", setting("DESTINATION_IP"));
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	for (;;) {
		if (*sent > (clock_ns(CLOCK_MONOTONIC) - start) * per_ns)
			continue; /* to sleep would be too long */
		if (send(fd, block, size, 0) > 0 || errno == ENOBUFS)
			*sent += size;
	}
}

static uint64_t receive_for(int fd, uint64_t duration)
{
	uint64_t start = clock_ns(CLOCK_MONOTONIC), bytes = 0;

	while (clock_ns(CLOCK_MONOTONIC) - start < duration) {
		ssize_t got = recv(fd, block, BLOCK, 0);

		if (got < 0 && errno != EAGAIN)
			err(1, "cannot receive");
		bytes += got > 0 ? got : 0;
	}
	return bytes;
}

int main(void)
{
	struct sockaddr_in at = destination();
	struct timeval patience = { .tv_usec = 10000 };

	sent = mmap(NULL, sizeof(*sent), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sent == MAP_FAILED)
		err(1, "no memory");
	enter_namespace(setting("RECEIVER_NETNS"));
	int fd = new_socket(SO_RCVBUFFORCE, IPPROTO_UDP, UDP_GRO, 1);

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    bind(fd, (void *)&at, sizeof(at)))
		err(1, "cannot receive at %s", setting("DESTINATION_IP"));
	pid_t sender = fork();

	if (!sender)
		send_datagrams();
	pin_to(number_setting("RECEIVER_CPU"));
	receive_for(fd, WARM_UP_NS);
	uint64_t start = clock_ns(CLOCK_MONOTONIC), sent_before = *sent;
	uint64_t received = receive_for(fd, number_setting("MILLISECONDS") * 1000000ull);

	printf("{\"sent\": %lu, \"received\": %lu, \"wall_ns\": %lu}\n", *sent - sent_before,
	       received, clock_ns(CLOCK_MONOTONIC) - start);
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	return 0;
}
