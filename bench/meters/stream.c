/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TCP stream between two network namespaces, sender and receiver on a CPU
 * each. A run is short, so that contenders can take turns within the moods of
 * the machine; the congestion control is named, since defaults differ.
 *
 * Settings: SENDER_NETNS, RECEIVER_NETNS, DESTINATION_IP, CONGESTION_CONTROL,
 * SENDER_CPU, RECEIVER_CPU, MILLISECONDS.
 * Prints {"bytes": received, "wall_ns": ns, "cpu_ns": of both ends}.
 */
#include "meter.h"
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PORT 5201
#define BLOCK (128 << 10)
#define WARM_UP_NS 100000000ull

static char block[BLOCK];

static struct sockaddr_in destination(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	if (inet_pton(AF_INET, setting("DESTINATION_IP"), &address.sin_addr) != 1)
		errx(2, "DESTINATION_IP is no IPv4 address");
	return address;
}

static int new_socket(void)
{
	const char *control = setting("CONGESTION_CONTROL");
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, strlen(control)))
		err(1, "TCP socket with %s", control);
	return fd;
}

/* Child: send until the receiver has had enough. */
static void send_stream(void)
{
	struct sockaddr_in to = destination();

	enter_namespace(setting("SENDER_NETNS"));
	pin_to(number_setting("SENDER_CPU"));
	int fd = new_socket();

	if (connect(fd, (void *)&to, sizeof(to)))
		err(1, "cannot connect to %s", setting("DESTINATION_IP"));
	while (send(fd, block, BLOCK, MSG_NOSIGNAL) > 0)
		;
	exit(0);
}

static uint64_t receive_for(int fd, uint64_t duration)
{
	uint64_t start = clock_ns(CLOCK_MONOTONIC), bytes = 0;

	while (clock_ns(CLOCK_MONOTONIC) - start < duration) {
		ssize_t got = recv(fd, block, BLOCK, 0);

		if (got <= 0)
			err(1, "the stream ended");
		bytes += got;
	}
	return bytes;
}

static uint64_t sender_cpu_ns(pid_t sender)
{
	clockid_t clock;

	if (clock_getcpuclockid(sender, &clock))
		errx(1, "the sender has gone");
	return clock_ns(clock);
}

int main(void)
{
	struct sockaddr_in at = destination();

	enter_namespace(setting("RECEIVER_NETNS"));
	int listener = new_socket();

	if (bind(listener, (void *)&at, sizeof(at)) || listen(listener, 1))
		err(1, "cannot listen on %s", setting("DESTINATION_IP"));
	pid_t sender = fork();

	if (!sender)
		send_stream();
	pin_to(number_setting("RECEIVER_CPU"));
	int fd = accept(listener, NULL, NULL);

	receive_for(fd, WARM_UP_NS);
	uint64_t start = clock_ns(CLOCK_MONOTONIC);
	uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) + sender_cpu_ns(sender);
	uint64_t bytes = receive_for(fd, number_setting("MILLISECONDS") * 1000000ull);

	cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) + sender_cpu_ns(sender) - cpu_ns;
	printf("{\"bytes\": %lu, \"wall_ns\": %lu, \"cpu_ns\": %lu}\n", bytes,
	       clock_ns(CLOCK_MONOTONIC) - start, cpu_ns);
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	return 0;
}
