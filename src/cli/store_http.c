/* SPDX-License-Identifier: ISC */
/*
 * git clone, fetch and push over HTTP: `git http-backend` behind a small server. One process serves one request and ends, so
 * that what goes wrong with one client is nobody else's.
 *
 * Taken is HTTP/1.0 and 1.1 with a body of known size or in chunks; answered is with `Connection: close`. Only the three
 * addresses of Git's smart protocol are there. With tokens the password of Basic authentication is the token; it must be for all
 * branches, and for pushing it must allow admin.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/os.h>
#include <wherry/storefs.h>

#include "store_http.h"

#define HEAD_MAX 16384u
#define HEAD_SECONDS 30u /* a client that does not finish its head */
#define BODY_SECONDS 3600u

struct request {
	int fd;
	char head[HEAD_MAX + 1];
	size_t size, body; /* bytes read; where the body begins */
	char *method, *path, *query;
	const char *type, *encoding, *protocol, *authorization;
	bool chunked, expects, sized;
	uint64_t length;
};

static void say(int fd, const char *text)
{
	(void)wh_os_write_all(fd, text, strlen(text)); /* who does not listen does not hear */
}

static void refuse(struct request *r, const char *status, const char *more)
{
	char text[512];
	snprintf(text, sizeof text,
		 "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n", status, more);
	say(r->fd, text);
}

/* ---- the head ---- */

static bool header(struct request *r, char *line)
{
	char *value = strchr(line, ':');
	if (!value || value == line)
		return false;
	*value++ = 0;
	value += strspn(value, " \t");
	for (size_t n = strlen(value); n && (value[n - 1] == ' ' || value[n - 1] == '\t');)
		value[--n] = 0;
	if (!strcasecmp(line, "content-type"))
		r->type = value;
	else if (!strcasecmp(line, "content-encoding"))
		r->encoding = value;
	else if (!strcasecmp(line, "git-protocol"))
		r->protocol = value;
	else if (!strcasecmp(line, "authorization"))
		r->authorization = value;
	else if (!strcasecmp(line, "expect"))
		r->expects = !strcasecmp(value, "100-continue");
	else if (!strcasecmp(line, "transfer-encoding")) {
		r->chunked = !strcasecmp(value, "chunked");
		return r->chunked;
	} else if (!strcasecmp(line, "content-length")) {
		char *end;
		if (r->sized || !isdigit((unsigned char)*value))
			return false;
		errno = 0;
		r->length = strtoull(value, &end, 10);
		r->sized = true;
		return !*end && !errno;
	}
	return true;
}

static bool parse(struct request *r)
{
	char *end = r->head + r->body - 2, *line = r->head; /* the last line's end */
	for (unsigned n = 0; line < end; n++) {
		char *eol = strstr(line, "\r\n");
		if (!eol)
			return false;
		*eol = 0;
		if (strlen(line) != (size_t)(eol - line))
			return false; /* a NUL */
		if (!n) {
			char *space = strchr(line, ' '),
			     *last = space ? strchr(space + 1, ' ') : NULL;
			if (!last || strncmp(last + 1, "HTTP/1.", 7) || space[1] != '/')
				return false;
			*space = *last = 0;
			r->method = line;
			r->path = space + 1;
			r->query = strchr(r->path, '?');
			if (r->query)
				*r->query++ = 0;
		} else if (!header(r, line)) {
			return false;
		}
		line = eol + 2;
	}
	return r->method && !(r->chunked && r->sized);
}

static bool read_head(struct request *r)
{
	for (;;) {
		ssize_t n = read(r->fd, r->head + r->size, HEAD_MAX - r->size);
		if (n <= 0)
			return false;
		r->size += (size_t)n;
		char *end = memmem(r->head, r->size, "\r\n\r\n", 4);
		if (end) {
			r->body = (size_t)(end + 4 - r->head);
			return true;
		}
		if (r->size == HEAD_MAX)
			return false;
	}
}

/* ---- who may ---- */

static int base64(const char *from, char *to, size_t max)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	unsigned count = 0;
	size_t n = 0;
	for (; *from && *from != '='; from++) {
		const char *d = strchr(digits, *from);
		if (!d)
			return -1;
		bits = bits << 6 | (uint32_t)(d - digits);
		count += 6;
		if (count >= 8) {
			count -= 8;
			if (n + 1 >= max)
				return -1;
			to[n++] = (char)(bits >> count);
		}
	}
	to[n] = 0;
	return (int)n;
}

