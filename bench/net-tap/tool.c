/* SPDX-License-Identifier: ISC */
/*
 * Small requests for bench/net-tap: a server, and clients that print one line of JSON.
 *
 *	tool server PORT            TCP and UDP: "E" = echo; "Q" = answer one byte and close
 *	tool rr|udp ADDR PORT S     one request at a time on one connection for S seconds
 *	tool crr ADDR PORT S N      connect, request, answer, close; N at once
 *	tool hold ADDR PORT N       N idle connections until standard input ends
 *	tool bridge NAMESPACE MTU ADDR   a tap here and one there, frames of up to 64 KiB copied between them: what
 *	                            moving frames through a process costs, with nothing done to them
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX (1u << 21)
#define EVENTS_MAX 128

static float samples[SAMPLES_MAX];
static size_t sample_count, errors;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sample(double seconds)
{
	if (sample_count < SAMPLES_MAX)
		samples[sample_count++] = (float)(seconds * 1e6);
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void report(double seconds)
{
	qsort(samples, sample_count, sizeof *samples, compare);
	size_t n = sample_count;
	printf("{\"rate\": %.0f, \"p50\": %.1f, \"p99\": %.1f, \"count\": %zu, \"errors\": %zu}\n",
	       (double)n / seconds, n ? (double)samples[n / 2] : 0,
	       n ? (double)samples[n - 1 - n / 100] : 0, n, errors);
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	if (ip && inet_pton(AF_INET, ip, &a.sin_addr) != 1)
		exit(2);
	return a;
}

static void add(int e, int fd, uint32_t events, void *data)
{
	struct epoll_event event = { .events = events, .data.ptr = data };
	if (epoll_ctl(e, EPOLL_CTL_ADD, fd, &event)) {
		perror("epoll_ctl");
		exit(1);
	}
}

static void no_delay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- server ---- */

static void answer(int fd)
{
	char b[4096];
	ssize_t n = read(fd, b, sizeof b);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close(fd);
	} else if (b[0] == 'Q') {
		n = write(fd, "R", 1);
		close(fd);
	} else {
		n = write(fd, b, (size_t)n);
	}
}

static void server(const char *port)
{
	struct sockaddr_in a = address(NULL, port);
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), e = epoll_create1(0), fd;
	int u = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(l, (void *)&a, sizeof a) || listen(l, 4096) || bind(u, (void *)&a, sizeof a)) {
		perror("server");
		exit(1);
	}
	add(e, l, EPOLLIN, (void *)(intptr_t)l);
	add(e, u, EPOLLIN, (void *)(intptr_t)u);
	for (;;) {
		struct epoll_event events[EVENTS_MAX];
		int n = epoll_wait(e, events, EVENTS_MAX, -1);
		for (int i = 0; i < n; i++) {
			int at = (int)(intptr_t)events[i].data.ptr;
			char b[4096];
			socklen_t size = sizeof a;
			ssize_t got;
			if (at == l) {
				while ((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					no_delay(fd);
					add(e, fd, EPOLLIN, (void *)(intptr_t)fd);
				}
			} else if (at == u) {
				while ((got = recvfrom(u, b, sizeof b, 0, (void *)&a, &size)) >= 0)
					sendto(u, b, (size_t)got, 0, (void *)&a, size);
			} else {
				answer(at);
			}
		}
	}
}

/* ---- clients ---- */

static void one_by_one(const struct sockaddr_in *to, double seconds, int type)
{
	struct timeval limit = { .tv_sec = 1 };
	int fd = socket(AF_INET, type, 0);
	char b[16] = "E";
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (type == SOCK_STREAM)
		no_delay(fd);
	if (connect(fd, (const void *)to, sizeof *to)) {
		perror("connect");
		exit(1);
	}
	double begin = now(), t = begin, end;
	for (; t - begin < seconds; t = end) {
		if (write(fd, "E", 1) != 1 || read(fd, b, sizeof b) != 1) {
			errors++;
			end = now();
			continue;
		}
		end = now();
		sample(end - t);
	}
	report(now() - begin);
}

struct client {
	int fd, sent;
	double since;
};

static void client_start(int e, const struct sockaddr_in *to, struct client *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	c->sent = 0;
	c->since = now();
	if (connect(c->fd, (const void *)to, sizeof *to) && errno != EINPROGRESS)
		errors++;
	add(e, c->fd, EPOLLOUT, c);
}

