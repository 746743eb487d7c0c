/* SPDX-License-Identifier: ISC */
/*
 * wherry disk serve: images for clients of the NBD protocol, on a Unix socket, a TCP port or
 * sockets that systemd made. Options as of qemu-nbd and, for TLS, nbdkit.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/nbd.h>
#include <wherry/os.h>

#include "disk.h"
#include "disk_control.h"

#define LISTEN_FIRST 3       /* sd_listen_fds(3) */
#define LISTEN_COUNT_MAX 16u /* sockets from systemd: more is a mistake */
#define BACKLOG 64
#define DISKS_MAX 64u
#define SPIN_US 50u /* a wake-up takes about as long */
#define PORT "10809"
#define URI_MAX 512u

enum {
	OPTION_FORMAT = 1,
	OPTION_SOCKET,
	OPTION_BIND,
	OPTION_PORT,
	OPTION_NAME,
	OPTION_ADD,
	OPTION_DESCRIPTION,
	OPTION_READ_ONLY,
	OPTION_SNAPSHOT,
	OPTION_FOLLOW,
	OPTION_PERSISTENT,
	OPTION_SHARED,
	OPTION_CACHE,
	OPTION_AIO,
	OPTION_CACHE_SIZE,
	OPTION_TLS,
	OPTION_TLS_CERTIFICATES,
	OPTION_TLS_VERIFY,
	OPTION_TLS_PSK,
	OPTION_PID_FILE,
	OPTION_PRINT_URI,
	OPTION_JSON,
	OPTION_CONTROL,
	OPTION_READY_FD,
	OPTION_NO_SPIN,
	OPTION_VERBOSE
};

static int disk_serve(int argc, char **argv);

static const struct cli_option options[] = {
	{ OPTION_FORMAT, "format", 'f', "FORMAT", "of FILE: raw or qcow2" },
	{ OPTION_SOCKET, "socket", 'k', "PATH", "listen on a Unix socket" },
	{ OPTION_BIND, "bind", 'b', "ADDRESS", "listen on TCP there (127.0.0.1)" },
	{ OPTION_PORT, "port", 'p', "PORT", "listen on TCP; 0 = any free port (" PORT ")" },
	{ OPTION_NAME, "export-name", 'x', "NAME", "name of the export (empty)" },
	{ OPTION_ADD, "add", 0, "NAME=FILE,format=F[,ro]", "one more export (may be repeated)" },
	{ OPTION_DESCRIPTION, "description", 'D', "TEXT", "shown by clients that list exports" },
	{ OPTION_READ_ONLY, "read-only", 'r', NULL, "clients cannot write" },
	{ OPTION_SNAPSHOT, "load-snapshot", 'l', "NAME", "serve an internal snapshot, read-only" },
	{ OPTION_FOLLOW, "follow", 0, "WHICH",
	  "files that images name: folder, none, any (folder)" },
	{ OPTION_PERSISTENT, "persistent", 't', NULL, "go on when the last client has left" },
	{ OPTION_SHARED, "shared", 'e', "COUNT", "clients at the same time (128)" },
	{ OPTION_CACHE, "cache", 0, "MODE", "writeback, none or unsafe (writeback)" },
	{ OPTION_AIO, "aio", 0, "KIND", "io_uring, threads or auto (auto)" },
	{ OPTION_CACHE_SIZE, "metadata-cache", 0, "SIZE", "memory for tables of an image (32M)" },
	{ OPTION_TLS, "tls", 0, "MODE", "off, on or require (require with credentials)" },
	{ OPTION_TLS_CERTIFICATES, "tls-certificates", 0, "FOLDER",
	  "server-cert.pem, server-key.pem, ca-cert.pem" },
	{ OPTION_TLS_VERIFY, "tls-verify-peer", 0, NULL, "clients need a certificate too" },
	{ OPTION_TLS_PSK, "tls-psk", 0, "FILE", "clients prove a key in this file" },
	{ OPTION_PID_FILE, "pid-file", 0, "PATH", "written when clients can connect" },
	{ OPTION_READY_FD, "ready-fd", 0, "FD", "write \"ready\" there when clients can connect" },
	{ OPTION_PRINT_URI, "print-uri", 0, NULL, "print the address for clients" },
	{ OPTION_JSON, "json", 0, NULL,
	  "print addresses and exports as JSON when clients can connect" },
	{ OPTION_CONTROL, "control", 0, "PATH", "a socket for wherry disk compact --control" },
	{ OPTION_NO_SPIN, "no-spin", 0, NULL, "never look out for requests before sleeping" },
	{ OPTION_VERBOSE, "verbose", 'v', NULL, "tell of broken clients" },
};

