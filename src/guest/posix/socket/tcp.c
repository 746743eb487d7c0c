/* SPDX-License-Identifier: ISC */
/* TCP sockets. The stack's events only wake whoever waits; state is asked for. */
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/signal.h>
#include <wherry/base/assert.h>
#include "sock.h"

#define BACKLOG_MIN 128
#define BACKLOG_MAX 4096 /* Linux's SOMAXCONN */
#define EXIT_FLUSH_NS 1000000000ull

struct tcp {
	struct sock sock;
	struct wh_net_tcp *s;    /* NULL: neither listening nor connected */
	struct wh_net_end local; /* as bound */
	struct wh_list bound;    /* in bound_list while it holds a port by bind alone */
	bool is_bound, listening, connecting, connected, failed;
	bool read_shut, write_shut;
	int error;                   /* SO_ERROR, positive */
	struct sock_message *reader; /* waits in receive, its memory takes what comes */
	uint32_t option[WH_NET_TCP_MSS + 1];
	bool option_given[WH_NET_TCP_MSS + 1];
};

static struct wh_list bound_list = { &bound_list, &bound_list };

static struct tcp *tcp_of(struct sock *s)
{
	return WH_CONTAINER_OF(s, struct tcp, sock);
}

static void on_event(struct wh_net_tcp *stack, uint32_t events)
{
	struct tcp *t = wh_net_tcp_ctx(stack);
	uint32_t mask = 0;
	if (events & WH_NET_CONNECTED) {
		t->connected = true;
		t->connecting = false;
	}
	if (events & WH_NET_FAILED) {
		t->failed = true;
		t->connecting = false;
		t->error = wh_net_tcp_error(stack);
		mask |= LX_POLLERR | LX_POLLHUP | LX_POLLIN | LX_POLLOUT;
	}
	if (events & (WH_NET_READABLE | WH_NET_ACCEPTABLE))
		mask |= LX_POLLIN | LX_POLLRDNORM;
	if (events & (WH_NET_WRITABLE | WH_NET_CONNECTED))
		mask |= LX_POLLOUT | LX_POLLWRNORM;
	if (events & WH_NET_PEER_CLOSED)
		mask |= LX_POLLIN | LX_POLLRDNORM | LX_POLLRDHUP;
	if (events & WH_NET_DRAINED)
		mask |= LX_POLLHUP;
	kern_waitq_wake(&t->sock.file.waitq, mask, UINT32_MAX);
}

/* Copies `n` bytes of a list to where the message has had `done` bytes already. */
static size_t scatter(const struct sock_message *m, size_t done, const struct wh_iov *from,
		      size_t count, size_t n)
{
	size_t moved = 0;
	for (int i = 0; i < m->iov_count && moved < n; i++) {
		size_t skip = done < m->iov[i].size ? done : m->iov[i].size;
		size_t part = m->iov[i].size - skip;
		done -= skip;
		if (part > n - moved)
			part = n - moved;
		moved += wh_iov_read(from, count, moved, (uint8_t *)m->iov[i].base + skip, part);
	}
	return moved;
}

/* A reader that waits gets the bytes out of the frame, without the way through the stack's buffer. */
static uint32_t on_data(struct wh_net_tcp *stack, const struct wh_iov *iov, uint32_t count,
			uint32_t size)
{
	struct tcp *t = wh_net_tcp_ctx(stack);
	struct sock_message *m = t->reader;
	if (!m)
		return 0;
	size_t room = m->size - m->direct, n = size < room ? size : room;
	n = scatter(m, m->direct, iov, count, n);
	m->direct += n;
	if (m->direct == m->size)
		t->reader = NULL;
	kern_waitq_wake(&t->sock.file.waitq, LX_POLLIN | LX_POLLRDNORM, UINT32_MAX);
	return (uint32_t)n;
}

static const struct wh_net_tcp_ops stack_ops = { .event = on_event, .data = on_data };

static void options_apply(struct tcp *t)
{
	for (int i = 0; i <= WH_NET_TCP_MSS; i++)
		if (t->option_given[i]) /* checked when it was set */
			(void)wh_net_tcp_set(t->s, (enum wh_net_tcp_option)i, t->option[i]);
}

