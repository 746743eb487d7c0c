/* SPDX-License-Identifier: ISC */
/*
 * Sockets around connections. One round for a client: receive what fits, let the connection parse it (which
 * may finish requests on the spot), send all replies by one system call (large ones at once: NBD_PUSH_SIZE).
 *
 * A client that must wait for the image costs nothing: its connection says `changed` when a reply is there, and
 * the hook before the loop's sleep sends it together with all others.
 *
 * Before sleeping the loop may look for new requests for a while (spin_us): with one request in flight most of
 * the time between two is spent on waking up. As the kernel's halt polling does it: a sleep that turned
 * out to be short makes the next look-out long, a long one makes it shorter.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <wherry/loop.h>

#include "nbd_priv.h"
#include "tls.h"

#define TX_IOV 128u           /* pieces of one system call */
#define TURN 16u              /* receives of one client before others have their turn */
#define SEND_BUFFER (2 << 20) /* of the socket: replies of a few large reads */
#define SPIN_LEAST_NS 2000u

struct listener {
	struct listener *next;
	struct wh_loop_fd watch;
};

struct client {
	struct wh_list node;      /* of the server's clients */
	struct wh_list attention; /* of those with something new */
	struct wh_nbd_server *server;
	struct wh_nbd_conn *conn;
	struct wh_loop_fd watch; /* fd -1: closed, only the image is waited for */
	struct wh_loop_timer handshake;
	struct nbd_tls_session *tls;
	bool tls_waits_write, in_tls, chosen;
};

