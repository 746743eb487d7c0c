/* SPDX-License-Identifier: ISC */
/*
 * visits: a small web server in plain POSIX C. Nothing in it knows Wherry: the
 * same file compiles with cc and runs on any Unix.
 *
 *	visits [-p PORT] [-d DATA] [-r ROOT]
 *
 *	GET /            counts a visit and shows the number
 *	GET /count       the number alone, without counting
 *	GET /files/NAME  the file NAME under ROOT
 *
 * DATA is a file or a block device; its first 512 bytes hold the number as text.
 * The number is on the disk (fsync) before the visitor sees it. Connections
 * are kept alive and served by one thread with poll().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define REQUEST_MAX 4096
#define FILE_CHUNK 16384

struct client {
	char in[REQUEST_MAX];
	size_t in_used;
	char out[FILE_CHUNK];
	size_t out_used, out_done;
	int file; /* -1, or what is still being sent */
	int keep;
};

static struct pollfd polls[CLIENTS_MAX + 1];
static struct client *clients[CLIENTS_MAX + 1];
static int count_fd = -1;
static unsigned long long visits;
static const char *root = ".";
static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "visits: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void count_load(const char *path)
{
	char sector[512] = "";
	if (!path)
		return;
	count_fd = open(path, O_RDWR | O_CREAT, 0644);
	if (count_fd < 0)
		die(path);
	if (pread(count_fd, sector, sizeof sector - 1, 0) < 0)
		die(path);
	visits = strtoull(sector, NULL, 10);
}

static int count_save(void)
{
	char sector[512] = "";
	if (count_fd < 0)
		return 0;
	snprintf(sector, sizeof sector, "%llu\n", visits);
	if (pwrite(count_fd, sector, sizeof sector, 0) != (ssize_t)sizeof sector)
		return -1;
	return fdatasync(count_fd);
}

static void reply(struct client *c, int status, const char *reason, const char *type,
		  long long size, const char *body)
{
	int n = snprintf(c->out, sizeof c->out,
			 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %lld\r\n"
			 "Connection: %s\r\n\r\n%s",
			 status, reason, type, size, c->keep ? "keep-alive" : "close", body);
	c->out_used = (size_t)n;
	c->out_done = 0;
}

static void reply_text(struct client *c, int status, const char *reason, const char *type,
		       const char *format, ...) __attribute__((format(printf, 5, 6)));

static void reply_text(struct client *c, int status, const char *reason, const char *type,
		       const char *format, ...)
{
	char body[1024];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(body, sizeof body, format, args);
	va_end(args);
	reply(c, status, reason, type, n, body);
}

static void serve_file(struct client *c, const char *name)
{
	char path[1024];
	struct stat st;
	if (strstr(name, "..") ||
	    snprintf(path, sizeof path, "%s/%s", root, name) >= (int)sizeof path) {
		reply_text(c, 400, "Bad Request", "text/plain", "bad name\n");
		return;
	}
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		reply_text(c, 404, "Not Found", "text/plain", "no such file: %.200s\n", name);
		return;
	}
	reply(c, 200, "OK", "application/octet-stream", st.st_size, "");
	c->file = fd;
}

static void serve(struct client *c, char *request)
{
	char *path = strchr(request, ' '), *end = path ? strchr(path + 1, ' ') : NULL;
	c->keep = strstr(request, "HTTP/1.1") && !strcasestr(request, "connection: close");
	if (!end || strncmp(request, "GET ", 4)) {
		c->keep = 0;
		reply_text(c, 400, "Bad Request", "text/plain", "only GET is served\n");
		return;
	}
	*end = 0;
	path++;
	if (!strcmp(path, "/")) {
		visits++;
		if (count_save())
			reply_text(c, 500, "Internal Server Error", "text/plain",
				   "cannot save the count: %s\n", strerror(errno));
		else
			reply_text(c, 200, "OK", "text/html",
				   "<!doctype html><title>visits</title>"
				   "<h1>Visit number %llu</h1>\n",
				   visits);
	} else if (!strcmp(path, "/count")) {
		reply_text(c, 200, "OK", "text/plain", "%llu\n", visits);
	} else if (!strncmp(path, "/files/", 7)) {
		serve_file(c, path + 7);
	} else {
		reply_text(c, 404, "Not Found", "text/plain", "no such page\n");
	}
}