static bool allowed(const struct http_config *c, struct request *r, bool push, char *user,
		    size_t max)
{
	char text[WH_STOREFS_TOKEN_SIZE_MAX + 256];
	struct wh_storefs_token t;
	snprintf(user, max, "%s", "");
	if (!c->tokens)
		return true;
	if (!r->authorization || strncasecmp(r->authorization, "basic ", 6) ||
	    base64(r->authorization + 6, text, sizeof text) < 0)
		return false;
	const char *password = strchr(text, ':');
	if (!password ||
	    wh_storefs_token_take(c->git_dir, password + 1, strlen(password + 1), &t) < 0)
		return false;
	snprintf(user, max, "%s", t.name);
	return wh_streq(t.branch, "*") && t.allow >= (push ? WH_STOREFS_ADMIN : WH_STOREFS_READ);
}

/* ---- the body, to git ---- */

struct feed {
	struct request *r;
	uint64_t left; /* of the body, or of the chunk */
	enum { F_DATA, F_SIZE, F_SIZE_EXTENSION, F_AFTER, F_TRAILER, F_END, F_BAD } state;
	unsigned digits;
	bool line_empty;
};

static int digit(int c)
{
	return c >= '0' && c <= '9'                 ? c - '0'
	       : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
						    : -1;
}

/* Plain bytes of the body in p, moved to its beginning; how many. */
static size_t unchunk(struct feed *f, char *p, size_t size)
{
	size_t out = 0;
	for (size_t i = 0; i < size && f->state != F_END && f->state != F_BAD;) {
		if (f->state == F_DATA) {
			size_t n = size - i < f->left ? size - i : (size_t)f->left;
			memmove(p + out, p + i, n);
			out += n;
			i += n;
			f->left -= n;
			if (!f->left)
				f->state = f->r->chunked ? F_AFTER : F_END;
			continue;
		}
		char c = p[i++];
		switch (f->state) {
		case F_AFTER:
			if (c == '\n') {
				f->state = F_SIZE;
				f->digits = 0;
				f->left = 0;
			} else if (c != '\r') {
				f->state = F_BAD;
			}
			break;
		case F_SIZE:
			if (digit(c) >= 0 && f->digits++ < 15)
				f->left = f->left << 4 | (unsigned)digit(c);
			else if (c == '\n')
				f->state = !f->digits ? F_BAD : f->left ? F_DATA : F_TRAILER;
			else if (c == '\r' || c == ';' || c == ' ')
				f->state = F_SIZE_EXTENSION;
			else
				f->state = F_BAD;
			f->line_empty = true;
			break;
		case F_SIZE_EXTENSION:
			if (c == '\n')
				f->state = !f->digits ? F_BAD : f->left ? F_DATA : F_TRAILER;
			break;
		default: /* F_TRAILER */
			if (c == '\n' && f->line_empty)
				f->state = F_END;
			f->line_empty = c == '\n' || (c == '\r' && f->line_empty);
		}
	}
	return out;
}

/* Body from the client to `to`, what git answers to the client; until git has ended. */
static void exchange(struct request *r, int to, int from)
{
	struct feed f = {
		.r = r, .left = r->sized ? r->length : 0, .state = F_DATA, .line_empty = true
	};
	char buffer[65536], answer[65536];
	size_t have = r->size - r->body, at = 0;
	bool head_done = false;
	size_t head_size = 0;
	if (r->chunked)
		f.state = F_SIZE;
	else if (!f.left)
		f.state = F_END;
	memcpy(buffer, r->head + r->body, have);
	have = unchunk(&f, buffer, have);
	for (;;) {
		if (to >= 0 && at == have && (f.state == F_END || f.state == F_BAD)) {
			close(to);
			to = -1;
		}
		struct pollfd p[3] = { { .fd = from, .events = POLLIN },
				       { .fd = to >= 0 && at < have ? to : -1, .events = POLLOUT },
				       { .fd = to >= 0 && at == have ? r->fd : -1,
					 .events = POLLIN } };
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents) {
			ssize_t n = write(to, buffer + at, have - at);
			if (n < 0 && errno != EAGAIN) { /* git wants no more of it */
				at = have;
				f.state = F_END;
			}
			at += n > 0 ? (size_t)n : 0;
		}
		if (p[2].revents) {
			ssize_t n = read(r->fd, buffer, sizeof buffer);
			if (n <= 0)
				return; /* the client went: git is ended with this process */
			at = 0;
			have = unchunk(&f, buffer, (size_t)n);
		}
		if (!p[0].revents)
			continue;
		ssize_t n = read(from, answer + head_size, sizeof answer - 1 - head_size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		if (head_done) {
			if (wh_os_write_all(r->fd, answer, (size_t)n) < 0)
				return;
			continue;
		}
		head_size += (size_t)n;
		answer[head_size] = 0;
		char *end = strstr(answer, "\r\n\r\n"), *status = strstr(answer, "Status: ");
		if (!end && head_size < HEAD_MAX)
			continue;
		bool other = status && status < end && (status == answer || status[-1] == '\n');
		char line[128];
		snprintf(line, sizeof line, "HTTP/1.1 %.*s\r\nConnection: close\r\n",
			 other ? (int)strcspn(status + 8, "\r\n") : 6,
			 other ? status + 8 : "200 OK");
		say(r->fd, line);
		if (wh_os_write_all(r->fd, answer, head_size) < 0)
			return;
		head_done = true;
		head_size = 0;
	}
}

