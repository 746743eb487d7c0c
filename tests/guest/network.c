/* SPDX-License-Identifier: ISC */
/* A server that echoes, as the script `network` wants it: TCP on port 7 with one thread a
 * connection, UDP on port 7. `push HOST PORT` connects, writes a megabyte and ends at once. */
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include "check.h"

static void *serve(void *argument)
{
	int s = (int)(long)argument;
	static __thread char buffer[16384];
	ssize_t n;
	while ((n = read(s, buffer, sizeof buffer)) > 0)
		for (ssize_t done = 0, w; done < n; done += w)
			if ((w = write(s, buffer + done, (size_t)(n - done))) <= 0)
				goto out;
out:
	close(s);
	return NULL;
}

static void *datagrams(void *argument)
{
	static char buffer[65536];
	struct sockaddr_storage from;
	for (;;) {
		socklen_t size = sizeof from;
		ssize_t n = recvfrom((int)(long)argument, buffer, sizeof buffer, 0, (void *)&from,
				     &size);
		CHECK(n >= 0);
		(void)sendto((int)(long)argument, buffer, (size_t)n, 0, (void *)&from, size);
	}
}

static int push(const char *host, const char *port)
{
	static char data[1000000];
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *r;
	CHECK_EQ(getaddrinfo(host, port, &hints, &r), 0);
	int s = socket(r->ai_family, SOCK_STREAM, 0);
	CHECK_EQ(connect(s, r->ai_addr, r->ai_addrlen), 0);
	memset(data, 'w', sizeof data);
	CHECK_EQ(write(s, data, sizeof data), sizeof data);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(7) };
	int l = socket(AF_INET6, SOCK_STREAM, 0), u = socket(AF_INET6, SOCK_DGRAM, 0);
	pthread_t thread;
	if (argc == 4)
		return push(argv[2], argv[3]);
	CHECK_EQ(bind(u, (void *)&a, sizeof a), 0);
	CHECK_EQ(pthread_create(&thread, NULL, datagrams, (void *)(long)u), 0);
	CHECK_EQ(bind(l, (void *)&a, sizeof a), 0);
	CHECK_EQ(listen(l, 128), 0);
	for (;;) {
		int s = accept(l, NULL, NULL);
		CHECK(s >= 0);
		CHECK_EQ(pthread_create(&thread, NULL, serve, (void *)(long)s), 0);
		pthread_detach(thread);
	}
}