const struct cli_command disk_command_serve = {
	.name = "disk serve",
	.synopsis = "[-f FORMAT] [-k PATH | -p PORT] [-r] [-t] [OPTIONS] FILE",
	.summary = "serve disks to NBD clients",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = disk_serve,
};

struct disk {
	const char *name, *file;
	enum wh_block_format format;
	bool read_only;
	struct wh_block_image *image;
};

struct serve {
	struct disk disks[DISKS_MAX];
	unsigned disk_count;
	const char *socket, *bind, *port, *description, *pid_file, *control_path;
	enum wh_block_cache cache;
	enum wh_block_follow follow;
	const char *snapshot;
	enum wh_blockio_kind aio;
	uint64_t cache_size, shared, ready_fd; /* ready_fd: 0 = none */
	enum wh_nbd_tls_mode tls_mode;
	bool tls_said, persistent, read_only, print_uri, json, no_spin, verbose;
	struct wh_nbd_tls_config tls_config;

	struct wh_loop *loop;
	struct wh_blockio *io;
	struct wh_nbd_tls *tls;
	struct wh_nbd_server *server;
	struct wh_nbd_export exports[DISKS_MAX];
	struct disk_control *control;
	char uris[LISTEN_COUNT_MAX][URI_MAX];
	unsigned uri_count;
	bool made_socket;
};

/* ---- options ---- */

/* NAME=FILE,format=F,ro; the text is cut up. */
static int parse_add(struct serve *s, const char *text)
{
	char *copy = strdup(text), *file = copy ? strchr(copy, '=') : NULL;
	if (s->disk_count == DISKS_MAX) {
		cli_error("disk serve: at most %u exports", DISKS_MAX - 1);
		return CLI_BAD;
	}
	if (!file) {
		cli_error("disk serve: --add %s: NAME=FILE,format=FORMAT is wanted", text);
		return CLI_BAD;
	}
	struct disk *d = &s->disks[s->disk_count++];
	*file++ = '\0';
	*d = (struct disk){ .name = copy, .file = file };
	for (char *rest = strchr(file, ','); rest;) {
		*rest++ = '\0';
		char *word = rest;
		rest = strchr(rest, ',');
		if (rest)
			*rest = '\0';
		if (!strncmp(word, "format=", 7)) {
			if (disk_parse_format(word + 7, &d->format))
				return CLI_BAD;
		} else if (!strcmp(word, "ro")) {
			d->read_only = true;
		} else {
			cli_error("disk serve: --add %s: %s is neither format=FORMAT nor ro", text,
				  word);
			return CLI_BAD;
		}
		if (rest)
			*rest = ',';
	}
	return 0;
}

static int parse_tls(struct serve *s, const char *text)
{
	static const char *const names[] = { "off", "on", "require" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(names); i++)
		if (!strcmp(text, names[i])) {
			s->tls_mode = (enum wh_nbd_tls_mode)i;
			s->tls_said = true;
			return 0;
		}
	cli_error("disk serve: --tls is off, on or require, not %s", text);
	return CLI_BAD;
}

static int parse_number(const char *what, const char *text, uint64_t max, uint64_t *ret_number)
{
	if (cli_parse_number(text, strlen(text), max, ret_number) >= 0)
		return 0;
	cli_error("disk serve: %s %s: a number up to %llu is wanted", what, text,
		  (unsigned long long)max);
	return CLI_BAD;
}