/* ---- git ---- */

static void become_backend(const struct http_config *c, const struct request *r, const char *action,
			   const char *user, int in, int out)
{
	char length[32];
	int null = open("/dev/null", O_RDWR);
	dup2(in, 0);
	dup2(out, 1);
	dup2(null, 2);
	(void)close_range(3, ~0u, 0);
	setenv("GIT_PROJECT_ROOT", c->git_dir, 1);
	setenv("GIT_HTTP_EXPORT_ALL", "1", 1);
	setenv("PATH_INFO", action, 1);
	setenv("REQUEST_METHOD", r->method, 1);
	setenv("QUERY_STRING", r->query ? r->query : "", 1);
	setenv("CONTENT_TYPE", r->type ? r->type : "", 1);
	setenv("REMOTE_ADDR", "client", 1);
	if (*user)
		setenv("REMOTE_USER", user, 1);
	if (r->encoding)
		setenv("HTTP_CONTENT_ENCODING", r->encoding, 1);
	if (r->protocol)
		setenv("GIT_PROTOCOL", r->protocol, 1);
	snprintf(length, sizeof length, "%llu", (unsigned long long)r->length);
	if (r->sized)
		setenv("CONTENT_LENGTH", length, 1);
	execlp("git", "git", "-c",
	       c->read_only ? "http.receivepack=false" : "http.receivepack=true", "-c",
	       "safe.directory=*", "http-backend", (char *)NULL);
	_exit(127);
}

/* The part of the path that Git's protocol knows; NULL = another address. */
static const char *action_of(const struct request *r, bool *ret_push)
{
	static const char *const actions[] = { "/info/refs", "/git-upload-pack",
					       "/git-receive-pack" };
	size_t n = strlen(r->path);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(actions); i++) {
		size_t k = strlen(actions[i]);
		if (n < k || strcmp(r->path + n - k, actions[i]))
			continue;
		bool get = i == 0;
		if (!wh_streq(r->method, get ? "GET" : "POST"))
			return NULL;
		*ret_push = i == 2 || (get && r->query && strstr(r->query, "git-receive-pack"));
		return get && (!r->query || strncmp(r->query, "service=git-", 12)) ? NULL
										   : actions[i];
	}
	return NULL;
}

static void serve(const struct http_config *c, struct request *r)
{
	int in[2], out[2];
	bool push = false;
	char user[128];
	alarm(HEAD_SECONDS);
	if (!read_head(r) || !parse(r)) {
		if (r->size)
			refuse(r, "400 Bad Request", "");
		return;
	}
	const char *action = action_of(r, &push);
	if (!action) {
		refuse(r, "404 Not Found", "");
		return;
	}
	if (!allowed(c, r, push, user, sizeof user)) {
		refuse(r, r->authorization ? "403 Forbidden" : "401 Unauthorized",
		       r->authorization ? ""
					: "WWW-Authenticate: Basic realm=\"wherry store\"\r\n");
		return;
	}
	if (push && c->read_only) {
		refuse(r, "403 Forbidden", "");
		return;
	}
	if (r->expects)
		say(r->fd, "HTTP/1.1 100 Continue\r\n\r\n");
	alarm(BODY_SECONDS);
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return;
	pid_t pid = fork();
	if (!pid)
		become_backend(c, r, action, user, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	if (pid > 0)
		exchange(r, in[1], out[0]);
	shutdown(r->fd, SHUT_WR);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
}

void http_serve(const struct http_config *config, int fd)
{
	struct request *r = calloc(1, sizeof *r);
	if (!r)
		return;
	signal(SIGPIPE, SIG_IGN);
	r->fd = fd;
	serve(config, r);
	free(r);
}
