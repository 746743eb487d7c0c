/* SPDX-License-Identifier: ISC */
/* Sockets over the loopback: what a program sees must be the same natively. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "check.h"

static int listener(int family, struct sockaddr_storage *address, socklen_t *size)
{
	int one = 1, s = socket(family, SOCK_STREAM, 0);
	CHECK(s >= 0);
	memset(address, 0, sizeof *address);
	if (family == AF_INET) {
		struct sockaddr_in *in = (void *)address;
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		*size = sizeof *in;
	} else {
		struct sockaddr_in6 *in = (void *)address;
		in->sin6_family = AF_INET6;
		in->sin6_addr = in6addr_loopback;
		*size = sizeof *in;
	}
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
	CHECK_EQ(bind(s, (void *)address, *size), 0);
	CHECK_EQ(listen(s, 16), 0);
	CHECK_EQ(getsockname(s, (void *)address, size), 0);
	return s;
}

struct job {
	int fd;
	size_t total;
};

static void *echo_all(void *argument)
{
	struct job *j = argument;
	char buffer[10000];
	ssize_t n;
	while ((n = read(j->fd, buffer, sizeof buffer)) > 0) {
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(j->fd, buffer + done, (size_t)(n - done));
			CHECK(w > 0);
			done += w;
		}
		j->total += (size_t)n;
	}
	CHECK_EQ(n, 0);
	close(j->fd);
	return NULL;
}

static unsigned char pattern(size_t at)
{
	return (unsigned char)(at * 31 + (at >> 9));
}

static void *send_all(void *argument)
{
	struct job *j = argument;
	unsigned char buffer[7001];
	for (size_t at = 0; at < j->total;) {
		size_t n = j->total - at < sizeof buffer ? j->total - at : sizeof buffer;
		for (size_t i = 0; i < n; i++)
			buffer[i] = pattern(at + i);
		ssize_t w = send(j->fd, buffer, n, 0);
		CHECK(w > 0);
		at += (size_t)w;
	}
	CHECK_EQ(shutdown(j->fd, SHUT_WR), 0);
	return NULL;
}

static void stream(int family)
{
	struct sockaddr_storage address, peer;
	socklen_t size, peer_size = sizeof peer;
	int l = listener(family, &address, &size);
	int c = socket(family, SOCK_STREAM, 0);
	CHECK_EQ(connect(c, (void *)&address, size), 0);
	int s = accept(l, (void *)&peer, &peer_size);
	CHECK(s >= 0);
	CHECK_EQ(peer_size, size);
	CHECK_EQ(peer.ss_family, family);
	pthread_t echo, sender;
	struct job ej = { s, 0 }, sj = { c, 500000 };
	CHECK_EQ(pthread_create(&echo, NULL, echo_all, &ej), 0);
	CHECK_EQ(pthread_create(&sender, NULL, send_all, &sj), 0);
	unsigned char buffer[3333];
	size_t at = 0;
	ssize_t n;
	while ((n = recv(c, buffer, sizeof buffer, 0)) > 0)
		for (ssize_t i = 0; i < n; i++, at++)
			if (buffer[i] != pattern(at))
				CHECK(!"bytes differ");
	CHECK_EQ(n, 0);
	CHECK_EQ(at, 500000);
	pthread_join(echo, NULL);
	pthread_join(sender, NULL);
	close(c);
	close(l);
}

static void stream4(void)
{
	stream(AF_INET);
}
static void stream6(void)
{
	stream(AF_INET6);
}

static void refused(void)
{
	struct sockaddr_storage address;
	socklen_t size;
	close(listener(AF_INET, &address, &size));
	int c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_EQ(connect(c, (void *)&address, size), -1);
	CHECK_EQ(errno, ECONNREFUSED);
	close(c);
}

static void nonblocking(void)
{
	struct sockaddr_storage address;
	socklen_t size, n = sizeof(int);
	int l = listener(AF_INET, &address, &size), error = -1;
	CHECK_EQ(fcntl(l, F_SETFL, O_NONBLOCK), 0);
	CHECK_EQ(accept(l, NULL, NULL), -1);
	CHECK_EQ(errno, EAGAIN);
	int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int r = connect(c, (void *)&address, size);
	CHECK(!r || errno == EINPROGRESS);
	struct pollfd p[2] = { { c, POLLOUT, 0 }, { l, POLLIN, 0 } };
	CHECK(poll(p, 1, 1000) == 1 && (p[0].revents & POLLOUT));
	CHECK(poll(p + 1, 1, 1000) == 1 && (p[1].revents & POLLIN));
	CHECK_EQ(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &n), 0);
	CHECK_EQ(error, 0);
	int s = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	CHECK(s >= 0);
	char byte;
	CHECK_EQ(read(s, &byte, 1), -1);
	CHECK_EQ(errno, EAGAIN);
	/* Fill until it would block, then drain. */
	static char big[65536];
	size_t sent = 0, got = 0;
	for (ssize_t w; (w = write(c, big, sizeof big)) > 0;)
		sent += (size_t)w;
	CHECK_EQ(errno, EAGAIN);
	CHECK(sent > 16384);
	int queued = 0;
	while (got < sent) {
		struct pollfd q = { s, POLLIN, 0 };
		CHECK_EQ(poll(&q, 1, 2000), 1);
		CHECK_EQ(ioctl(s, FIONREAD, &queued), 0);
		CHECK(queued > 0);
		ssize_t k = read(s, big, sizeof big);
		CHECK(k > 0);
		got += (size_t)k;
	}
	CHECK_EQ(got, sent);
	close(c);
	struct pollfd q = { s, POLLIN | POLLRDHUP, 0 };
	CHECK_EQ(poll(&q, 1, 2000), 1);
	CHECK(q.revents & POLLRDHUP);
	CHECK_EQ(read(s, &byte, 1), 0);
	close(s);
	close(l);
}

