/* SPDX-License-Identifier: ISC */
/*
 * AF_UNIX sockets with names, both ends in this program. Runs natively too (in an empty working directory).
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "check.h"

static socklen_t address(struct sockaddr_un *a, const char *name, size_t size)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, name, size);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
}

static int bound(int type, const char *name, size_t size)
{
	struct sockaddr_un a;
	socklen_t length = address(&a, name, size);
	int s = socket(AF_UNIX, type, 0);
	CHECK(s >= 0);
	CHECK_EQ(bind(s, (struct sockaddr *)&a, length), 0);
	return s;
}

static int reach(int type, const char *name, size_t size)
{
	struct sockaddr_un a;
	socklen_t length = address(&a, name, size);
	int s = socket(AF_UNIX, type, 0);
	CHECK(s >= 0);
	if (!connect(s, (struct sockaddr *)&a, length))
		return s;
	int error = errno;
	close(s);
	errno = error;
	return -1;
}

#define PATH "s.sock"

static void streams(void)
{
	struct sockaddr_un a;
	struct stat st;
	socklen_t size = sizeof a;
	char text[16];
	int l = bound(SOCK_STREAM, PATH, sizeof PATH - 1);
	CHECK_EQ(stat(PATH, &st), 0);
	CHECK(S_ISSOCK(st.st_mode));
	CHECK(open(PATH, O_RDWR) < 0 && errno == ENXIO);
	CHECK(reach(SOCK_STREAM, PATH, sizeof PATH) < 0 &&
	      errno == ECONNREFUSED); /* nobody listens */
	CHECK_EQ(listen(l, 1), 0);
	CHECK(reach(SOCK_DGRAM, PATH, sizeof PATH) < 0 && errno == EPROTOTYPE);
	int c = reach(SOCK_STREAM, PATH, sizeof PATH);
	CHECK(c >= 0);
	CHECK_EQ(write(c, "early", 5), 5); /* before accept */
	int s = accept(l, (struct sockaddr *)&a, &size);
	CHECK(s >= 0 && size == 2 && a.sun_family == AF_UNIX);
	CHECK_EQ(read(s, text, sizeof text), 5);
	CHECK_EQ(write(s, "back", 4), 4);
	CHECK_EQ(recv(c, text, sizeof text, 0), 4);
	size = sizeof a;
	CHECK_EQ(getpeername(c, (struct sockaddr *)&a, &size), 0);
	CHECK(size == 2 + sizeof PATH && !strcmp(a.sun_path, PATH));
	CHECK_EQ(getsockname(s, (struct sockaddr *)&a, &size), 0);
	CHECK(!strcmp(a.sun_path, PATH));
	struct ucred who = { 0 };
	size = sizeof who;
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &size), 0);
	CHECK(who.pid == getpid() && who.uid == getuid());
	CHECK_EQ(shutdown(c, SHUT_WR), 0);
	CHECK_EQ(read(s, text, sizeof text), 0);
	close(s);
	CHECK_EQ(read(c, text, sizeof text), 0);
	CHECK(send(c, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	close(c);
	/* a full backlog: nonblocking connect says EAGAIN, a blocking one waits for accept */
	int waiting[2] = { reach(SOCK_STREAM, PATH, sizeof PATH),
			   reach(SOCK_STREAM, PATH, sizeof PATH) };
	CHECK(waiting[0] >= 0 && waiting[1] >= 0);
	CHECK(reach(SOCK_STREAM | SOCK_NONBLOCK, PATH, sizeof PATH) < 0 && errno == EAGAIN);
	close(l);
	CHECK_EQ(read(waiting[0], text, 1) <= 0, 1);
	CHECK(reach(SOCK_STREAM, PATH, sizeof PATH) < 0 && errno == ECONNREFUSED);
	l = socket(AF_UNIX, SOCK_STREAM, 0);
	size = address(&a, PATH, sizeof PATH);
	CHECK(bind(l, (struct sockaddr *)&a, size) < 0 &&
	      errno == EADDRINUSE); /* the node is still there */
	CHECK_EQ(unlink(PATH), 0);
	CHECK(reach(SOCK_STREAM, PATH, sizeof PATH) < 0 && errno == ENOENT);
	CHECK_EQ(bind(l, (struct sockaddr *)&a, size), 0);
	CHECK_EQ(listen(l, 5), 0);
	CHECK_EQ(rename(PATH, "t.sock"), 0);
	CHECK((c = reach(SOCK_STREAM, "t.sock", 7)) >= 0);
	CHECK_EQ(unlink("t.sock"), 0);
	close(c), close(l), close(waiting[0]), close(waiting[1]);
}

static void *echo(void *argument)
{
	char data[4096];
	ssize_t n;
	int s = accept(*(int *)argument, NULL, NULL);
	while ((n = read(s, data, sizeof data)) > 0)
		for (ssize_t done = 0; done < n;)
			done += write(s, data + done, (size_t)(n - done));
	close(s);
	return NULL;
}

static void much_between_threads(void)
{
	static char out[3000], in[3000];
	const char name[] = "\0abstract";
	pthread_t thread;
	int l = bound(SOCK_STREAM, name, sizeof name - 1);
	CHECK_EQ(listen(l, 5), 0);
	CHECK_EQ(pthread_create(&thread, NULL, echo, &l), 0);
	int c = reach(SOCK_STREAM, name, sizeof name - 1);
	CHECK(c >= 0);
	for (unsigned round = 0; round < 500; round++) {
		memset(out, (int)round, sizeof out);
		CHECK_EQ(write(c, out, sizeof out), sizeof out);
		for (size_t done = 0; done < sizeof in;) {
			ssize_t n = read(c, in + done, sizeof in - done);
			CHECK(n > 0);
			done += (size_t)n;
		}
		CHECK(!memcmp(in, out, sizeof in));
	}
	close(c);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(access("abstract", F_OK) < 0);
	int again = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a;
	socklen_t size = address(&a, name, sizeof name - 1);
	CHECK(bind(again, (struct sockaddr *)&a, size) < 0 && errno == EADDRINUSE);
	close(l);
	CHECK_EQ(bind(again, (struct sockaddr *)&a, size), 0); /* gone with its socket */
	close(again);
}

static void datagrams(void)
{
	struct sockaddr_un a, from;
	socklen_t size;
	char text[64];
	int s = bound(SOCK_DGRAM, "d.sock", 6), c = socket(AF_UNIX, SOCK_DGRAM, 0), pending;
	socklen_t to = address(&a, "d.sock", 6);
	CHECK_EQ(sendto(c, "unnamed", 7, 0, (struct sockaddr *)&a, to), 7);
	size = sizeof from;
	CHECK_EQ(recvfrom(s, text, sizeof text, 0, (struct sockaddr *)&from, &size), 7);
	CHECK_EQ(size, 0);
	CHECK_EQ(bind(c, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, 2),
		 0); /* autobind */
	CHECK_EQ(connect(c, (struct sockaddr *)&a, to), 0);
	CHECK_EQ(send(c, "one", 3, 0), 3);
	CHECK_EQ(send(c, "", 0, 0), 0);
	CHECK_EQ(send(c, "three", 5, 0), 5);
	CHECK_EQ(ioctl(s, FIONREAD, &pending), 0);
	CHECK_EQ(recv(s, text, 2, MSG_PEEK | MSG_TRUNC), 3);
	size = sizeof from;
	CHECK_EQ(recvfrom(s, text, sizeof text, 0, (struct sockaddr *)&from, &size), 3);
	CHECK(size == 8 && from.sun_path[0] == 0); /* \0 and five digits */
	CHECK_EQ(recv(s, text, sizeof text, 0), 0);
	CHECK_EQ(sendto(s, "reply", 5, 0, (struct sockaddr *)&from, size), 5);
	CHECK_EQ(recv(c, text, sizeof text, 0), 5);
	CHECK_EQ(recv(s, text, sizeof text, 0), 5);
	/* until it is full; room comes back with a read, and poll says so */
	static char big[8000];
	int count = 0;
	while (send(c, big, sizeof big, MSG_DONTWAIT) == sizeof big)
		CHECK(++count < 10000);
	CHECK(errno == EAGAIN && count > 1);
	struct pollfd p = { c, POLLOUT, 0 };
	while (count--)
		CHECK_EQ(recv(s, big, sizeof big, 0), sizeof big);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	close(s);
	CHECK(send(c, "x", 1, 0) < 0 && errno == ECONNREFUSED);
	CHECK(send(socket(AF_UNIX, SOCK_DGRAM, 0), "x", 1, 0) < 0 && errno == ENOTCONN);
	close(c);
	CHECK_EQ(unlink("d.sock"), 0);
}

static void bad_names(void)
{
	struct sockaddr_un a;
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t size = address(&a, "no/such", 7);
	CHECK(bind(s, (struct sockaddr *)&a, size) < 0 && errno == ENOENT);
	CHECK(bind(s, (struct sockaddr *)&a, 1) < 0 && errno == EINVAL);
	CHECK(connect(s, (struct sockaddr *)&a, sizeof a + 1) < 0 && errno == EINVAL);
	size = address(&a, "/dev/null", 9);
	CHECK(connect(s, (struct sockaddr *)&a, size) < 0 && errno == ECONNREFUSED);
	CHECK(listen(s, 1) < 0 && errno == EINVAL);
	CHECK(accept(s, NULL, NULL) < 0 && errno == EINVAL);
	CHECK(send(s, "x", 1, MSG_NOSIGNAL) < 0 && errno == ENOTCONN);
	CHECK(getpeername(s, (struct sockaddr *)&a, &size) < 0 && errno == ENOTCONN);
	CHECK(socket(AF_UNIX, SOCK_STREAM, 6) < 0 && errno == EPROTONOSUPPORT);
	close(s);
}

int main(void)
{
	RUN(streams);
	RUN(much_between_threads);
	RUN(datagrams);
	RUN(bad_names);
	return 0;
}
