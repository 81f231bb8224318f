/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round-trip times of ICMP echo, in nanoseconds where ping(8) has microseconds.
 *
 * Settings: SENDER_NETNS, DESTINATION_IP, COUNT, CPU.
 * Prints {"median_ns": ns, "count": replies}.
 */
#include "meter.h"
#include <linux/icmp.h>
#include <sys/socket.h>

#define DATA_BYTES 56 /* as ping(8) sends by default */
#define WARM_UP 50

struct echo {
	struct icmphdr header;
	uint8_t data[DATA_BYTES];
};

static int open_socket(void)
{
	struct timeval patience = { .tv_sec = 1 };
	struct sockaddr_in to = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);

	if (inet_pton(AF_INET, setting("DESTINATION_IP"), &to.sin_addr) != 1)
		errx(2, "DESTINATION_IP is no IPv4 address");
	if (fd < 0 || connect(fd, (void *)&to, sizeof(to)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		err(1, "ICMP socket");
	return fd;
}

static uint16_t echo_checksum(const struct echo *echo)
{
	const uint16_t *words = (const void *)echo;
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(*echo) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static void await_reply(int fd, uint16_t id, uint16_t sequence)
{
	struct {
		struct iphdr ip;
		struct echo echo;
	} reply;

	do {
		if (recv(fd, &reply, sizeof(reply), 0) < 0)
			err(1, "no reply from %s", setting("DESTINATION_IP"));
	} while (reply.echo.header.type != ICMP_ECHOREPLY ||
		 reply.echo.header.un.echo.id != id ||
		 reply.echo.header.un.echo.sequence != sequence);
}

static uint64_t round_trip(int fd, uint16_t sequence)
{
	struct echo echo = { .header.type = ICMP_ECHO };
	uint16_t id = getpid();

	echo.header.un.echo.id = id;
	echo.header.un.echo.sequence = sequence;
	echo.header.checksum = echo_checksum(&echo);
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	if (send(fd, &echo, sizeof(echo), 0) < 0)
		err(1, "cannot ping %s", setting("DESTINATION_IP"));
	await_reply(fd, id, sequence);
	return clock_ns(CLOCK_MONOTONIC) - start;
}

static int by_value(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

int main(void)
{
	long count = number_setting("COUNT");
	uint64_t *times = calloc(count, sizeof(*times));

	enter_namespace(setting("SENDER_NETNS"));
	pin_to(number_setting("CPU"));
	int fd = open_socket();

	for (int i = 0; i < WARM_UP; i++)
		round_trip(fd, i);
	for (long i = 0; i < count; i++)
		times[i] = round_trip(fd, i);
	qsort(times, count, sizeof(*times), by_value);
	printf("{\"median_ns\": %lu, \"count\": %ld}\n", times[count / 2], count);
	return 0;
}
