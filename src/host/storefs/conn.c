/* SPDX-License-Identifier: ISC */
/*
 * Connections: bytes of a stream socket to requests, answers to bytes. A request lies in the connection's input buffer only
 * while it is taken; its answer has memory of its own until it is sent. Answers leave with one writev per round.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wherry/base/bytes.h>

#include "storefs_priv.h"

#define SMALL_ANSWER WH_P9_HEAD_SIZE_MAX
#define OUT_BYTES_MAX (8u << 20) /* answers that a client does not take: then its requests wait */
#define KEPT_MAX 32u             /* answer buffers kept for the next requests */
#define WRITE_IOV 64

struct answer {
	struct wh_list node; /* in out or kept; alone while the request is under way */
	struct conn *conn;
	size_t room, size, sent;
	struct wh_iov iov; /* where the server puts it */
	uint8_t data[];
};

struct conn {
	struct wh_list node;  /* fs->connections */
	struct wh_list dirty; /* fs->dirty: has something to send or to end */
	struct wh_loop_fd watch;
	struct session session;
	struct wh_list out, kept_small, kept_large;
	unsigned kept_count;
	size_t out_bytes;
	uint32_t under_way;
	bool broken, ended, writing;
	uint8_t *in;
	size_t in_size, in_room;
};

/* ---- answers ---- */

static struct answer *answer_get(struct conn *c, size_t room)
{
	bool small = room <= SMALL_ANSWER;
	struct wh_list *n = wh_list_pop_front(small ? &c->kept_small : &c->kept_large);
	struct answer *a;
	if (n) {
		c->kept_count--;
		a = WH_LIST_ENTRY(n, struct answer, node);
		if (a->room >= room)
			goto out;
		free(a);
	}
	a = malloc(sizeof *a + (small ? SMALL_ANSWER : room));
	if (!a)
		return NULL;
	a->room = small ? SMALL_ANSWER : room;
	a->conn = c;
	wh_list_init(&a->node);
out:
	a->size = a->sent = 0;
	return a;
}

static void answer_put(struct conn *c, struct answer *a)
{
	if (c->kept_count >= KEPT_MAX) {
		free(a);
		return;
	}
	c->kept_count++;
	wh_list_push_front(a->room == SMALL_ANSWER ? &c->kept_small : &c->kept_large, &a->node);
}

static void mark_dirty(struct conn *c)
{
	if (wh_list_empty(&c->dirty))
		wh_list_push_back(&c->session.fs->dirty, &c->dirty);
}

static void queue(struct conn *c, struct answer *a, size_t size)
{
	a->size = size;
	c->out_bytes += size;
	wh_list_push_back(&c->out, &a->node);
}

static void answered(void *ctx, void *token, uint32_t size)
{
	struct conn *c = ctx;
	c->under_way--;
	queue(c, token, size);
	mark_dirty(c);
}

/* ---- sending ---- */

static void watch_for(struct conn *c)
{
	uint32_t events = c->writing ? WH_LOOP_WRITE : 0;
	if (c->out_bytes < OUT_BYTES_MAX && !c->broken)
		events |= WH_LOOP_READ;
	if (events != c->watch.events)
		wh_loop_modify(c->session.fs->loop, &c->watch, events);
}

static void sent(struct conn *c, size_t size)
{
	c->out_bytes -= size;
	while (size) {
		struct answer *a = WH_LIST_ENTRY(c->out.next, struct answer, node);
		size_t n = a->size - a->sent < size ? a->size - a->sent : size;
		a->sent += n;
		size -= n;
		if (a->sent == a->size) {
			wh_list_remove(&a->node);
			answer_put(c, a);
		}
	}
}