/* ---- Names ---- */

static void unbind(struct tcp *t)
{
	wh_list_remove(&t->bound);
}

static bool bound_elsewhere(const struct wh_net_end *e, const struct tcp *self)
{
	WH_LIST_FOR_EACH(it, &bound_list) {
		const struct tcp *t = WH_LIST_ENTRY(it, struct tcp, bound);
		if (t == self || t->local.port != e->port)
			continue;
		if (t->sock.reuse_port && self->sock.reuse_port)
			continue;
		if (wh_net_ip_equal(&t->local.ip, &e->ip) || wh_net_ip_is_any(&t->local.ip) ||
		    wh_net_ip_is_any(&e->ip))
			return true;
	}
	return false;
}

static int tcp_bind(struct sock *s, const struct wh_net_end *local)
{
	struct tcp *t = tcp_of(s);
	struct wh_net_end e = *local;
	if (t->is_bound || t->s)
		return -WH_EINVAL;
	for (int tries = 0;; tries++) {
		e.port = local->port;
		int r = wh_net_tcp_bindable(posix_net, &e, s->v6only);
		if (r < 0)
			return r;
		if (!bound_elsewhere(&e, t))
			break;
		if (local->port || tries == 64)
			return -WH_EADDRINUSE;
	}
	t->local = e;
	t->is_bound = true;
	wh_list_push_back(&bound_list, &t->bound);
	return 0;
}

static int tcp_name(struct sock *s, bool remote, struct wh_net_end *ret_end)
{
	struct tcp *t = tcp_of(s);
	if (remote) {
		if (!t->connected || !t->s)
			return -WH_ENOTCONN;
		*ret_end = wh_net_tcp_tuple(t->s)->remote;
		return 0;
	}
	*ret_end = t->s ? wh_net_tcp_tuple(t->s)->local : t->local;
	return 0;
}

/* ---- Opening ---- */

/* The backlog is a hint, as POSIX has it. Old programs say 5, and a burst of clients would wait a
 * second each for their SYNs to be repeated. One waiting connection has 32 KiB of buffers: little
 * guests spend a quarter of their memory at most. */
static uint32_t backlog_min(void)
{
	size_t part = kern_pages_total_count() * KERN_PAGE / (128u << 10);
	return part < BACKLOG_MIN ? (uint32_t)part + 1 : BACKLOG_MIN;
}

static int tcp_listen(struct sock *s, int backlog)
{
	struct tcp *t = tcp_of(s);
	if (t->listening)
		return 0; /* a new backlog is not worth a call of its own */
	if (t->s)
		return -WH_EINVAL;
	uint32_t limit = backlog < 1 ? 1 : backlog > BACKLOG_MAX ? BACKLOG_MAX : (uint32_t)backlog;
	if (limit < backlog_min())
		limit = backlog_min();
	int r = wh_net_tcp_listen(posix_net, &t->local, s->v6only, limit, &stack_ops, t, &t->s);
	if (r < 0)
		return r;
	unbind(t);
	t->listening = true;
	options_apply(t);
	kern_timeline_mark(WH_BOOT_STAGE_LISTEN);
	return 0;
}

static int tcp_accept(struct sock *s, bool nonblock, struct sock **ret_s)
{
	struct tcp *t = tcp_of(s), *n;
	struct wh_net_tcp *stack;
	uint64_t deadline = sock_deadline(s->receive_timeout_ns);
	uint32_t tries = 0;
	if (!t->listening)
		return -WH_EINVAL;
	while (wh_net_tcp_take(t->s, &stack) < 0) {
		int r = sock_wait(s, nonblock, deadline, &tries);
		if (r < 0)
			return r;
		if (!t->listening) /* shut down meanwhile */
			return -WH_EINVAL;
	}
	int r = posix_tcp_new(s->family, ret_s);
	if (r < 0) {
		wh_net_tcp_abort(stack);
		return r;
	}
	n = tcp_of(*ret_s);
	n->s = stack;
	n->connected = true;
	n->sock.keepalive = s->keepalive;
	n->sock.linger = s->linger;
	n->sock.receive_timeout_ns = s->receive_timeout_ns;
	n->sock.send_timeout_ns = s->send_timeout_ns;
	memcpy(n->option, t->option, sizeof n->option);
	memcpy(n->option_given, t->option_given, sizeof n->option_given);
	wh_net_tcp_set_ops(stack, &stack_ops, n);
	kern_timeline_mark(WH_BOOT_STAGE_ACCEPT);
	return 0;
}