static void reset(void)
{
	struct sockaddr_storage address;
	socklen_t size;
	int l = listener(AF_INET, &address, &size);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_EQ(connect(c, (void *)&address, size), 0);
	int s = accept(l, NULL, NULL);
	struct linger hard = { 1, 0 };
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
	close(s);
	char byte;
	CHECK_EQ(read(c, &byte, 1), -1);
	CHECK_EQ(errno, ECONNRESET);
	signal(SIGPIPE, SIG_IGN);
	CHECK_EQ(send(c, "x", 1, MSG_NOSIGNAL), -1);
	CHECK_EQ(errno, EPIPE);
	CHECK_EQ(write(c, "x", 1), -1);
	CHECK_EQ(errno, EPIPE);
	close(c);
	close(l);
}

static void options(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0), v = 0;
	socklen_t n = sizeof v;
	CHECK_EQ(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n), 0);
	CHECK_EQ(v, SOCK_STREAM);
	v = 1;
	CHECK_EQ(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v), 0);
	v = 0;
	CHECK_EQ(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, &n), 0);
	CHECK(v != 0);
	struct timeval tv = { 0, 20000 };
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	CHECK_EQ(getsockopt(s, 99, 1, &v, &n), -1);
	CHECK_EQ(bind(s, (void *)&(struct sockaddr_in){ .sin_family = AF_INET },
		      sizeof(struct sockaddr_in)),
		 0);
	CHECK_EQ(listen(s, 1), 0);
	CHECK_EQ(accept(s, NULL, NULL), -1);
	CHECK_EQ(errno, EAGAIN);
	close(s);
	CHECK_EQ(send(s, "", 0, 0), -1);
	CHECK_EQ(errno, EBADF);
	CHECK_EQ(send(1, "", 0, 0), -1);
	CHECK_EQ(errno, ENOTSOCK);
}

