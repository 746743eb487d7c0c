/* SPDX-License-Identifier: ISC */
/*
 * wherry store serve: the store as 9P files on sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/os.h>
#include <wherry/storefs.h>

#include "store.h"

struct server {
	struct wh_loop *loop;
	struct wh_storefs *fs;
	const char *unix_paths[8];
	unsigned unix_count;
	bool once; /* ends with the last connection */
};

static int failed(const char *what, int error)
{
	cli_error("store: %s: %s", what, strerror(error));
	return CLI_ERROR;
}

static int listen_unix(struct server *s, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;
	if (strlen(path) >= sizeof a.sun_path)
		return failed(path, ENAMETOOLONG);
	memcpy(a.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failed(path, errno);
	/* A socket that nobody answers any more is left from a former server. */
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	    connect(fd, (struct sockaddr *)&a, sizeof a) && errno == ECONNREFUSED)
		unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 128)) {
		int error = errno;
		close(fd);
		return failed(path, error);
	}
	int r = wh_storefs_listen(s->fs, fd);
	if (r < 0) {
		close(fd);
		return failed(path, -r);
	}
	s->unix_paths[s->unix_count++] = path;
	cli_print("listening on unix:%s", path);
	return CLI_OK;
}

static int listen_tcp(struct server *s, const char *text)
{
	char host[256], name[128], port[32];
	const char *colon = strrchr(text, ':');
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
	size_t n = colon ? (size_t)(colon - text) : 0;
	if (!colon || n >= sizeof host) {
		cli_error("store: --listen tcp:HOST:PORT, not tcp:%s", text);
		return CLI_ERROR;
	}
	if (n > 1 && text[0] == '[' && text[n - 1] == ']')
		snprintf(host, sizeof host, "%.*s", (int)n - 2, text + 1);
	else
		snprintf(host, sizeof host, "%.*s", (int)n, text);
	int r = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &list);
	if (r) {
		cli_error("store: tcp:%s: %s", text, gai_strerror(r));
		return CLI_ERROR;
	}
	int one = 1, fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	r = fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, 128) ? -errno : 0;
	freeaddrinfo(list);
	if (r >= 0)
		r = wh_storefs_listen(s->fs, fd);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return failed(text, -r);
	}
	struct sockaddr_storage a;
	socklen_t size = sizeof a;
	if (!getsockname(fd, (struct sockaddr *)&a, &size) &&
	    !getnameinfo((struct sockaddr *)&a, size, name, sizeof name, port, sizeof port,
			 NI_NUMERICHOST | NI_NUMERICSERV))
		cli_print(a.ss_family == AF_INET6 ? "listening on tcp:[%s]:%s"
						  : "listening on tcp:%s:%s",
			  name, port);
	return CLI_OK;
}

/* An inherited descriptor: a listening socket, or a connected one, with whose end the server ends. */
static int listen_fd(struct server *s, const char *text)
{
	uint64_t fd;
	int listening = 0;
	socklen_t size = sizeof listening;
	if (cli_parse_number(text, strlen(text), 1 << 20, &fd) || fcntl((int)fd, F_GETFD) < 0) {
		cli_error("store: fd:%s is no open descriptor", text);
		return CLI_ERROR;
	}
	fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) | O_NONBLOCK);
	if (!getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) && listening)
		return wh_storefs_listen(s->fs, (int)fd) < 0 ? failed(text, EMFILE) : CLI_OK;
	int r = wh_storefs_serve(s->fs, (int)fd);
	if (r < 0)
		return failed(text, -r);
	s->once = true;
	return CLI_OK;
}

static int listen_one(struct server *s, const char *text)
{
	if (!strncmp(text, "unix:", 5))
		return listen_unix(s, text + 5);
	if (!strncmp(text, "tcp:", 4))
		return listen_tcp(s, text + 4);
	if (!strncmp(text, "fd:", 3))
		return listen_fd(s, text + 3);
	cli_error("store: --listen takes unix:PATH, tcp:HOST:PORT or fd:N, not %s", text);
	return CLI_ERROR;
}

static void on_signal(struct wh_os_signals *signals, int signal)
{
	wh_loop_stop(signals->loop, CLI_OK);
}

static void on_ended(void *ctx, unsigned connections)
{
	struct server *s = ctx;
	if (s->once && !connections)
		wh_loop_stop(s->loop, CLI_OK);
}

int store_serve(struct store_arguments *a)
{
	static const int list[] = { SIGINT, SIGTERM, SIGHUP };
	struct server s = { 0 };
	struct wh_os_signals signals = { .fn = on_signal };
	struct wh_diag diag = { "" };
	int status = CLI_OK;
	if (!a->listen_count) {
		cli_error("store: serve needs --listen unix:PATH, tcp:HOST:PORT or fd:N");
		return CLI_ERROR;
	}
	signal(SIGPIPE, SIG_IGN);
	int r = wh_loop_new(&s.loop);
	if (r < 0)
		return failed("event loop", -r);
	struct wh_storefs_config c = { .size = sizeof c,
				       .path = a->repo,
				       .loop = s.loop,
				       .read_only = a->read_only,
				       .branch = a->branch_said ? a->branch : NULL,
				       .ended = on_ended,
				       .ctx = &s };
	r = wh_storefs_new(&c, &s.fs, &diag);
	if (r < 0) {
		wh_loop_free(s.loop);
		return store_failed(r, &diag, a->repo);
	}
	r = wh_os_signals_attach(&signals, s.loop, list, WH_ARRAY_COUNT(list));
	for (unsigned i = 0; i < a->listen_count && !status; i++)
		status = listen_one(&s, a->listen[i]);
	if (!status)
		status = wh_loop_run(s.loop);
	for (unsigned i = 0; i < s.unix_count; i++)
		unlink(s.unix_paths[i]);
	s.once = false;
	wh_storefs_free(s.fs);
	if (r >= 0)
		wh_os_signals_detach(&signals);
	wh_loop_free(s.loop);
	return status < 0 ? failed("event loop", -status) : status;
}