static int connect_begin(struct tcp *t, const struct wh_net_end *remote)
{
	struct wh_net_tuple tuple = { .local = t->local, .remote = *remote };
	static const uint8_t one4[4] = { 127, 0, 0, 1 };
	static const uint8_t one6[16] = { [15] = 1 };
	/* To nobody in particular means to this host, as on Linux. */
	if (wh_net_ip_is_any(&remote->ip))
		tuple.remote.ip = wh_net_ip_is4(&remote->ip) ? wh_net_ip4(one4) : wh_net_ip6(one6);
	/* An unspecified address of the other version is the same nobody. */
	if (wh_net_ip_is_any(&tuple.local.ip))
		tuple.local.ip = (struct wh_net_ip){ { 0 } };
	int r = wh_net_tcp_connect(posix_net, &tuple, &stack_ops, t, &t->s);
	if (r < 0)
		return r == -WH_EADDRINUSE && !t->is_bound ? -WH_EADDRNOTAVAIL : r;
	unbind(t);
	t->connecting = true;
	t->failed = false;
	options_apply(t);
	sock_run();
	return 0;
}

static int take_error(struct sock *s)
{
	struct tcp *t = tcp_of(s);
	int error = t->error;
	t->error = 0;
	return error;
}

static int tcp_connect(struct sock *s, const struct wh_net_end *remote, bool nonblock)
{
	struct tcp *t = tcp_of(s);
	uint64_t deadline = sock_deadline(s->send_timeout_ns);
	uint32_t tries = 0;
	if (t->listening || t->connected)
		return -WH_EISCONN;
	if (t->connecting && nonblock)
		return -WH_EALREADY;
	if (t->failed && t->s) { /* one report, then a new attempt */
		wh_net_tcp_close(t->s);
		t->s = NULL;
		t->failed = false;
		int error = take_error(s);
		if (error)
			return -error;
	}
	if (!t->connecting) {
		int r = connect_begin(t, remote);
		if (r < 0)
			return r;
	}
	while (t->connecting) {
		int r = sock_wait(s, nonblock, deadline, &tries);
		if (r < 0)
			return r == -WH_EAGAIN ? -WH_EINPROGRESS : r;
	}
	if (t->connected)
		return 0;
	wh_net_tcp_close(t->s);
	t->s = NULL;
	t->failed = false;
	int error = take_error(s);
	return error ? -error : -WH_ECONNABORTED;
}

/* ---- Bytes ---- */

/* Why a socket without bytes says so: 0 = end, -WH_EAGAIN = wait. */
static int empty_reason(struct tcp *t)
{
	if (t->listening || !t->s)
		return -WH_ENOTCONN;
	int error = take_error(&t->sock);
	if (error)
		return -error;
	if (t->read_shut || t->failed || wh_net_tcp_at_end(t->s))
		return 0;
	return t->connected || t->connecting ? -WH_EAGAIN : -WH_ENOTCONN;
}

/* Moves what is there. */
static size_t take(struct tcp *t, struct sock_message *m, size_t done)
{
	struct wh_iov from[2];
	uint32_t have = wh_net_tcp_peek(t->s, from);
	size_t want = m->size - done, n = have < want ? have : want, moved = 0;
	if (m->flags & LX_MSG_TRUNC) { /* Linux: throws the bytes away */
		moved = n;
	} else {
		moved = scatter(m, done, from, 2, n);
	}
	if (!(m->flags & LX_MSG_PEEK) && moved)
		wh_net_tcp_consume(t->s, (uint32_t)moved);
	return moved;
}