static int parse_value(struct serve *s, int id, const char *value)
{
	struct disk *d = &s->disks[0];
	uint64_t number;
	switch (id) {
	case OPTION_FORMAT:
		return disk_parse_format(value, &d->format);
	case OPTION_CACHE:
		return disk_parse_cache(value, &s->cache);
	case OPTION_FOLLOW:
		return disk_parse_follow(value, &s->follow);
	case OPTION_AIO:
		return disk_parse_aio(value, &s->aio);
	case OPTION_CACHE_SIZE:
		if (disk_parse_size("--metadata-cache", value, &s->cache_size))
			return CLI_BAD;
		if (s->cache_size <= UINT32_MAX && s->cache_size)
			return 0;
		cli_error("disk serve: --metadata-cache %s: 1 byte to 4 GiB", value);
		return CLI_BAD;
	case OPTION_SHARED:
		if (parse_number("--shared", value, 65536, &s->shared))
			return CLI_BAD;
		if (s->shared)
			return 0;
		cli_error("disk serve: --shared 0: nobody could connect");
		return CLI_BAD;
	case OPTION_READY_FD:
		return parse_number("--ready-fd", value, INT32_MAX, &s->ready_fd);
	case OPTION_PORT:
		s->port = value;
		return parse_number("--port", value, 65535, &number);
	case OPTION_ADD:
		return parse_add(s, value);
	case OPTION_TLS:
		return parse_tls(s, value);
	default:
		wh_assert(false);
	}
}

static int parse(struct serve *s, int argc, char **argv)
{
	struct cli_parser parser;
	const char *value, *file = NULL;
	const struct {
		int id;
		const char **text;
		bool *flag;
	} simple[] = { { OPTION_SOCKET, &s->socket, 0 },
		       { OPTION_BIND, &s->bind, 0 },
		       { OPTION_SNAPSHOT, &s->snapshot, 0 },
		       { OPTION_NAME, &s->disks[0].name, 0 },
		       { OPTION_DESCRIPTION, &s->description, 0 },
		       { OPTION_TLS_CERTIFICATES, &s->tls_config.certificates, 0 },
		       { OPTION_TLS_PSK, &s->tls_config.psk_file, 0 },
		       { OPTION_PID_FILE, &s->pid_file, 0 },
		       { OPTION_CONTROL, &s->control_path, 0 },
		       { OPTION_JSON, 0, &s->json },
		       { OPTION_READ_ONLY, 0, &s->read_only },
		       { OPTION_PERSISTENT, 0, &s->persistent },
		       { OPTION_TLS_VERIFY, 0, &s->tls_config.verify_peer },
		       { OPTION_PRINT_URI, 0, &s->print_uri },
		       { OPTION_NO_SPIN, 0, &s->no_spin },
		       { OPTION_VERBOSE, 0, &s->verbose } };
	int id;
	unsigned files = 0, i;
	cli_parser_init(&parser, &disk_command_serve, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		if (id == CLI_BAD || id == CLI_HELP)
			return id;
		for (i = 0; i < WH_ARRAY_COUNT(simple) && simple[i].id != id; i++)
			;
		if (id == CLI_OPERAND) {
			if (disk_operand(&disk_command_serve, value, &file, 1, &files))
				return CLI_BAD;
		} else if (i < WH_ARRAY_COUNT(simple)) {
			if (simple[i].text)
				*simple[i].text = value;
			else
				*simple[i].flag = true;
		} else if (parse_value(s, id, value)) {
			return CLI_BAD;
		}
	}
	s->disks[0].file = file;
	return 0;
}

