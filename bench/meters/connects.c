/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New TCP connections, one after the other: connect, accept, close both ends.
 * One thread holds both ends, so that what is measured is the way between them
 * and not a change of processes; its sockets are made before and not timed.
 *
 * Settings: SENDER_NETNS, RECEIVER_NETNS, DESTINATION_IP, CPU,
 * SOFTIRQD_SCHEDSTAT (of that CPU's ksoftirqd), MILLISECONDS (of CPU time).
 * Prints {"connections": opened and closed, "cpu_ns": ns}.
 */
#include "meter.h"
#include <sys/socket.h>

#define FIRST_PORT 5201
#define PORTS 16 /* so that ports of the client don't run out while some wait in TIME_WAIT */
#define BACKLOG 64
#define SOCKETS 500 /* made at a time */
#define PATIENCE_SECONDS 5

struct ends {
	int sender_netns;
	int receiver_netns;
	struct sockaddr_in addresses[PORTS];
	int listeners[PORTS];
	int clients[SOCKETS];
};

static int open_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(1, "network namespace %s", path);
	return fd;
}

static int new_socket(int netns)
{
	struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
	int fd, yes = 1;

	if (setns(netns, CLONE_NEWNET))
		err(1, "cannot enter a network namespace");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		err(1, "TCP socket");
	return fd;
}

static void listen_at_all(struct ends *ends)
{
	for (int i = 0; i < PORTS; i++) {
		struct sockaddr_in *address = &ends->addresses[i];

		address->sin_family = AF_INET;
		address->sin_port = htons(FIRST_PORT + i);
		if (inet_pton(AF_INET, setting("DESTINATION_IP"), &address->sin_addr) != 1)
			errx(2, "DESTINATION_IP is no IPv4 address");
		ends->listeners[i] = new_socket(ends->receiver_netns);
		if (bind(ends->listeners[i], (void *)address, sizeof(*address)) ||
		    listen(ends->listeners[i], BACKLOG))
			err(1, "cannot listen on %s", setting("DESTINATION_IP"));
	}
}

static void connect_and_close(struct ends *ends, int client, int port)
{
	if (connect(client, (void *)&ends->addresses[port], sizeof(ends->addresses[port])))
		err(1, "cannot connect to %s", setting("DESTINATION_IP"));
	int server = accept4(ends->listeners[port], NULL, NULL, SOCK_CLOEXEC);

	if (server < 0)
		err(1, "no connection arrives at %s", setting("DESTINATION_IP"));
	close(client);
	close(server);
}

/* CPU time of so many connections. */
static uint64_t some_connections(struct ends *ends)
{
	uint64_t softirqd_ns = schedstat_ns(setting("SOFTIRQD_SCHEDSTAT")), cpu_ns;

	for (int i = 0; i < SOCKETS; i++)
		ends->clients[i] = new_socket(ends->sender_netns);
	cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (int i = 0; i < SOCKETS; i++)
		connect_and_close(ends, ends->clients[i], i % PORTS);
	return clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns +
	       schedstat_ns(setting("SOFTIRQD_SCHEDSTAT")) - softirqd_ns;
}

int main(void)
{
	uint64_t duration = number_setting("MILLISECONDS") * 1000000ull, cpu_ns = 0, count = 0;
	static struct ends ends;

	ends.sender_netns = open_namespace(setting("SENDER_NETNS"));
	ends.receiver_netns = open_namespace(setting("RECEIVER_NETNS"));
	listen_at_all(&ends);
	pin_to(number_setting("CPU"));
	some_connections(&ends); /* warms caches up */
	for (; cpu_ns < duration; count += SOCKETS)
		cpu_ns += some_connections(&ends);
	printf("{\"connections\": %lu, \"cpu_ns\": %lu}\n", count, cpu_ns);
	return 0;
}
