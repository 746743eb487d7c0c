/* SPDX-License-Identifier: ISC */
/*
 * wherry store serve: the store as 9P files on sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/os.h>
#include <wherry/storefs.h>

#include "store.h"
#include "store_http.h"

struct git_listener;

struct server {
	struct wh_loop *loop;
	struct wh_storefs *fs;
	const char *unix_paths[8];
	unsigned unix_count;
	struct git_listener *git[8];
	unsigned git_count;
	bool read_only, tokens;
	int *git_clients; /* shared with the processes that serve them */
	bool once;        /* ends with the last connection */
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

/* ---- Git's own protocol: git clone, fetch and push ---- */

struct git_listener {
	struct wh_loop_fd watch;
	struct server *server;
	bool http;
};

#define GIT_CLIENTS_MAX 64 /* processes at once */

/* In the process between: the one that serves, and its end. */
static void one_client(struct git_listener *l, int fd, const char *path, const char *push)
{
	struct server *s = l->server;
	pid_t pid = fork();
	if (pid) {
		close(fd);
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		__atomic_sub_fetch(s->git_clients, 1, __ATOMIC_RELAXED);
		_exit(0);
	}
	if (l->http) {
		struct http_config c = { .git_dir = wh_store_path(wh_storefs_store(s->fs)),
					 .read_only = s->read_only,
					 .tokens = s->tokens };
		http_serve(&c, fd);
		_exit(0);
	}
	int null = open("/dev/null", O_RDWR);
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(null, 2);
	execlp("git", "git", "daemon", "--inetd", "--export-all", "--timeout=600", push, path,
	       (char *)NULL);
	_exit(127);
}

/* git daemon serves one connection in a process of its own; a process between lets it be nobody's child. */
static void on_git(struct wh_loop_fd *watch, uint32_t events)
{
	struct git_listener *l = watch->ctx;
	char path[4200];
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	snprintf(path, sizeof path, "--interpolated-path=%s",
		 wh_store_path(wh_storefs_store(l->server->fs)));
	const char *push =
		l->server->read_only ? "--forbid-override=receive-pack" : "--enable=receive-pack";
	if (__atomic_add_fetch(l->server->git_clients, 1, __ATOMIC_RELAXED) > GIT_CLIENTS_MAX) {
		__atomic_sub_fetch(l->server->git_clients, 1, __ATOMIC_RELAXED);
		close(fd);
		return;
	}
	pid_t pid = fork();
	if (!pid) {
		if (!fork())
			one_client(l, fd, path, push);
		_exit(0);
	}
	if (pid < 0)
		__atomic_sub_fetch(l->server->git_clients, 1, __ATOMIC_RELAXED);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	close(fd);
}

static int listen_tcp(struct server *s, const char *text, bool git, bool http)
{
	char host[256], name[128], port[32];
	const char *colon = strrchr(text, ':');
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
	size_t n = colon ? (size_t)(colon - text) : 0;
	if (!colon || n >= sizeof host) {
		cli_error("store: --listen tcp:HOST:PORT, not %s", text);
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
	struct git_listener *l = git ? calloc(1, sizeof *l) : NULL;
	if (l) {
		l->server = s;
		l->http = http;
		l->watch = (struct wh_loop_fd){
			.fd = fd, .events = WH_LOOP_READ, .fn = on_git, .ctx = l
		};
	}
	if (r >= 0)
		r = !git ? wh_storefs_listen(s->fs, fd)
		    : l  ? wh_loop_add(s->loop, &l->watch)
			 : -WH_ENOMEM;
	if (r < 0) {
		free(l);
		if (fd >= 0)
			close(fd);
		return failed(text, -r);
	}
	if (git)
		s->git[s->git_count++] = l;
	struct sockaddr_storage a;
	socklen_t size = sizeof a;
	if (!getsockname(fd, (struct sockaddr *)&a, &size) &&
	    !getnameinfo((struct sockaddr *)&a, size, name, sizeof name, port, sizeof port,
			 NI_NUMERICHOST | NI_NUMERICSERV))
		cli_print(a.ss_family == AF_INET6 ? "listening on %s:[%s]:%s"
						  : "listening on %s:%s:%s",
			  http  ? "http"
			  : git ? "git"
				: "tcp",
			  name, port);
	return CLI_OK;
}

/* For virtual machines on this host, and for others of its programs by the CID 1. */
static int listen_vsock(struct server *s, const char *text)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	socklen_t size = sizeof a;
	uint64_t cid, port;
	const char *colon = strchr(text, ':'), *number = colon ? colon + 1 : text;
	if (cli_parse_number(number, strlen(number), UINT32_MAX, &port) ||
	    (colon && cli_parse_number(text, (size_t)(colon - text), UINT32_MAX, &cid))) {
		cli_error("store: --listen vsock:[CID:]PORT, not %s", text);
		return CLI_ERROR;
	}
	a.svm_port = port ? (uint32_t)port : VMADDR_PORT_ANY;
	if (colon)
		a.svm_cid = (uint32_t)cid;
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 128) ? -errno : 0;
	if (r >= 0)
		r = wh_storefs_listen(s->fs, fd);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return failed("vsock", -r);
	}
	(void)getsockname(fd, (struct sockaddr *)&a, &size);
	cli_print("listening on vsock:%u", a.svm_port);
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
	if (!strncmp(text, "git:", 4) && s->tokens) {
		cli_error("store: git: cannot ask for tokens; http: can");
		return CLI_ERROR;
	}
	if (!strncmp(text, "tcp:", 4) || !strncmp(text, "git:", 4))
		return listen_tcp(s, text + 4, !strncmp(text, "git:", 4), false);
	if (!strncmp(text, "http:", 5))
		return listen_tcp(s, text + 5, true, true);
	if (!strncmp(text, "vsock:", 6))
		return listen_vsock(s, text + 6);
	if (!strncmp(text, "fd:", 3))
		return listen_fd(s, text + 3);
	cli_error("store: --listen takes unix:PATH, tcp:HOST:PORT, vsock:[CID:]PORT, fd:N, "
		  "git:HOST:PORT or "
		  "http:HOST:PORT, not %s",
		  text);
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