/* What does not fit together. */
static int check(struct serve *s)
{
	bool credentials = s->tls_config.certificates || s->tls_config.psk_file;
	if (!s->disks[0].file && s->disk_count == 1)
		return disk_usage(&disk_command_serve);
	if (s->socket && (s->bind || s->port)) {
		cli_error("disk serve: a Unix socket or a TCP port, not both");
		return CLI_ERROR;
	}
	if (s->socket && strlen(s->socket) >= sizeof((struct sockaddr_un *)0)->sun_path) {
		cli_error("disk serve: %s is too long for a Unix socket", s->socket);
		return CLI_ERROR;
	}
	if (credentials && !s->tls_said)
		s->tls_mode = WH_NBD_TLS_REQUIRED;
	if (s->tls_mode != WH_NBD_TLS_OFF && !credentials) {
		cli_error("disk serve: TLS needs --tls-certificates or --tls-psk");
		return CLI_ERROR;
	}
	if (s->tls_config.certificates && s->tls_config.psk_file) {
		cli_error("disk serve: --tls-certificates or --tls-psk, not both");
		return CLI_ERROR;
	}
	return 0;
}

/* ---- sockets ---- */

static int listen_unix(struct serve *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	memcpy(a.sun_path, s->socket, strlen(s->socket));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) && errno == EADDRINUSE) {
		/* Left over from a server that was killed? Then nobody answers. */
		int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		bool dead =
			connect(probe, (struct sockaddr *)&a, sizeof a) && errno == ECONNREFUSED;
		close(probe);
		errno = EADDRINUSE;
		if (dead && !unlink(s->socket))
			errno = bind(fd, (struct sockaddr *)&a, sizeof a) ? errno : 0;
		if (errno) {
			close(fd);
			fd = -1;
			errno = EADDRINUSE;
		}
	}
	if (fd < 0 || listen(fd, BACKLOG)) {
		cli_error("disk serve: cannot listen on %s: %s", s->socket, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	s->made_socket = true;
	return fd;
}

static int listen_tcp(struct serve *s)
{
	const struct addrinfo want = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
	const char *host = s->bind ? s->bind : "127.0.0.1", *port = s->port ? s->port : PORT;
	struct addrinfo *list;
	int on = 1, fd = -1, r = getaddrinfo(host, port, &want, &list);
	if (r) {
		cli_error("disk serve: %s: %s", host, gai_strerror(r));
		return -1;
	}
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, BACKLOG)) {
		cli_error("disk serve: cannot listen on %s port %s: %s", host, port,
			  strerror(errno));
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	return fd;
}

/* Sockets that were handed over (sd_listen_fds(3)): how many; 0 = none are meant for us. */
static unsigned inherited(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	uint64_t n;
	if (!pid || !count || cli_parse_number(pid, strlen(pid), UINT32_MAX, &n) < 0 ||
	    n != (uint64_t)getpid() || cli_parse_number(count, strlen(count), UINT32_MAX, &n) < 0)
		return 0;
	return n > LISTEN_COUNT_MAX ? LISTEN_COUNT_MAX + 1 : (unsigned)n;
}

/* The address as clients write it. */
static void find_uri(struct serve *s, int fd)
{
	struct sockaddr_storage a;
	socklen_t size = sizeof a;
	char host[256], port[16], *to = s->uris[s->uri_count];
	const char *scheme = s->tls_mode == WH_NBD_TLS_REQUIRED ? "nbds" : "nbd";
	const char *name = s->disks[s->disks[0].file ? 0 : 1].name;
	if (getsockname(fd, (struct sockaddr *)&a, &size))
		return;
	if (a.ss_family == AF_UNIX) {
		snprintf(to, URI_MAX, "%s+unix:///%s?socket=%s", scheme, name,
			 ((struct sockaddr_un *)(void *)&a)->sun_path);
	} else if (!getnameinfo((struct sockaddr *)&a, size, host, sizeof host, port, sizeof port,
				NI_NUMERICHOST | NI_NUMERICSERV)) {
		bool v6 = a.ss_family == AF_INET6;
		snprintf(to, URI_MAX, "%s://%s%s%s:%s/%s", scheme, v6 ? "[" : "", host,
			 v6 ? "]" : "", port, name);
	}
	s->uri_count += *to != 0;
}

