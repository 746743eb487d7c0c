/* SPDX-License-Identifier: ISC */
/*
 * wherry run --gdb: one gdb at a time, on a socket or our standard streams. The guest waits for it before its first
 * instruction; a gdb that leaves lets it go on, and another one may come.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/vmm_trace.h>

#include "gateway_options.h"
#include "run.h"

/* One per process. */
static struct {
	struct run *run;
	struct wh_gdb *gdb;
	struct wh_vmm_trace *trace;
	struct wh_loop_fd listener, client; /* fd < 0: none */
	int out;                            /* of the client: its own descriptor on stdio */
	char path[108];                     /* of a socket, to be removed; "" = none */
	bool stopped_once;
} own = { .listener = { .fd = -1 }, .client = { .fd = -1 }, .out = -1 };

int run_gdb_take(struct run_options *o, const char *value)
{
	if (strncmp(value, "unix:", 5) && strncmp(value, "tcp:", 4) && strcmp(value, "stdio")) {
		cli_error("--gdb %s: say unix:PATH, tcp:ADDRESS:PORT or stdio", value);
		return CLI_BAD;
	}
	o->gdb = value;
	return 0;
}

static void hang_up(void)
{
	if (own.client.fd < 0)
		return;
	wh_loop_remove(own.run->loop, &own.client);
	if (own.out != own.client.fd)
		close(own.out);
	close(own.client.fd);
	own.client.fd = own.out = -1;
	if (own.stopped_once && !own.run->ended)
		wh_vmm_trace_ops.detach(own.trace);
	if (own.listener.fd >= 0)
		(void)wh_loop_modify(own.run->loop, &own.listener, WH_LOOP_READ);
}

static void to_gdb(void *ctx, const void *bytes, size_t size)
{
	if (own.client.fd >= 0)
		(void)wh_os_write_all(own.out, bytes,
				      size); /* one that is gone shows as end of input */
}

static void from_gdb(struct wh_loop_fd *watch, uint32_t events)
{
	char bytes[4096];
	ssize_t n = read(watch->fd, bytes, sizeof bytes);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		hang_up();
	else
		wh_gdb_input(own.gdb, bytes, (size_t)n);
}

static void gdb_comes(struct wh_loop_fd *watch, uint32_t events)
{
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	own.client = (struct wh_loop_fd){ .fd = fd, .events = WH_LOOP_READ, .fn = from_gdb };
	own.out = fd;
	if (wh_loop_add(own.run->loop, &own.client) < 0) {
		close(fd);
		own.client.fd = own.out = -1;
		return;
	}
	(void)wh_loop_modify(own.run->loop, watch, 0); /* one at a time; others wait */
	wh_gdb_reset(own.gdb);
}

static void stopped(void *ctx, const struct wh_gdb_stop *stop)
{
	struct wh_loop_fd *watch = own.listener.fd >= 0 ? &own.listener : &own.client;
	/* Nobody is heard before the guest is there. */
	if (!own.stopped_once && wh_loop_add(own.run->loop, watch) < 0)
		wh_vmm_machine_kill(own.run->machine);
	own.stopped_once = true;
	wh_gdb_stopped(own.gdb, stop);
}

void run_gdb_look(struct run *r)
{
	if (own.trace)
		wh_vmm_trace_look(own.trace);
}

void run_gdb_ended(struct run *r)
{
	const struct wh_vmm_exit *how = &r->how;
	if (own.gdb)
		wh_gdb_ended(own.gdb,
			     how->host_signal                   ? how->host_signal
			     : how->kind == WH_BOOT_EXIT_STATUS ? 0
			     : how->kind == WH_BOOT_EXIT_NONE   ? SIGKILL
								: how->value,
			     how->value);
	if (own.path[0])
		(void)unlink(own.path);
	own.path[0] = 0;
}

/* ---- where gdb comes from ---- */

static int fail(const struct run *r, const char *what)
{
	cli_error("--gdb %s: %s: %s", r->options.gdb, what, strerror(errno));
	return CLI_ERROR;
}

static int listen_unix(struct run *r, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return fail(r, "the socket's name");
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	own.listener.fd = fd;
	/* The file gets the socket's mode, so it is nobody else's at any moment. */
	if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof address) ||
	    listen(fd, 1))
		return fail(r, "cannot listen");
	strcpy(own.path, path);
	return CLI_OK;
}

/* ADDRESS:PORT; the address is numeric, of IPv4. */
static int listen_tcp(struct run *r, const char *where)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char host[64];
	const char *colon = strrchr(where, ':');
	size_t n = colon ? (size_t)(colon - where) : sizeof host;
	uint64_t port = 0;
	int on = 1;
	if (n < sizeof host)
		memcpy(host, where, n);
	host[n < sizeof host ? n : 0] = 0;
	if (n >= sizeof host || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
	    cli_parse_number(colon + 1, strlen(colon + 1), 65535, &port) < 0) {
		cli_error("--gdb tcp:%s: say a numeric address and a port: tcp:127.0.0.1:1234",
			  where);
		return CLI_ERROR;
	}
	address.sin_port = htons((uint16_t)port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	own.listener.fd = fd;
	socklen_t size = sizeof address;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(fd, (struct sockaddr *)&address, size) || listen(fd, 1) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		return fail(r, "cannot listen");
	cli_error("gdb may come to port %u", ntohs(address.sin_port));
	return CLI_OK;
}

/* gdb's `target remote | wherry run --gdb stdio ...`: the guest has no input, and writes to standard error. */
static int take_stdio(struct run *r)
{
	int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3),
	    out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (in < 0 || out < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return fail(r, "standard streams");
	close(null);
	own.client = (struct wh_loop_fd){ .fd = in, .events = WH_LOOP_READ, .fn = from_gdb };
	own.out = out;
	return CLI_OK;
}

int run_gdb_open(struct run *r)
{
	const char *where = r->options.gdb;
	own.run = r;
	return !strncmp(where, "unix:", 5)  ? listen_unix(r, where + 5)
	       : !strncmp(where, "tcp:", 4) ? listen_tcp(r, where + 4)
					    : take_stdio(r);
}

int run_gdb_start(struct run *r)
{
	struct wh_diag diag = { "" };
	struct wh_gdb_config config = { .size = sizeof config,
					.ops = &wh_vmm_trace_ops,
					.send = to_gdb };
	if (wh_vmm_trace_new(r->machine, stopped, r, &own.trace, &diag) < 0) {
		cli_error("--gdb: %s", diag.text);
		return CLI_ERROR;
	}
	config.ctx = own.trace;
	own.listener.events = WH_LOOP_READ;
	own.listener.fn = gdb_comes;
	if (wh_gdb_new(&config, &own.gdb) < 0) {
		cli_error("--gdb: no memory");
		return CLI_ERROR;
	}
	return CLI_OK;
}