/* Waits once. What comes meanwhile goes straight to the reader's memory, if it is the only one. */
static int reader_wait(struct tcp *t, struct sock_message *m, uint64_t deadline, uint32_t *tries,
		       size_t *done)
{
	bool direct = !m->nonblock && !t->reader && !(m->flags & (LX_MSG_PEEK | LX_MSG_TRUNC));
	m->direct = *done;
	if (direct)
		t->reader = m;
	int r = sock_wait(&t->sock, m->nonblock, deadline, tries);
	if (t->reader == m)
		t->reader = NULL;
	*done = m->direct;
	return r;
}

static int64_t tcp_receive(struct sock *s, struct sock_message *m)
{
	struct tcp *t = tcp_of(s);
	uint64_t deadline = sock_deadline(s->receive_timeout_ns);
	bool all = (m->flags & LX_MSG_WAITALL) && !(m->flags & LX_MSG_PEEK);
	size_t done = 0;
	uint32_t tries = 0;
	if (m->flags & (LX_MSG_OOB | LX_MSG_ERRQUEUE)) /* urgent data comes inline */
		return m->flags & LX_MSG_OOB ? -WH_EINVAL : -WH_EAGAIN;
	while (done < m->size) {
		done += t->s && !t->listening ? take(t, m, done) : 0;
		if (done && (!all || done == m->size))
			break;
		int r = empty_reason(t);
		if (r == -WH_EAGAIN)
			r = reader_wait(t, m, deadline, &tries, &done);
		else if (!r)
			break;
		if (r < 0 && !done)
			return r;
		if (r < 0)
			break;
	}
	sock_run();
	return (int64_t)done;
}

static int broken_pipe(const struct sock_message *m)
{
	if (!(m->flags & LX_MSG_NOSIGNAL))
		kern_signal_raise(LX_SIGPIPE);
	return -WH_EPIPE;
}

/* Why nothing may be sent; 0 = it may. */
static int send_error(struct tcp *t, const struct sock_message *m)
{
	if (t->error)
		return -take_error(&t->sock);
	if (t->write_shut || t->failed || t->listening || !t->s)
		return broken_pipe(m);
	return 0;
}

static size_t put(struct tcp *t, const struct sock_message *m, size_t done)
{
	struct wh_iov to[2];
	size_t room = wh_net_tcp_reserve(t->s, to), moved = 0;
	for (int i = 0; i < m->iov_count && moved < room; i++) {
		size_t skip = done < m->iov[i].size ? done : m->iov[i].size;
		size_t part = m->iov[i].size - skip;
		done -= skip;
		if (part > room - moved)
			part = room - moved;
		moved += wh_iov_write(to, 2, moved, (uint8_t *)m->iov[i].base + skip, part);
	}
	wh_net_tcp_commit(t->s, (uint32_t)moved);
	return moved;
}

static void more_to_come(struct tcp *t, bool more)
{
	if (!t->option[WH_NET_TCP_CORK]) /* cannot fail: a flag */
		(void)wh_net_tcp_set(t->s, WH_NET_TCP_CORK, more);
}

static int64_t tcp_send(struct sock *s, struct sock_message *m)
{
	struct tcp *t = tcp_of(s);
	uint64_t deadline = sock_deadline(s->send_timeout_ns);
	size_t done = 0;
	uint32_t tries = 0;
	int r = 0;
	if (m->flags & LX_MSG_OOB)
		return -WH_EOPNOTSUPP;
	while (t->connecting && r >= 0)
		r = sock_wait(s, m->nonblock, deadline, &tries);
	if (r >= 0)
		r = send_error(t, m);
	if (r < 0)
		return r;
	if (m->flags & LX_MSG_MORE)
		more_to_come(t, true);
	while (done < m->size) {
		size_t n = put(t, m, done);
		done += n;
		if (n || done == m->size)
			continue;
		sock_run();
		if (wh_net_tcp_writable(t->s))
			continue;
		r = sock_wait(s, m->nonblock, deadline, &tries);
		if (r >= 0 && (t->error || t->failed || t->write_shut || !t->s))
			r = done ? -WH_EAGAIN : send_error(t, m);
		if (r < 0)
			break;
	}
	if (!(m->flags & LX_MSG_MORE) && t->s)
		more_to_come(t, false);
	sock_run();
	if (done)
		kern_timeline_mark(WH_BOOT_STAGE_REPLY);
	return done ? (int64_t)done : r;
}

