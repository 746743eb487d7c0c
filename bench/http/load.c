/* SPDX-License-Identifier: ISC */
/*
 * HTTP load for the benchmarks: N connections from one thread, each one request in
 * flight, kept alive or one connection per request.
 *
 *	load ADDR PORT PATH CONNECTIONS SECONDS keep|close
 *
 * Prints one line of JSON: requests per second, latency quantiles in us, errors.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX (4u << 20)

struct connection {
	int fd;
	double begin;
	char in[65536];
	size_t used;
};

static struct sockaddr_in server;
static char request[1024];
static int keep, epoll_fd;
static float *samples;
static size_t sample_count;
static unsigned long done, errors;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void open_connection(struct connection *c)
{
	int on = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	c->used = 0;
	c->begin = now();
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
		errors++;
	struct epoll_event e = { .events = EPOLLOUT, .data.ptr = c };
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void send_request(struct connection *c)
{
	c->used = 0;
	if (write(c->fd, request, strlen(request)) != (ssize_t)strlen(request))
		errors++;
}

/* 1 = a whole reply is in. */
static int reply_complete(struct connection *c)
{
	c->in[c->used] = 0;
	char *end = strstr(c->in, "\r\n\r\n");
	if (!end)
		return 0;
	char *length = strcasestr(c->in, "content-length:");
	size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
	return c->used >= (size_t)(end + 4 - c->in) + body;
}

static void reopen(struct connection *c)
{
	close(c->fd);
	open_connection(c);
}

static void ready(struct connection *c, unsigned events)
{
	if (events & EPOLLOUT) {
		int error = 0;
		socklen_t size = sizeof error;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			errors++;
			reopen(c);
			return;
		}
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
		send_request(c);
		return;
	}
	ssize_t n = read(c->fd, c->in + c->used, sizeof c->in - 1 - c->used);
	if (n <= 0) {
		errors++;
		reopen(c);
		return;
	}
	c->used += (size_t)n;
	if (!reply_complete(c)) {
		if (c->used == sizeof c->in - 1)
			c->used = 0; /* long body: only its end matters to nobody here */
		return;
	}
	if (sample_count < SAMPLES_MAX)
		samples[sample_count++] = (float)((now() - c->begin) * 1e6);
	done++;
	if (!keep) {
		reopen(c);
		return;
	}
	c->begin = now();
	send_request(c);
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 7) {
		fprintf(stderr, "usage: load ADDR PORT PATH CONNECTIONS SECONDS keep|close\n");
		return 2;
	}
	server.sin_family = AF_INET;
	server.sin_port = htons((unsigned short)atoi(argv[2]));
	inet_pton(AF_INET, argv[1], &server.sin_addr);
	keep = !strcmp(argv[6], "keep");
	snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", argv[3],
		 keep ? "" : "Connection: close\r\n");
	int count = atoi(argv[4]);
	double seconds = atof(argv[5]);
	samples = malloc(SAMPLES_MAX * sizeof *samples);
	struct connection *all = calloc((size_t)count, sizeof *all);
	epoll_fd = epoll_create1(0);
	double start = now();
	for (int i = 0; i < count; i++)
		open_connection(&all[i]);
	struct epoll_event events[256];
	while (now() - start < seconds) {
		int n = epoll_wait(epoll_fd, events, 256, 100);
		for (int i = 0; i < n; i++)
			ready(events[i].data.ptr, events[i].events);
	}
	double elapsed = now() - start;
	qsort(samples, sample_count, sizeof *samples, compare);
	printf("{\"rate\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"errors\": %lu}\n",
	       (double)done / elapsed, sample_count ? (double)samples[sample_count / 2] : 0.0,
	       sample_count ? (double)samples[sample_count * 99 / 100] : 0.0, errors);
	return done ? 0 : 1;
}