static int take_socket(struct serve *s, int fd)
{
	int accepting = 0;
	socklen_t size = sizeof accepting;
	if (fd < 0)
		return CLI_ERROR;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size)) {
		cli_error("disk serve: descriptor %d is no socket", fd);
		return CLI_ERROR;
	}
	find_uri(s, fd);
	if (s->print_uri && s->uri_count) {
		puts(s->uris[s->uri_count - 1]);
		fflush(stdout);
	}
	int r = accepting ? wh_nbd_server_listen(s->server, fd)
			  : wh_nbd_server_serve(s->server, fd);
	if (r < 0)
		cli_error("disk serve: cannot use descriptor %d: %s", fd, strerror(-r));
	return r < 0 ? CLI_ERROR : CLI_OK;
}

static int open_sockets(struct serve *s)
{
	unsigned n = inherited();
	if (n > LISTEN_COUNT_MAX) {
		cli_error("disk serve: at most %u sockets can be handed over", LISTEN_COUNT_MAX);
		return CLI_ERROR;
	}
	if (n && (s->socket || s->bind || s->port)) {
		cli_error("disk serve: a socket was handed over (LISTEN_FDS): say no other");
		return CLI_ERROR;
	}
	for (unsigned i = 0; i < n; i++) {
		(void)fcntl(LISTEN_FIRST + (int)i, F_SETFD, FD_CLOEXEC);
		if (take_socket(s, LISTEN_FIRST + (int)i))
			return CLI_ERROR;
	}
	return n ? CLI_OK : take_socket(s, s->socket ? listen_unix(s) : listen_tcp(s));
}

/* ---- running ---- */

static void log_line(void *ctx, enum wh_log_level level, const char *subsystem,
		     unsigned long long id, const char *text)
{
	cli_error("%s %llu: %s", subsystem, id, text);
}

static int open_disk(struct serve *s, struct disk *d)
{
	struct wh_diag diag = { "" };
	bool read_only = d->read_only || s->read_only || s->snapshot;
	struct wh_block_image_config config = { .size = sizeof config,
						.path = d->file,
						.format = d->format,
						.flags = read_only ? WH_BLOCK_FILE_READ_ONLY : 0,
						.cache = s->cache,
						.io = s->io,
						.cache_size = (uint32_t)s->cache_size,
						.follow = s->follow,
						.codec = disk_codec(),
						.snapshot = s->snapshot };
	if (wh_block_image_open(&config, &d->image, &diag) < 0) {
		cli_error("%s", diag.text);
		return CLI_ERROR;
	}
	return CLI_OK;
}

static void gone(void *ctx, uint32_t left)
{
	struct serve *s = ctx;
	if (!left && !s->persistent)
		wh_loop_stop(s->loop, 0);
}

static void on_signal(struct wh_os_signals *signals, int number)
{
	wh_loop_stop(signals->ctx, 0);
}

static int write_pid(const char *path)
{
	FILE *f = fopen(path, "w");
	if (f && fprintf(f, "%ld\n", (long)getpid()) > 0 && !fclose(f))
		return CLI_OK;
	cli_error("disk serve: cannot write %s: %s", path, strerror(errno));
	return CLI_ERROR;
}

