/* SPDX-License-Identifier: ISC */
/*
 * A little iperf: sends or takes bytes over one TCP connection for some time.
 *
 *	stream listen PORT take|give SECONDS    one client; then ends
 *	stream connect HOST PORT give|take SECONDS
 *
 * Who takes prints one line: bytes, seconds, and the processor seconds of the process. Built by
 * wherry cc for the guest and by cc for the host.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 18];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int give(int s, double seconds)
{
	double end = now() + seconds;
	while (now() < end)
		if (write(s, buffer, sizeof buffer) <= 0)
			return 1;
	shutdown(s, SHUT_WR);
	return read(s, buffer, 1) != 0;
}

static int take(int s)
{
	double begin = 0;
	unsigned long long bytes = 0;
	struct rusage u;
	ssize_t n;
	while ((n = read(s, buffer, sizeof buffer)) > 0) {
		if (!bytes)
			begin = now();
		bytes += (unsigned long long)n;
	}
	memset(&u, 0, sizeof u);
	getrusage(RUSAGE_SELF, &u);
	printf("%llu %.6f %.6f\n", bytes, now() - begin,
	       (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6);
	return n < 0;
}

int main(int argc, char **argv)
{
	int s, one = 1;
	if (argc == 5 && !strcmp(argv[1], "listen")) {
		struct sockaddr_in a = { .sin_family = AF_INET,
					 .sin_port = htons((unsigned short)atoi(argv[2])) };
		socklen_t size = sizeof a;
		int l = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(l, (void *)&a, sizeof a) || listen(l, 1) ||
		    getsockname(l, (void *)&a, &size))
			return 2;
		fprintf(stderr, "%u\n", ntohs(a.sin_port));
		s = accept(l, NULL, NULL);
	} else if (argc == 6 && !strcmp(argv[1], "connect")) {
		struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *r;
		if (getaddrinfo(argv[2], argv[3], &hints, &r))
			return 2;
		s = socket(r->ai_family, SOCK_STREAM, 0);
		if (connect(s, r->ai_addr, r->ai_addrlen))
			return 3;
	} else {
		fprintf(stderr, "usage: stream listen PORT take|give SECONDS\n"
				"       stream connect HOST PORT give|take SECONDS\n");
		return 2;
	}
	return strcmp(argv[argc - 2], "give") ? take(s) : give(s, atof(argv[argc - 1]));
}