struct wh_nbd_server {
	struct wh_nbd_server_config config;
	struct listener *listeners;
	bool accepting, stopping;
	struct wh_list clients, attention;
	uint32_t client_count, chosen_count;
	unsigned long long next_id;
	struct wh_loop_hook hook;
	/* Looking out. */
	uint64_t spin_ns, active_ns, slept_ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void attend(struct client *c)
{
	if (wh_list_empty(&c->attention))
		wh_list_push_back(&c->server->attention, &c->attention);
}

static void changed(void *ctx)
{
	attend(ctx);
}

/* ---- the socket ---- */

static void close_socket(struct client *c)
{
	if (c->watch.fd < 0)
		return;
	wh_loop_timer_stop(c->server->config.loop, &c->handshake);
	wh_loop_remove(c->server->config.loop, &c->watch);
	nbd_tls_end(c->tls);
	c->tls = NULL;
	close(c->watch.fd);
	c->watch.fd = -1;
	wh_nbd_conn_hang_up(c->conn);
	attend(c); /* freed from the hook */
}

static ssize_t send_pieces(struct client *c, struct wh_iov *iov, uint32_t n)
{
	if (c->tls && !c->in_tls)
		return nbd_tls_send(c->tls, iov, n);
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t r = sendmsg(c->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return r < 0 ? -errno : r;
}

static ssize_t receive_pieces(struct client *c, struct wh_iov *iov, uint32_t n)
{
	if (c->tls)
		return nbd_tls_receive(c->tls, iov[0].base, iov[0].size);
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t r = recvmsg(c->watch.fd, &m, MSG_DONTWAIT);
	return r < 0 ? -errno : r;
}

/* Sends what there is. false = the socket is full, or gone. */
static bool flush(struct client *c)
{
	struct wh_iov iov[TX_IOV];
	while (c->watch.fd >= 0) {
		uint32_t n = wh_nbd_conn_tx(c->conn, iov, TX_IOV);
		if (!n)
			return true;
		ssize_t r = send_pieces(c, iov, n);
		if (r == -WH_EINTR)
			continue;
		if (r == -WH_EAGAIN)
			return false;
		if (r < 0) {
			close_socket(c);
			return false;
		}
		wh_nbd_conn_sent(c->conn, (size_t)r);
	}
	return false;
}

static void tls_step(struct client *c)
{
	struct wh_nbd_server *s = c->server;
	bool write = false;
	if (!c->tls && nbd_tls_start(s->config.tls, c->watch.fd, &c->tls) < 0) {
		close_socket(c);
		return;
	}
	c->in_tls = true;
	int r = nbd_tls_handshake(c->tls, &write);
	if (r < 0) {
		wh_log_write(&s->config.log, WH_LOG_DEBUG, "nbd", 0, "TLS handshake failed");
		close_socket(c);
		return;
	}
	c->tls_waits_write = write;
	if (r > 0) {
		c->in_tls = false;
		wh_nbd_conn_tls_started(c->conn);
	}
}

/* Sends, ends or goes on with TLS as the connection's state asks, and says what to wait for. */
static void settle(struct client *c)
{
	struct wh_loop *loop = c->server->config.loop;
	struct wh_iov iov[2];
	bool empty = flush(c);
	if (c->watch.fd >= 0 && empty && wh_nbd_conn_state(c->conn) == WH_NBD_TLS) {
		tls_step(c);
		empty = c->watch.fd >= 0 && !c->in_tls ? flush(c) : empty;
	}
	if (c->watch.fd < 0)
		return;
	enum wh_nbd_state state = wh_nbd_conn_state(c->conn);
	if (state == WH_NBD_DEAD || (state == WH_NBD_ENDING && empty)) {
		close_socket(c);
		return;
	}
	if (state == WH_NBD_TRANSFER && !c->chosen) {
		c->chosen = true;
		c->server->chosen_count++;
		wh_loop_timer_stop(loop, &c->handshake);
	}
	uint32_t events = empty ? 0 : WH_LOOP_WRITE;
	if (c->in_tls)
		events = c->tls_waits_write ? WH_LOOP_WRITE : WH_LOOP_READ;
	else if (wh_nbd_conn_rx(c->conn, iov))
		events |= WH_LOOP_READ;
	if (wh_loop_modify(loop, &c->watch, events) < 0)
		close_socket(c);
}

static void ready(struct wh_loop_fd *watch, uint32_t events)
{
	struct client *c = watch->ctx;
	struct wh_iov iov[2];
	for (unsigned i = 0; i < TURN && c->watch.fd >= 0 && !c->in_tls; i++) {
		uint32_t n = wh_nbd_conn_rx(c->conn, iov);
		if (!n)
			break;
		size_t room = iov[0].size + (n > 1 ? iov[1].size : 0);
		ssize_t r = receive_pieces(c, iov, n);
		if (r == -WH_EAGAIN)
			break;
		if (r == -WH_EINTR)
			continue;
		if (r <= 0) {
			close_socket(c);
			return;
		}
		wh_nbd_conn_received(c->conn, (size_t)r);
		if (!c->tls && (size_t)r < room)
			break; /* all of it came */
		if (!flush(c))
			break;
	}
	if (c->server->config.spin_us)
		c->server->active_ns = now_ns();
	settle(c);
	/* The socket does not tell of what is decrypted already. */
	if (c->watch.fd >= 0 && c->tls && !c->in_tls && nbd_tls_pending(c->tls))
		attend(c);
	if (events & WH_LOOP_HANGUP && !(events & WH_LOOP_READ) && c->watch.fd >= 0)
		close_socket(c); /* both directions are gone */
}

static void too_slow(struct wh_loop_timer *timer)
{
	struct client *c = timer->ctx;
	wh_log_write(&c->server->config.log, WH_LOG_DEBUG, "nbd", 0, "handshake took too long");
	close_socket(c);
}

/* ---- clients ---- */

static void watch_listeners(struct wh_nbd_server *s)
{
	bool accept = !s->stopping && s->client_count < s->config.clients_max;
	if (accept == s->accepting)
		return;
	s->accepting = accept;
	for (struct listener *l = s->listeners; l; l = l->next)
		(void)wh_loop_modify(s->config.loop, &l->watch, accept ? WH_LOOP_READ : 0);
}

static void client_free(struct client *c)
{
	struct wh_nbd_server *s = c->server;
	bool chosen = c->chosen;
	wh_assert(c->watch.fd < 0 && !wh_nbd_conn_busy(c->conn));
	wh_list_remove(&c->attention);
	wh_list_remove(&c->node);
	wh_nbd_conn_free(c->conn);
	free(c);
	s->client_count--;
	s->chosen_count -= chosen;
	watch_listeners(s);
	if (chosen && s->config.gone)
		s->config.gone(s->config.ctx, s->chosen_count);
}

static void look_after(struct client *c)
{
	if (c->watch.fd >= 0 && c->tls && !c->in_tls && nbd_tls_pending(c->tls))
		ready(&c->watch, WH_LOOP_READ);
	else if (c->watch.fd >= 0)
		settle(c);
	if (c->watch.fd < 0 && !wh_nbd_conn_busy(c->conn))
		client_free(c);
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct wh_nbd_server *s = hook->ctx;
	struct wh_list *n;
	bool any = false;
	while ((n = wh_list_pop_front(&s->attention))) {
		look_after(WH_LIST_ENTRY(n, struct client, attention));
		any = true;
	}
	if (!s->config.spin_us || !s->chosen_count)
		return any;
	uint64_t now = now_ns();
	if (any)
		s->active_ns = now;
	if (any || now - s->active_ns < s->spin_ns)
		return true;
	s->slept_ns = now;
	return false;
}

static void after_sleep(struct wh_loop_hook *hook)
{
	struct wh_nbd_server *s = hook->ctx;
	if (!s->slept_ns)
		return;
	uint64_t slept = now_ns() - s->slept_ns, most = s->config.spin_us * 1000ull;
	s->slept_ns = 0;
	if (slept < most)
		s->spin_ns = most;
	else
		s->spin_ns = s->spin_ns / 2 < SPIN_LEAST_NS ? 0 : s->spin_ns / 2;
}

int wh_nbd_server_serve(struct wh_nbd_server *s, int fd)
{
	int on = 1, size = SEND_BUFFER, r = -WH_ENOMEM;
	struct client *c = s->stopping ? NULL : calloc(1, sizeof *c);
	if (!c)
		goto failed;
	struct wh_nbd_conn_config config = { .size = sizeof config,
					     .exports = s->config.exports,
					     .export_count = s->config.export_count,
					     .tls = s->config.tls_mode,
					     .multi_conn = s->config.clients_max > 1,
					     .changed = changed,
					     .ctx = c,
					     .log = s->config.log,
					     .id = ++s->next_id };
	*c = (struct client){
		.server = s, .watch = { .fd = fd, .events = WH_LOOP_READ, .fn = ready, .ctx = c }
	};
	wh_list_init(&c->attention);
	wh_loop_timer_init(&c->handshake, too_slow, c);
	r = fcntl(fd, F_SETFL, O_NONBLOCK) ? -errno : wh_nbd_conn_new(&config, &c->conn);
	if (r < 0)
		goto failed;
	/* Fails for what is no TCP socket: nothing to delay there. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* as far as allowed */
	r = wh_loop_add(s->config.loop, &c->watch);
	if (r < 0)
		goto failed;
	wh_list_push_back(&s->clients, &c->node);
	s->client_count++;
	wh_loop_timer_start(s->config.loop, &c->handshake,
			    wh_loop_now(s->config.loop) + s->config.handshake_ms * 1000000ull);
	watch_listeners(s);
	settle(c);
	return 0;
failed:
	if (c)
		wh_nbd_conn_free(c->conn);
	free(c);
	close(fd);
	return r;
}

static void connecting(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_nbd_server *s = watch->ctx;
	while (s->accepting) {
		int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return; /* nobody, gone again, or no descriptors: the next event tells */
		int r = wh_nbd_server_serve(s, fd);
		if (r < 0)
			wh_log_write(&s->config.log, WH_LOG_WARNING, "nbd", 0,
				     "a client was turned away (error %d)", -r);
	}
}

/* ---- life ---- */

int wh_nbd_server_new(const struct wh_nbd_server_config *config, struct wh_nbd_server **ret_server,
		      struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	if (!config->export_count || config->export_count > WH_NBD_EXPORTS_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "1 to %u exports", WH_NBD_EXPORTS_MAX);
	for (uint32_t i = 0; i < config->export_count; i++) {
		const char *name = config->exports[i].name;
		if (wh_strlen(name) > WH_NBD_NAME_MAX)
			return wh_diag_set(diag, -WH_EINVAL, "the name of an export is too long");
		for (uint32_t j = 0; j < i; j++)
			if (wh_streq(name, config->exports[j].name))
				return wh_diag_set(diag, -WH_EINVAL, "two exports are named %s",
						   name);
	}
	if ((config->tls_mode != WH_NBD_TLS_OFF) != (config->tls != NULL))
		return wh_diag_set(diag, -WH_EINVAL, "TLS needs credentials, and they a use");
	struct wh_nbd_server *s = calloc(1, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory");
	s->config = *config;
	if (!s->config.clients_max)
		s->config.clients_max = WH_NBD_CLIENTS_MAX;
	if (!s->config.handshake_ms)
		s->config.handshake_ms = WH_NBD_HANDSHAKE_MS;
	s->accepting = true;
	wh_list_init(&s->clients);
	wh_list_init(&s->attention);
	s->hook = (struct wh_loop_hook){ .before_sleep = before_sleep,
					 .after_sleep = after_sleep,
					 .ctx = s };
	wh_loop_hook_add(config->loop, &s->hook);
	*ret_server = s;
	return 0;
}

int wh_nbd_server_listen(struct wh_nbd_server *s, int fd)
{
	struct listener *l = calloc(1, sizeof *l);
	int r = -WH_ENOMEM;
	if (l) {
		l->watch = (struct wh_loop_fd){ .fd = fd,
						.events = s->accepting ? WH_LOOP_READ : 0,
						.fn = connecting,
						.ctx = s };
		r = fcntl(fd, F_SETFL, O_NONBLOCK) ? -errno
						   : wh_loop_add(s->config.loop, &l->watch);
	}
	if (r < 0) {
		free(l);
		close(fd);
		return r;
	}
	l->next = s->listeners;
	s->listeners = l;
	return 0;
}

void wh_nbd_server_stop(struct wh_nbd_server *s)
{
	s->stopping = true;
	s->accepting = false;
	while (s->listeners) {
		struct listener *l = s->listeners;
		s->listeners = l->next;
		wh_loop_remove(s->config.loop, &l->watch);
		close(l->watch.fd);
		free(l);
	}
	WH_LIST_FOR_EACH(n, &s->clients)
		close_socket(WH_LIST_ENTRY(n, struct client, node));
}

uint32_t wh_nbd_server_clients(const struct wh_nbd_server *s)
{
	return s->client_count;
}

void wh_nbd_server_free(struct wh_nbd_server *s)
{
	if (!s)
		return;
	wh_assert(!s->client_count && !s->listeners);
	wh_loop_hook_remove(s->config.loop, &s->hook);
	free(s);
}