/* ---- tokens ---- */

static int parse_ttl(const char *text, int64_t *ret_seconds)
{
	char unit = 0, rest = 0;
	unsigned long long v;
	int n = sscanf(text, "%9llu%c%c", &v, &unit, &rest);
	int64_t factor = n == 1 || unit == 's' ? 1
			 : unit == 'm'         ? 60
			 : unit == 'h'         ? 3600
			 : unit == 'd'         ? 86400
					       : 0;
	if (n < 1 || n > 2 || !factor || !v)
		return -WH_EINVAL;
	*ret_seconds = (int64_t)v * factor;
	return 0;
}

int store_token(struct store_arguments *a)
{
	static const char *const allows[] = { "read", "write", "admin" };
	struct wh_storefs_token t = { .allow = WH_STOREFS_ADMIN + 1 };
	char text[WH_STOREFS_TOKEN_SIZE_MAX];
	struct wh_store *s;
	struct wh_diag diag = { "" };
	int64_t seconds = 0;
	for (unsigned i = 0; i < WH_ARRAY_COUNT(allows); i++)
		if (wh_streq(allows[i], a->allow ? a->allow : "write"))
			t.allow = (enum wh_storefs_allow)i;
	if (t.allow > WH_STOREFS_ADMIN) {
		cli_error("store: --allow takes read, write or admin, not %s", a->allow);
		return CLI_ERROR;
	}
	if (a->ttl && parse_ttl(a->ttl, &seconds) < 0) {
		cli_error("store: --ttl takes a number and s, m, h or d, not %s", a->ttl);
		return CLI_ERROR;
	}
	if (strlen(a->operand[1]) >= sizeof t.name ||
	    (a->operand[2] && strlen(a->operand[2]) >= sizeof t.path)) {
		cli_error("store: a token's name has at most %zu bytes, its path %zu",
			  sizeof t.name - 1, sizeof t.path - 1);
		return CLI_ERROR;
	}
	snprintf(t.name, sizeof t.name, "%s", a->operand[1]);
	snprintf(t.path, sizeof t.path, "%s", a->operand[2] ? a->operand[2] : "");
	snprintf(t.branch, sizeof t.branch, "%s",
		 a->branch_said || a->operand[2] ? a->branch : "*");
	t.until_s = seconds ? (int64_t)time(NULL) + seconds : 0;
	int status = store_open(a, &s);
	if (status)
		return status;
	int r = wh_storefs_token_make(s, &t, text, sizeof text, &diag);
	wh_store_close(s);
	if (r < 0)
		return store_failed(r, &diag, a->repo);
	cli_print("%s", text);
	return CLI_OK;
}

int store_serve(struct store_arguments *a)
{
	static const int list[] = { SIGINT, SIGTERM, SIGHUP };
	struct server s = { .read_only = a->read_only, .tokens = a->tokens };
	struct wh_os_signals signals = { .fn = on_signal };
	struct wh_diag diag = { "" };
	int status = CLI_OK;
	if (!a->listen_count) {
		cli_error("store: serve needs --listen unix:PATH, tcp:HOST:PORT or fd:N");
		return CLI_ERROR;
	}
	signal(SIGPIPE, SIG_IGN);
	s.git_clients =
		mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s.git_clients == MAP_FAILED)
		return failed("memory", errno);
	int r = wh_loop_new(&s.loop);
	if (r < 0)
		return failed("event loop", -r);
	struct wh_storefs_config c = { .size = sizeof c,
				       .path = a->repo,
				       .loop = s.loop,
				       .read_only = a->read_only,
				       .tokens = a->tokens,
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
	for (unsigned i = 0; i < s.git_count; i++) {
		wh_loop_remove(s.loop, &s.git[i]->watch);
		close(s.git[i]->watch.fd);
		free(s.git[i]);
	}
	s.once = false;
	wh_storefs_free(s.fs);
	if (r >= 0)
		wh_os_signals_detach(&signals);
	wh_loop_free(s.loop);
	return status < 0 ? failed("event loop", -status) : status;
}