static void send_out(struct conn *c)
{
	while (!wh_list_empty(&c->out) && !c->broken) {
		struct iovec iov[WRITE_IOV];
		struct msghdr m = { .msg_iov = iov };
		WH_LIST_FOR_EACH(i, &c->out) {
			struct answer *a = WH_LIST_ENTRY(i, struct answer, node);
			if (m.msg_iovlen == WRITE_IOV)
				break;
			iov[m.msg_iovlen++] =
				(struct iovec){ a->data + a->sent, a->size - a->sent };
		}
		ssize_t n = sendmsg(c->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == ENOTSOCK)
			n = writev(c->watch.fd, iov, (int)m.msg_iovlen);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->writing = true;
			watch_for(c);
			return;
		}
		if (n <= 0) {
			c->broken = true;
			mark_dirty(c);
			return;
		}
		sent(c, (size_t)n);
	}
	c->writing = false;
	watch_for(c);
}

/* ---- taking requests ---- */

static uint32_t answer_room(const uint8_t *p, uint32_t size)
{
	if ((p[4] == WH_P9_TREAD || p[4] == WH_P9_TREADDIR) && size >= 23) {
		uint32_t count = wh_load_le32(p + 19);
		return count > WH_P9_MSIZE_MAX ? WH_P9_MSIZE_MAX : count + 64;
	}
	return SMALL_ANSWER;
}

static bool take(struct conn *c, uint8_t *p, uint32_t size)
{
	struct session *s = &c->session;
	s->trace[s->trace_count % TRACE_SIZE].type = p[4];
	s->trace[s->trace_count % TRACE_SIZE].tag = wh_p9_tag(p);
	s->trace[s->trace_count++ % TRACE_SIZE].fid = size >= 11 ? wh_load_le32(p + 7) : 0;
	struct answer *a = answer_get(c, answer_room(p, size));
	if (!a)
		return false;
	struct wh_iov in = { p, size }, *out = &a->iov;
	*out = (struct wh_iov){ a->data, a->room };
	int r = wh_p9_server_request(c->session.server, &in, 1, out, 1, a);
	if (r < 0) {
		free(a);
		return false;
	}
	if (r == 0)
		c->under_way++;
	else
		queue(c, a, (size_t)r);
	return true;
}

static bool take_all(struct conn *c)
{
	size_t at = 0;
	while (c->in_size - at >= 4 && c->out_bytes < OUT_BYTES_MAX) {
		uint32_t size = wh_load_le32(c->in + at);
		if (size < WH_P9_HEADER_SIZE || size > WH_P9_MSIZE_MAX)
			return false;
		if (size > c->in_room) { /* grow for it */
			uint8_t *more = malloc(size);
			if (!more)
				return false;
			memcpy(more, c->in + at, c->in_size - at);
			free(c->in);
			c->in = more;
			c->in_room = size;
			c->in_size -= at;
			return true;
		}
		if (size > c->in_size - at)
			break;
		if (!take(c, c->in + at, size))
			return false;
		at += size;
	}
	memmove(c->in, c->in + at, c->in_size - at);
	c->in_size -= at;
	return true;
}

/* Sends, and takes the requests that waited for room, until the client does not read or nothing whole is left: no
 * event would come for requests that lie here already. */
static void advance(struct conn *c)
{
	for (;;) {
		send_out(c);
		if (c->broken || c->writing || !c->in_size)
			return;
		size_t before = c->in_size;
		if (!take_all(c)) {
			c->broken = true;
			mark_dirty(c);
			return;
		}
		if (c->in_size == before)
			return;
	}
}

static void on_conn(struct wh_loop_fd *watch, uint32_t events)
{
	struct conn *c = watch->ctx;
	if (events & WH_LOOP_WRITE)
		advance(c);
	if (events & WH_LOOP_HANGUP && c->in_size == c->in_room)
		c->broken = true; /* it asks for more than it reads, and went */
	if (c->broken)
		mark_dirty(c);
	if (c->broken || !(events & (WH_LOOP_READ | WH_LOOP_HANGUP)))
		return;
	/* A few turns, so that one busy client does not hold up the others. */
	for (unsigned turn = 0; turn < 4 && !c->broken; turn++) {
		if (c->in_size == c->in_room)
			break;
		ssize_t n = read(watch->fd, c->in + c->in_size, c->in_room - c->in_size);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			c->broken = true;
			break;
		}
		c->in_size += (size_t)n;
		bool full = c->in_size == c->in_room;
		if (!take_all(c))
			c->broken = true;
		if (!full && c->in_room - c->in_size > 0 && (size_t)n < 65536)
			break;
	}
	if (c->broken)
		mark_dirty(c);
	else
		advance(c);
}

