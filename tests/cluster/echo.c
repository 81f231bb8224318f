/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Echoes what comes through any number of TCP connections: echo PORT */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 20000
#define BACKLOG 4096

static int listening(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG))
		exit(1);
	return fd;
}

static void add(int epoll, int fd)
{
	struct epoll_event wanted = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted))
		exit(1);
}

static void answer(int fd)
{
	char text[512];
	ssize_t length = read(fd, text, sizeof(text));

	if (length <= 0 || write(fd, text, length) != length)
		close(fd);
}

int main(int count, char **words)
{
	struct rlimit files = { CONNECTIONS_MAX, CONNECTIONS_MAX };
	struct epoll_event ready[64];
	int server, epoll = epoll_create1(0);

	if (count != 2 || setrlimit(RLIMIT_NOFILE, &files))
		return 1;
	server = listening(atoi(words[1]));
	add(epoll, server);
	for (;;) {
		int events = epoll_wait(epoll, ready, 64, -1);

		for (int i = 0; i < events; i++) {
			if (ready[i].data.fd == server)
				add(epoll, accept(server, NULL, NULL));
			else
				answer(ready[i].data.fd);
		}
	}
}