static int print_json(const struct serve *s, uint32_t exports)
{
	struct disk_json j = { 0 };
	disk_json_open(&j, NULL, '{');
	disk_json_open(&j, "uris", '[');
	for (unsigned i = 0; i < s->uri_count; i++)
		disk_json_text(&j, NULL, s->uris[i]);
	disk_json_close(&j, ']');
	disk_json_open(&j, "exports", '[');
	for (unsigned i = s->disks[0].file ? 0 : 1, n = 0; n < exports; i++, n++) {
		disk_json_open(&j, NULL, '{');
		disk_json_text(&j, "name", s->disks[i].name);
		disk_json_text(&j, "filename", s->disks[i].file);
		disk_json_number(&j, "virtual-size", wh_block_size(s->exports[n].block));
		disk_json_bool(&j, "read-only", s->exports[n].read_only);
		disk_json_close(&j, '}');
	}
	disk_json_close(&j, ']');
	disk_json_text(&j, "aio", wh_blockio_name(s->io));
	disk_json_close(&j, '}');
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

static int set_up(struct serve *s)
{
	struct wh_diag diag = { "" };
	struct wh_log log = { .fn = log_line, .level = WH_LOG_DEBUG };
	struct wh_blockio_config io = {
		.size = sizeof io, .loop = s->loop, .kind = s->aio, .eager = true
	};
	unsigned n = 0;
	if (wh_blockio_new(&io, &s->io, &diag) < 0 ||
	    (s->tls_mode != WH_NBD_TLS_OFF && wh_nbd_tls_new(&s->tls_config, &s->tls, &diag) < 0)) {
		cli_error("disk serve: %s", diag.text);
		return CLI_ERROR;
	}
	for (unsigned i = s->disks[0].file ? 0 : 1; i < s->disk_count; i++) {
		if (open_disk(s, &s->disks[i]))
			return CLI_ERROR;
		s->exports[n++] =
			(struct wh_nbd_export){ .name = s->disks[i].name,
						.description = i ? NULL : s->description,
						.block = wh_block_image_block(s->disks[i].image),
						.read_only = s->read_only ||
							     s->disks[i].read_only || s->snapshot,
						.direct = s->cache == WH_BLOCK_CACHE_NONE };
	}
	struct wh_nbd_server_config c = { .size = sizeof c,
					  .loop = s->loop,
					  .exports = s->exports,
					  .export_count = n,
					  .tls_mode = s->tls_mode,
					  .tls = s->tls,
					  .clients_max = (uint32_t)s->shared,
					  .spin_us = s->no_spin ? 0 : SPIN_US,
					  .gone = gone,
					  .ctx = s };
	if (s->verbose)
		c.log = log;
	if (wh_nbd_server_new(&c, &s->server, &diag) < 0) {
		cli_error("disk serve: %s", diag.text);
		return CLI_ERROR;
	}
	int status = open_sockets(s);
	if (!status && s->control_path)
		status = disk_control_new(s->loop, s->control_path, s->exports, n, &s->control);
	if (!status && s->json)
		status = print_json(s, n);
	if (!status && s->pid_file)
		status = write_pid(s->pid_file);
	if (!status && s->ready_fd) {
		cli_write((int)s->ready_fd, "ready\n", 6);
		close((int)s->ready_fd);
	}
	return status;
}

static int tear_down(struct serve *s)
{
	int status = CLI_OK;
	disk_control_free(s->control);
	if (s->server) {
		wh_nbd_server_stop(s->server);
		while (wh_nbd_server_clients(s->server) && wh_loop_step(s->loop, -1) >= 0)
			;
		wh_nbd_server_free(s->server);
	}
	for (unsigned i = 0; i < s->disk_count; i++) {
		int r = wh_block_image_close(s->disks[i].image);
		if (r < 0) {
			cli_error("%s: the last writes did not reach the file: %s",
				  s->disks[i].file, strerror(-r));
			status = CLI_ERROR;
		}
	}
	wh_nbd_tls_free(s->tls);
	wh_blockio_free(s->io);
	if (s->made_socket)
		unlink(s->socket);
	if (s->pid_file)
		unlink(s->pid_file);
	return status;
}

static int disk_serve(int argc, char **argv)
{
	static struct serve s; /* one per process */
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	s = (struct serve){ .disk_count = 1, .tls_config.size = sizeof s.tls_config };
	s.disks[0].name = "";
	int r = parse(&s, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (check(&s))
		return CLI_ERROR;
	if (wh_loop_new(&s.loop) < 0) {
		cli_error("disk serve: no event loop: %s", strerror(errno));
		return CLI_ERROR;
	}
	struct wh_os_signals watch = { .fn = on_signal, .ctx = s.loop };
	(void)wh_os_signals_attach(&watch, s.loop, signals, WH_ARRAY_COUNT(signals));
	int status = set_up(&s);
	if (!status && (r = wh_loop_run(s.loop)) < 0) {
		cli_error("disk serve: waiting failed: %s", strerror(-r));
		status = CLI_ERROR;
	}
	int ended = tear_down(&s);
	wh_os_signals_detach(&watch);
	wh_loop_free(s.loop);
	return status ? status : ended;
}