/* ---- life ---- */

static void peer_of(struct session *s, int fd)
{
	struct ucred u;
	socklen_t size = sizeof u;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &size) || u.pid <= 0)
		return;
	struct passwd p, *found = NULL;
	char buffer[1024];
	s->peer_known = true;
	s->uid = u.uid;
	s->pid = u.pid;
	if (!getpwuid_r(u.uid, &p, buffer, sizeof buffer, &found) && found)
		snprintf(s->user, sizeof s->user, "%s", found->pw_name);
	else
		snprintf(s->user, sizeof s->user, "uid%u", u.uid);
	snprintf(s->mail, sizeof s->mail, "%s@localhost", s->user);
}

void session_author(const struct session *s, struct wh_store_commit_config *c)
{
	if (s->token[0])
		c->author = s->token;
	else if (s->peer_known)
		c->author = s->user;
	if (c->author)
		c->mail = s->mail;
}

int conn_new(struct wh_storefs *fs, int fd)
{
	if (fs->connection_count >= WH_STOREFS_CONNECTIONS_MAX)
		return -WH_EMFILE;
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		return -WH_ENOMEM;
	c->in_room = 128u << 10;
	c->in = malloc(c->in_room);
	wh_list_init(&c->node);
	wh_list_init(&c->dirty);
	wh_list_init(&c->out);
	wh_list_init(&c->kept_small);
	wh_list_init(&c->kept_large);
	int r = c->in ? session_init(fs, &c->session, answered, c) : -WH_ENOMEM;
	if (r < 0) {
		free(c->in);
		free(c);
		return r;
	}
	int size = 1 << 20;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	peer_of(&c->session, fd);
	c->watch = (struct wh_loop_fd){ .fd = fd, .events = WH_LOOP_READ, .fn = on_conn, .ctx = c };
	r = wh_loop_add(fs->loop, &c->watch);
	if (r < 0) {
		session_fini(&c->session);
		free(c->in);
		free(c);
		return r;
	}
	wh_list_push_back(&fs->connections, &c->node);
	fs->connection_count++;
	return 0;
}

static void drop(struct wh_list *list)
{
	for (struct wh_list *n; (n = wh_list_pop_front(list));)
		free(WH_LIST_ENTRY(n, struct answer, node));
}

static void conn_free(struct conn *c)
{
	struct wh_storefs *fs = c->session.fs;
	if (!c->ended) {
		wh_loop_remove(fs->loop, &c->watch);
		close(c->watch.fd);
		c->ended = true;
	}
	/* Requests under way are told; those that cannot stop are answered before long. */
	if (!wh_p9_server_reset(c->session.server))
		return;
	session_fini(&c->session);
	drop(&c->out);
	drop(&c->kept_small);
	drop(&c->kept_large);
	wh_list_remove(&c->node);
	wh_list_remove(&c->dirty);
	free(c->in);
	free(c);
	fs->connection_count--;
	if (fs->config.ended)
		fs->config.ended(fs->config.ctx, fs->connection_count);
}

bool conns_work(struct wh_storefs *fs)
{
	bool any = false;
	for (struct wh_list *n; (n = wh_list_pop_front(&fs->dirty)); any = true) {
		struct conn *c = WH_LIST_ENTRY(n, struct conn, dirty);
		if (c->broken) {
			conn_free(c);
			continue;
		}
		advance(c);
		if (c->broken)
			conn_free(c);
	}
	return any;
}

void conns_free(struct wh_storefs *fs)
{
	WH_LIST_FOR_EACH_SAFE(n, &fs->connections) {
		struct conn *c = WH_LIST_ENTRY(n, struct conn, node);
		c->broken = true;
		conn_free(c);
	}
	commits_flush(fs);
	while (conns_work(fs))
		;
	wh_assert(!fs->connection_count);
}