/* Sends what is ready; 1 = more to send, 0 = reply complete, -1 = connection over. */
static int flush_out(int fd, struct client *c)
{
	for (;;) {
		if (c->out_done < c->out_used) {
			ssize_t n = send(fd, c->out + c->out_done, c->out_used - c->out_done,
					 MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN ? 1 : -1;
			c->out_done += (size_t)n;
			continue;
		}
		if (c->file < 0)
			return c->keep ? 0 : -1;
		ssize_t n = read(c->file, c->out, sizeof c->out);
		if (n <= 0) {
			close(c->file);
			c->file = -1;
			if (n < 0)
				return -1;
			continue;
		}
		c->out_used = (size_t)n;
		c->out_done = 0;
	}
}

static int handle(struct pollfd *p, struct client *c)
{
	if (p->events & POLLOUT) {
		int r = flush_out(p->fd, c);
		if (r)
			return r;
		p->events = POLLIN;
		c->out_used = c->out_done = 0;
	} else {
		ssize_t n = read(p->fd, c->in + c->in_used, sizeof c->in - 1 - c->in_used);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		if (n == 0)
			return -1;
		c->in_used += (size_t)n;
	}
	for (;;) { /* requests may be pipelined */
		c->in[c->in_used] = 0;
		char *end = strstr(c->in, "\r\n\r\n");
		if (!end)
			return c->in_used == sizeof c->in - 1 ? -1 : 0;
		end[2] = 0;
		serve(c, c->in);
		c->in_used -= (size_t)(end + 4 - c->in);
		memmove(c->in, end + 4, c->in_used);
		int r = flush_out(p->fd, c);
		if (r > 0)
			p->events = POLLOUT;
		if (r)
			return r;
		c->out_used = c->out_done = 0;
	}
}

static int listener(int port)
{
	int on = 1, off = 0, fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 six = { .sin6_family = AF_INET6,
				    .sin6_port = htons((unsigned short)port) };
	struct sockaddr_in four = { .sin_family = AF_INET,
				    .sin_port = htons((unsigned short)port) };
	int is6 = fd >= 0 && !setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (!is6) {
		if (fd >= 0)
			close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
	}
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (is6 ? bind(fd, (struct sockaddr *)&six, sizeof six)
		: bind(fd, (struct sockaddr *)&four, sizeof four))
		die("bind");
	if (listen(fd, 128) || fcntl(fd, F_SETFL, O_NONBLOCK))
		die("listen");
	return fd;
}

static void accept_all(int listen_fd, nfds_t *count)
{
	while (*count < CLIENTS_MAX + 1) {
		int on = 1, fd = accept(listen_fd, NULL, NULL);
		if (fd < 0)
			return;
		struct client *c = calloc(1, sizeof *c);
		if (!c || fcntl(fd, F_SETFL, O_NONBLOCK)) {
			free(c);
			close(fd);
			return;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		c->file = -1;
		clients[*count] = c;
		polls[(*count)++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
}

int main(int argc, char **argv)
{
	int port = 80, option;
	const char *data = NULL;
	while ((option = getopt(argc, argv, "p:d:r:")) != -1) {
		switch (option) {
		case 'p':
			port = atoi(optarg);
			break;
		case 'd':
			data = optarg;
			break;
		case 'r':
			root = optarg;
			break;
		default:
			fprintf(stderr, "usage: visits [-p PORT] [-d DATA] [-r ROOT]\n");
			return 2;
		}
	}
	struct sigaction sa = { .sa_handler = on_signal };
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	count_load(data);

	nfds_t count = 1;
	polls[0] = (struct pollfd){ .fd = listener(port), .events = POLLIN };
	printf("visits: serving on port %d, %llu visits so far\n", port, visits);
	fflush(stdout);
	while (!stop) {
		polls[0].events = count < CLIENTS_MAX + 1 ? POLLIN : 0;
		if (poll(polls, count, -1) < 0) {
			if (errno == EINTR)
				continue;
			die("poll");
		}
		for (nfds_t i = count; --i > 0;) {
			if (!polls[i].revents || handle(&polls[i], clients[i]) >= 0)
				continue;
			close(polls[i].fd);
			if (clients[i]->file >= 0)
				close(clients[i]->file);
			free(clients[i]);
			polls[i] = polls[--count];
			clients[i] = clients[count];
		}
		if (polls[0].revents)
			accept_all(polls[0].fd, &count);
	}
	printf("visits: stopped at %llu visits\n", visits);
	return 0;
}