static uint32_t tcp_poll(struct fs_file *f)
{
	struct tcp *t = tcp_of(sock_of_file(f));
	struct wh_iov iov[2];
	uint32_t mask = 0;
	if (t->listening)
		return wh_net_tcp_waiting(t->s) ? LX_POLLIN | LX_POLLRDNORM : 0;
	if (!t->s)
		return LX_POLLOUT | LX_POLLWRNORM | LX_POLLHUP | (t->error ? LX_POLLERR : 0);
	if (t->connecting)
		return 0;
	bool end = t->failed || t->read_shut || wh_net_tcp_at_end(t->s);
	if (end || wh_net_tcp_peek(t->s, iov))
		mask |= LX_POLLIN | LX_POLLRDNORM;
	if (end)
		mask |= LX_POLLRDHUP;
	if (t->failed || t->write_shut || wh_net_tcp_writable(t->s))
		mask |= LX_POLLOUT | LX_POLLWRNORM;
	if (t->error)
		mask |= LX_POLLERR;
	if (t->failed || (end && t->write_shut))
		mask |= LX_POLLHUP;
	return mask;
}

/* ---- The rest ---- */

static int tcp_shutdown(struct sock *s, bool read, bool write)
{
	struct tcp *t = tcp_of(s);
	if (t->listening && read) { /* Linux: stops listening */
		wh_net_tcp_close(t->s);
		t->s = NULL;
		t->listening = false;
	} else if (!t->connected || !t->s) {
		return -WH_ENOTCONN;
	} else {
		t->read_shut |= read;
		t->write_shut |= write;
		if (write)
			wh_net_tcp_shutdown(t->s);
	}
	sock_run();
	kern_waitq_wake(&s->file.waitq,
			LX_POLLIN | LX_POLLOUT | LX_POLLHUP | LX_POLLRDHUP | LX_POLLRDNORM,
			UINT32_MAX);
	return 0;
}

static int tcp_option(int level, int option, enum wh_net_tcp_option *ret_option)
{
	static const struct {
		int level, option;
		enum wh_net_tcp_option ours;
	} table[] = {
		{ LX_IPPROTO_TCP, LX_TCP_NODELAY, WH_NET_TCP_NODELAY },
		{ LX_IPPROTO_TCP, LX_TCP_CORK, WH_NET_TCP_CORK },
		{ LX_SOL_SOCKET, LX_SO_KEEPALIVE, WH_NET_TCP_KEEPALIVE },
		{ LX_IPPROTO_TCP, LX_TCP_KEEPIDLE, WH_NET_TCP_KEEP_IDLE_S },
		{ LX_IPPROTO_TCP, LX_TCP_KEEPINTVL, WH_NET_TCP_KEEP_INTERVAL_S },
		{ LX_IPPROTO_TCP, LX_TCP_KEEPCNT, WH_NET_TCP_KEEP_COUNT },
		{ LX_IPPROTO_TCP, LX_TCP_USER_TIMEOUT, WH_NET_TCP_USER_TIMEOUT_MS },
		{ LX_IPPROTO_IP, LX_IP_TOS, WH_NET_TCP_TOS },
		{ LX_IPPROTO_IPV6, LX_IPV6_TCLASS, WH_NET_TCP_TOS },
		{ LX_IPPROTO_IP, LX_IP_TTL, WH_NET_TCP_HOP_LIMIT },
		{ LX_IPPROTO_IPV6, LX_IPV6_UNICAST_HOPS, WH_NET_TCP_HOP_LIMIT },
		{ LX_SOL_SOCKET, LX_SO_RCVBUF, WH_NET_TCP_RECEIVE_MAX },
		{ LX_SOL_SOCKET, LX_SO_SNDBUF, WH_NET_TCP_SEND_MAX },
		{ LX_IPPROTO_TCP, LX_TCP_MAXSEG, WH_NET_TCP_MSS },
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(table); i++) {
		if (table[i].level == level && table[i].option == option) {
			*ret_option = table[i].ours;
			return 0;
		}
	}
	return -WH_ENOPROTOOPT;
}