static void in_use(void)
{
	struct sockaddr_storage address;
	socklen_t size;
	int l = listener(AF_INET, &address, &size);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_EQ(bind(s, (void *)&address, size), -1);
	CHECK_EQ(errno, EADDRINUSE);
	((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(0x01020304);
	CHECK_EQ(bind(s, (void *)&address, size), -1);
	CHECK_EQ(errno, EADDRNOTAVAIL);
	close(s);
	close(l);
}

static void datagram(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in from;
	socklen_t n = sizeof a, m = sizeof from;
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(bind(s, (void *)&a, sizeof a), 0);
	CHECK_EQ(getsockname(s, (void *)&a, &n), 0);
	CHECK_EQ(sendto(c, "hello", 5, 0, (void *)&a, sizeof a), 5);
	CHECK_EQ(sendto(c, "second", 6, 0, (void *)&a, sizeof a), 6);
	char b[64];
	CHECK_EQ(recvfrom(s, b, 3, MSG_TRUNC, (void *)&from, &m), 5);
	CHECK(!memcmp(b, "hel", 3));
	CHECK_EQ(recvfrom(s, b, sizeof b, MSG_PEEK, NULL, NULL), 6);
	CHECK_EQ(recvfrom(s, b, sizeof b, 0, (void *)&from, &m), 6);
	CHECK_EQ(connect(s, (void *)&from, m), 0);
	struct iovec iov[2] = { { "ab", 2 }, { "cd", 2 } };
	CHECK_EQ(writev(s, iov, 2), 4);
	CHECK_EQ(recv(c, b, sizeof b, 0), 4);
	CHECK(!memcmp(b, "abcd", 4));
	CHECK_EQ(recv(c, b, sizeof b, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, EAGAIN);
	/* One that needs fragments on any link. */
	static char big[60000], back[60000];
	memset(big, 7, sizeof big);
	CHECK_EQ(sendto(c, big, sizeof big, 0, (void *)&a, sizeof a), sizeof big);
	CHECK_EQ(recv(s, back, sizeof back, 0), sizeof back);
	CHECK(!memcmp(big, back, sizeof big));
	close(s);
	/* Nobody there any more. */
	CHECK_EQ(connect(c, (void *)&a, sizeof a), 0);
	CHECK_EQ(send(c, "x", 1, 0), 1);
	CHECK_EQ(recv(c, b, sizeof b, 0), -1);
	CHECK_EQ(errno, ECONNREFUSED);
	close(c);
}

static void pair(void)
{
	int p[2];
	char b[8];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	CHECK_EQ(write(p[0], "abc", 3), 3);
	CHECK_EQ(write(p[0], "def", 3), 3);
	CHECK_EQ(read(p[1], b, 8), 6);
	close(p[0]);
	CHECK_EQ(read(p[1], b, 8), 0);
	close(p[1]);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, p), 0);
	CHECK_EQ(write(p[1], "abc", 3), 3);
	CHECK_EQ(write(p[1], "defgh", 5), 5);
	CHECK_EQ(read(p[0], b, 2), 2);
	CHECK_EQ(read(p[0], b, 8), 5);
	close(p[0]);
	close(p[1]);
	CHECK_EQ(socket(AF_UNIX, SOCK_RAW + 77, 0), -1);
}

static void many(void)
{
	struct sockaddr_storage address;
	socklen_t size;
	int l = listener(AF_INET, &address, &size), e = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = l };
	CHECK_EQ(epoll_ctl(e, EPOLL_CTL_ADD, l, &ev), 0);
	for (int round = 0; round < 200; round++) {
		int c[8];
		for (int i = 0; i < 8; i++) {
			c[i] = socket(AF_INET, SOCK_STREAM, 0);
			CHECK_EQ(connect(c[i], (void *)&address, size), 0);
			CHECK_EQ(write(c[i], "ping", 4), 4);
		}
		for (int answered = 0; answered < 8;) {
			struct epoll_event got[4];
			int n = epoll_wait(e, got, 4, 5000);
			CHECK(n > 0);
			for (int i = 0; i < n; i++) {
				int fd = got[i].data.fd;
				if (fd == l) {
					int s = accept4(l, NULL, NULL, SOCK_NONBLOCK);
					CHECK(s >= 0);
					ev.data.fd = s;
					CHECK_EQ(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev), 0);
					continue;
				}
				char b[8];
				CHECK_EQ(read(fd, b, 8), 4);
				CHECK_EQ(write(fd, "pong", 4), 4);
				close(fd);
				answered++;
			}
		}
		for (int i = 0; i < 8; i++) {
			char b[8];
			CHECK_EQ(recv(c[i], b, 8, MSG_WAITALL), 4);
			close(c[i]);
		}
	}
	close(l);
	close(e);
}

static void groups(void)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET6, SOCK_DGRAM, 0);
	struct ip_mreq m = { .imr_interface.s_addr = INADDR_ANY };
	struct ip_mreqn n = { .imr_ifindex = 0 };
	struct ipv6_mreq m6 = { .ipv6mr_interface = 0 };
	struct group_req g = { .gr_interface = 0 };
	m.imr_multiaddr.s_addr = n.imr_multiaddr.s_addr = htonl(0xe00000fb);
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof m), 0);
	CHECK(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &n, sizeof n) < 0 &&
	      errno == EADDRINUSE);
	CHECK_EQ(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &n, sizeof n), 0);
	CHECK(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof m) < 0 &&
	      errno == EADDRNOTAVAIL);
	CHECK(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, 4) < 0 && errno == EINVAL);
	m.imr_multiaddr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof m) < 0 && errno == EINVAL);
	CHECK_EQ(inet_pton(AF_INET6, "ff02::fb", &m6.ipv6mr_multiaddr), 1);
	CHECK_EQ(setsockopt(t, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m6, sizeof m6), 0);
	CHECK_EQ(setsockopt(t, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m6, sizeof m6), 0);
	struct sockaddr_in6 *a6 = (void *)&g.gr_group;
	a6->sin6_family = AF_INET6;
	a6->sin6_addr = m6.ipv6mr_multiaddr;
	CHECK_EQ(setsockopt(t, IPPROTO_IPV6, MCAST_JOIN_GROUP, &g, sizeof g), 0);
	close(s);
	close(t);
}

int main(void)
{
	RUN(groups);
	RUN(stream4);
	RUN(stream6);
	RUN(refused);
	RUN(nonblocking);
	RUN(reset);
	RUN(options);
	RUN(in_use);
	RUN(datagram);
	RUN(pair);
	RUN(many);
	return 0;
}
