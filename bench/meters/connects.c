/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New TCP connections, one after the other: connect, close. Both ends run on
 * one CPU; what counts is the CPU time of both and of the soft interrupts.
 *
 * Settings: SENDER_NETNS, RECEIVER_NETNS, DESTINATION_IP, CPU,
 * SOFTIRQD_SCHEDSTAT (of that CPU's ksoftirqd), MILLISECONDS.
 * Prints {"connections": opened and closed, "wall_ns": ns, "cpu_ns": ns}.
 */
#include "meter.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/epoll.h>

#define FIRST_PORT 5201
#define PORTS 16 /* so that ports of the client don't run out while some wait in TIME_WAIT */
#define BACKLOG 64
#define WARM_UP 200
#define PATIENCE_SECONDS 5

static struct sockaddr_in server_address(int number)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(FIRST_PORT + number % PORTS) };

	if (inet_pton(AF_INET, setting("DESTINATION_IP"), &address.sin_addr) != 1)
		errx(2, "DESTINATION_IP is no IPv4 address");
	return address;
}

static void listen_at(int number, int poll)
{
	struct sockaddr_in at = server_address(number);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    bind(fd, (void *)&at, sizeof(at)) || listen(fd, BACKLOG) ||
	    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event))
		err(1, "cannot listen on %s", setting("DESTINATION_IP"));
}

/* Take each connection, wait until the client closes it, close it. */
static void serve(int poll)
{
	struct epoll_event event;
	char byte;

	for (;;) {
		if (epoll_wait(poll, &event, 1, -1) != 1)
			continue;
		int fd = accept4(event.data.fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		while (recv(fd, &byte, 1, 0) > 0)
			;
		close(fd);
	}
}

static pid_t start_server(void)
{
	int poll = epoll_create1(EPOLL_CLOEXEC);

	enter_namespace(setting("RECEIVER_NETNS"));
	for (int number = 0; number < PORTS; number++)
		listen_at(number, poll);
	pid_t server = fork();

	if (server)
		return server;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	serve(poll);
	return 0;
}

static void connect_and_close(int number)
{
	struct sockaddr_in to = server_address(number);
	struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (void *)&to, sizeof(to)))
		err(1, "cannot connect to %s", setting("DESTINATION_IP"));
	close(fd);
}

static uint64_t cpu_ns_with(clockid_t server)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + clock_ns(server) +
	       schedstat_ns(setting("SOFTIRQD_SCHEDSTAT"));
}

int main(void)
{
	uint64_t duration = number_setting("MILLISECONDS") * 1000000ull;
	clockid_t clock;
	int number = 0;

	pin_to(number_setting("CPU"));
	pid_t server = start_server();

	if (clock_getcpuclockid(server, &clock))
		errx(1, "the server has gone");
	enter_namespace(setting("SENDER_NETNS"));
	while (number < WARM_UP)
		connect_and_close(number++);
	uint64_t start = clock_ns(CLOCK_MONOTONIC), cpu_ns = cpu_ns_with(clock);

	while (clock_ns(CLOCK_MONOTONIC) - start < duration)
		connect_and_close(number++);
	printf("{\"connections\": %d, \"wall_ns\": %lu, \"cpu_ns\": %lu}\n", number - WARM_UP,
	       clock_ns(CLOCK_MONOTONIC) - start, cpu_ns_with(clock) - cpu_ns);
	kill(server, SIGKILL);
	return 0;
}