static int tcp_set(struct sock *s, int level, int option, int value)
{
	struct tcp *t = tcp_of(s);
	enum wh_net_tcp_option o;
	if (level == LX_IPPROTO_TCP &&
	    (option == LX_TCP_QUICKACK || option == LX_TCP_DEFER_ACCEPT ||
	     option == LX_TCP_SYNCNT || option == LX_TCP_LINGER2 || option == LX_TCP_FASTOPEN ||
	     option == LX_TCP_WINDOW_CLAMP || option == LX_TCP_NOTSENT_LOWAT))
		return 0; /* hints: taken, without effect */
	int r = tcp_option(level, option, &o);
	if (r < 0)
		return r;
	if (value < 0)
		return -WH_EINVAL;
	bool flag = o == WH_NET_TCP_NODELAY || o == WH_NET_TCP_CORK || o == WH_NET_TCP_KEEPALIVE;
	bool keep = o == WH_NET_TCP_KEEP_IDLE_S || o == WH_NET_TCP_KEEP_INTERVAL_S ||
		    o == WH_NET_TCP_KEEP_COUNT;
	if (keep && (value < 1 || value > 32767))
		return -WH_EINVAL;
	if (o == WH_NET_TCP_HOP_LIMIT && (value < 1 || value > 255))
		return -WH_EINVAL;
	t->option[o] = flag ? value != 0 : (uint32_t)value;
	t->option_given[o] = true;
	if (t->s)
		r = wh_net_tcp_set(t->s, o, t->option[o]);
	sock_run();
	return r;
}

static void info_get(const struct tcp *t, struct lx_tcp_info *i)
{
	struct wh_net_tcp_info n = { .state = WH_NET_TCP_CLOSED };
	memset(i, 0, sizeof *i);
	if (t->s)
		wh_net_tcp_info(t->s, &n);
	i->state = (uint8_t)n.state;
	i->options = (uint8_t)((n.timestamps ? 1 : 0) | (n.sack ? 2 : 0) | (n.scale ? 4 : 0));
	i->scales = (uint8_t)(n.scale_send | n.scale_receive << 4);
	i->rto_us = (uint32_t)(n.rto_ns / 1000);
	i->mss_send = n.mss_send;
	i->mss_receive = i->advmss = n.mss_receive;
	i->unacked = n.mss_send ? (n.in_flight + n.mss_send - 1) / n.mss_send : 0;
	i->rtt_us = (uint32_t)(n.rtt_ns / 1000);
	i->rttvar_us = (uint32_t)(n.rtt_variance_ns / 1000);
	i->snd_ssthresh = n.slow_start_threshold;
	i->snd_cwnd = n.mss_send ? n.congestion_window / n.mss_send : 0;
	i->rcv_space = n.window_receive;
	i->total_retrans = n.retransmits;
	i->bytes_acked = n.bytes_acked;
	i->bytes_received = n.bytes_received;
	i->segments_in = n.segments_in;
	i->segments_out = n.segments_out;
	i->notsent_bytes = n.unsent;
}

static int value_put(void *to, uint32_t *size, const void *from, uint32_t full)
{
	uint32_t n = *size < full ? *size : full;
	memcpy(to, from, n);
	*size = n;
	return 0;
}