/* false: done, well or not. */
static int client_go(int e, struct client *c)
{
	char b[16];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
	if (!c->sent) {
		if (write(c->fd, "Q", 1) != 1) {
			errors++;
			return 0;
		}
		c->sent = 1;
		epoll_ctl(e, EPOLL_CTL_MOD, c->fd, &event);
		return 1;
	}
	ssize_t n = read(c->fd, b, sizeof b);
	if (n > 0 || (n < 0 && errno == EAGAIN)) {
		c->sent += n > 0;
		return 1;
	}
	if (n == 0 && c->sent == 2)
		sample(now() - c->since);
	else
		errors++;
	return 0;
}

static void connections(const struct sockaddr_in *to, double seconds, int at_once)
{
	int e = epoll_create1(0);
	struct client *clients = calloc((size_t)at_once, sizeof *clients);
	double begin = now();
	for (int i = 0; i < at_once; i++)
		client_start(e, to, &clients[i]);
	while (now() - begin < seconds) {
		struct epoll_event events[EVENTS_MAX];
		int n = epoll_wait(e, events, EVENTS_MAX, 100);
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			if (client_go(e, c))
				continue;
			close(c->fd);
			client_start(e, to, c);
		}
	}
	report(now() - begin);
}

static void hold(const struct sockaddr_in *to, int count)
{
	int good = 0;
	char b[16];
	for (int i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd, (const void *)to, sizeof *to) && write(fd, "E", 1) == 1 &&
		    read(fd, b, 1) == 1)
			good++;
	}
	printf("%d\n", good);
	fflush(stdout);
	while (read(0, b, sizeof b) > 0)
		;
}

/* ---- the bare hop ---- */

static int tap(const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, uso = 0x20 | 0x40;
	strcpy(r.ifr_name, name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &r) ||
	    (ioctl(fd, TUNSETOFFLOAD, offloads | uso) && ioctl(fd, TUNSETOFFLOAD, offloads))) {
		perror(name);
		exit(1);
	}
	return fd;
}

static void bridge(const char *name_space, const char *mtu, const char *self)
{
	static char b[1 << 17];
	char words[256];
	int here = tap("bridge0"), there = open(name_space, O_RDONLY), e = epoll_create1(0);
	snprintf(words, sizeof words,
		 "ip link set bridge0 mtu %s up; ip addr add 10.9.0.1/32 dev bridge0; "
		 "ip route add 10.9.0.2 dev bridge0 src %s",
		 mtu, self);
	if (system(words) || setns(there, CLONE_NEWNET)) {
		perror("bridge");
		exit(1);
	}
	there = tap("eth0");
	snprintf(words, sizeof words,
		 "ip link set eth0 mtu %s up; ip addr add 10.9.0.2/24 dev eth0; "
		 "ip route add default via 10.9.0.1",
		 mtu);
	if (system(words))
		exit(1);
	add(e, here, EPOLLIN, (void *)(intptr_t)here);
	add(e, there, EPOLLIN, (void *)(intptr_t)there);
	for (;;) {
		struct epoll_event events[2];
		int n = epoll_wait(e, events, 2, -1);
		for (int i = 0; i < n; i++) {
			int from = (int)(intptr_t)events[i].data.ptr;
			int to = from == here ? there : here;
			ssize_t got = 0, put = 0;
			for (int k = 0; k < 64 && (got = read(from, b, sizeof b)) > 0; k++)
				put = write(to, b, (size_t)got);
			(void)put; /* as a wire would: TCP sends it again */
		}
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (argc == 3 && !strcmp(argv[1], "server"))
		server(argv[2]);
	if (argc == 5 && !strcmp(argv[1], "bridge"))
		bridge(argv[2], argv[3], argv[4]);
	if (argc < 5)
		return 2;
	struct sockaddr_in to = address(argv[2], argv[3]);
	if (!strcmp(argv[1], "rr"))
		one_by_one(&to, atof(argv[4]), SOCK_STREAM);
	else if (!strcmp(argv[1], "udp"))
		one_by_one(&to, atof(argv[4]), SOCK_DGRAM);
	else if (!strcmp(argv[1], "crr") && argc == 6)
		connections(&to, atof(argv[4]), atoi(argv[5]));
	else if (!strcmp(argv[1], "hold"))
		hold(&to, atoi(argv[4]));
	else
		return 2;
	return 0;
}
