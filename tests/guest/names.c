/* SPDX-License-Identifier: ISC */
/* Names and addresses on the default link: what the gateway answers and refuses. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

/* Does the name have the address? */
static int resolves(const char *name, int family, const char *address)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = family }, *r;
	int found = 0;
	if (getaddrinfo(name, "80", &hints, &r))
		return 0;
	for (struct addrinfo *a = r; a; a = a->ai_next) {
		char text[INET6_ADDRSTRLEN];
		CHECK_EQ(getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0,
				     NI_NUMERICHOST),
			 0);
		found |= !strcmp(text, address);
	}
	freeaddrinfo(r);
	return found;
}

/* The first question goes out before anything is known about the link. A lost one would be
 * asked again by the C library after 2.5 s. */
static void first_question(void)
{
	struct timespec begin, end;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	CHECK(resolves("gateway.internal", AF_UNSPEC, "10.0.2.2"));
	clock_gettime(CLOCK_MONOTONIC, &end);
	CHECK(end.tv_sec - begin.tv_sec < 2);
}

static void local_names(void)
{
	CHECK(resolves("gateway.internal", AF_UNSPEC, "fd77:6865:7272:7900::2"));
	CHECK(resolves("host.internal", AF_INET, "10.0.2.2"));
	CHECK(resolves("HOST.internal", AF_INET6, "fd77:6865:7272:7900::2"));
	CHECK(resolves("localhost", AF_INET, "127.0.0.1"));
	CHECK(!resolves("host.internal", AF_INET, "127.0.0.1"));
}

static int connect_error(int type, const char *address, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
	CHECK_EQ(inet_pton(AF_INET, address, &a.sin_addr), 1);
	int s = socket(AF_INET, type, 0), error = 0;
	char c = 'x';
	CHECK(s >= 0);
	if (connect(s, (struct sockaddr *)&a, sizeof a) ||
	    (type == SOCK_DGRAM && (write(s, &c, 1) < 0 || read(s, &c, 1) < 0)))
		error = errno;
	close(s);
	return error;
}

/* The host's loopback is not reachable, whatever listens there. */
static void refusals(void)
{
	CHECK_EQ(connect_error(SOCK_STREAM, "10.0.2.2", 22), ECONNREFUSED);
	CHECK_EQ(connect_error(SOCK_STREAM, "10.0.2.3", 80), ECONNREFUSED);
	CHECK_EQ(connect_error(SOCK_DGRAM, "10.0.2.2", 9), ECONNREFUSED);
	CHECK(connect_error(SOCK_STREAM, "0.0.0.1", 80) != 0);
}

int main(void)
{
	RUN(first_question);
	RUN(local_names);
	RUN(refusals);
	return 0;
}