static int tcp_get(struct sock *s, int level, int option, void *ret_value, uint32_t *size)
{
	struct tcp *t = tcp_of(s);
	enum wh_net_tcp_option o;
	if (level == LX_IPPROTO_TCP && option == LX_TCP_INFO) {
		struct lx_tcp_info info;
		info_get(t, &info);
		return value_put(ret_value, size, &info, sizeof info);
	}
	if (level == LX_IPPROTO_TCP && option == LX_TCP_CONGESTION)
		return value_put(ret_value, size, "cubic", 6);
	static const uint32_t defaults[WH_NET_TCP_MSS + 1] = {
		[WH_NET_TCP_KEEP_IDLE_S] = 7200,
		[WH_NET_TCP_KEEP_INTERVAL_S] = 75,
		[WH_NET_TCP_KEEP_COUNT] = 9,
		[WH_NET_TCP_HOP_LIMIT] = 64,
		[WH_NET_TCP_RECEIVE_MAX] = 131072,
		[WH_NET_TCP_SEND_MAX] = 131072,
		[WH_NET_TCP_MSS] = 536,
	};
	int r = tcp_option(level, option, &o);
	if (r < 0)
		return r;
	uint32_t value = t->option_given[o] ? t->option[o] : defaults[o];
	if (t->s && !t->listening)
		r = wh_net_tcp_get(t->s, o, &value);
	return r < 0 ? r : value_put(ret_value, size, &value, sizeof value);
}

static int tcp_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	struct tcp *t = tcp_of(sock_of_file(f));
	struct wh_iov iov[2];
	int value;
	bool open = t->s && !t->listening;
	if (request == LX_FIONREAD)
		value = open ? (int)wh_net_tcp_peek(t->s, iov) : 0;
	else if (request == LX_TIOCOUTQ)
		value = open ? (int)wh_net_tcp_unsent(t->s) : 0;
	else if (request == LX_SIOCATMARK)
		value = 0;
	else
		return -WH_ENOTTY;
	if (!kern_user_writable((void *)argument, sizeof value))
		return -WH_EFAULT;
	memcpy((void *)argument, &value, sizeof value);
	return 0;
}

static void tcp_release(struct fs_file *f)
{
	struct tcp *t = tcp_of(sock_of_file(f));
	unbind(t);
	if (t->s && t->sock.linger.on && !t->sock.linger.seconds)
		wh_net_tcp_abort(t->s);
	else
		wh_net_tcp_close(t->s);
	kern_free(t, sizeof *t);
	sock_run();
}

static const struct sock_ops tcp_ops = {
	.bind = tcp_bind,
	.listen = tcp_listen,
	.accept = tcp_accept,
	.connect = tcp_connect,
	.name = tcp_name,
	.send = tcp_send,
	.receive = tcp_receive,
	.shutdown = tcp_shutdown,
	.set = tcp_set,
	.get = tcp_get,
	.take_error = take_error,
};

static const struct fs_file_ops file_ops = {
	.read = sock_read,
	.write = sock_write,
	.poll = tcp_poll,
	.ioctl = tcp_ioctl,
	.release = tcp_release,
	.kind = FS_KIND_SOCKET,
	.tell = sock_tell,
};

/* The program's end must not take back what it sent: as on any system, the stack
 * goes on until the peers have it, here for a second at most. */
static void flush_at_exit(void)
{
	uint64_t deadline = kern_time_monotonic() + EXIT_FLUSH_NS;
	wh_net_tcp_close_all(posix_net);
	for (;;) {
		const uint32_t *events = &kern_control()->host_events;
		uint32_t seen = __atomic_load_n(events, __ATOMIC_ACQUIRE);
		uint64_t next = sock_net_poll(); /* kern_poll may be who ends us */
		if (!wh_net_tcp_busy(posix_net) || kern_time_monotonic() >= deadline)
			return;
		kern_plat_wait(seen, next < deadline ? next : deadline);
	}
}

int posix_tcp_new(int family, struct sock **ret_s)
{
	static const uint8_t zero[4] = { 0 };
	kern_exit_hook = flush_at_exit;
	int r = wh_net_tcp_enable(posix_net);
	struct tcp *t = r < 0 ? NULL : kern_alloc_zero(sizeof *t);
	if (!t)
		return -WH_ENOMEM;
	sock_init(&t->sock, &tcp_ops, &file_ops, family, LX_SOCK_STREAM, LX_IPPROTO_TCP);
	wh_list_init(&t->bound);
	if (family == LX_AF_INET)
		t->local.ip = wh_net_ip4(zero);
	*ret_s = &t->sock;
	return 0;
}
