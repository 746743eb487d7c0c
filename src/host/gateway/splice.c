/* SPDX-License-Identifier: ISC */
/*
 * Connections that need no frames: a loopback client of a published port and a guest that is a network namespace, in
 * which config.guest_socket makes sockets. The client's socket is joined to one that is connected to the
 * namespace's loopback; the kernel moves the bytes from one to the other through a pipe (splice(2)), untouched.
 *
 * The other way, a listener on the namespace's loopback leads to the host's, where that was said
 * (wh_gateway_inside_listen). Limits of rates, which are measured in frames, do not hold for these.
 *
 * What nobody listens for inside takes the frames instead, and so do all new clients of published ports while frames
 * are captured or rates limited.
 * Half-close, refusal and RST pass through as on the other way.
 *
 * Little data is copied through one buffer of the gateway's; a pipe is made when a direction moves much, or when
 * the other side does not take what was read.
 *
 * Sockets are edge-triggered: `readable` and `writable` remember an edge until the socket says that it has no more. A
 * direction is read only while nothing of it waits in its pipe, so that EAGAIN always speaks of the socket.
 */
#include "gateway_priv.h"

#include <netinet/tcp.h>
#include <wherry/base/assert.h>

#define BUFFER_SIZE (32u * 1024)
#define PIPE_SIZE (1u << 20) /* what Linux lets everybody have (fs.pipe-max-size) */
/* Turns of one flow until others have theirs: 4 MiB, less than a millisecond. */
#define TURNS_MAX 4u
#define FLOWS_PER_BLOCK 16u
#define INSIDE_BACKLOG 4096

struct side {
	struct wh_loop_fd watch;
	bool readable, writable, hangup;
	bool end;  /* end of file was read */
	bool shut; /* nothing more is sent there */
};

struct way {
	int pipe[2];   /* -1 = none yet */
	uint32_t held; /* bytes in it */
	uint64_t bytes;
};

enum { OUTSIDE, INSIDE };

struct splice_flow {
	struct wh_list node, again; /* gateway->splices, gateway->splices_again */
	struct wh_gateway *gateway;
	struct side sides[2];
	struct way ways[2];           /* from the side with that index */
	struct wh_net_end client, to; /* to: as its socket was connected */
	uint64_t begun_ns;
	uint32_t id;
	uint8_t connects; /* the side that was connected; the other one was accepted */
	bool connected;
};

/* A port of the namespace's loopback. */
struct inside_listener {
	struct wh_list node; /* gateway->inside_listeners */
	struct wh_gateway *gateway;
	struct wh_loop_fd watch;
	struct wh_net_end to;
};

static void flow_free(struct splice_flow *f)
{
	struct wh_gateway *gateway = f->gateway;
	if (events_wanted(gateway))
		event_flow_closed(gateway, f->id, f->begun_ns, f->ways[INSIDE].bytes,
				  f->ways[OUTSIDE].bytes);
	for (int i = 0; i < 2; i++) {
		for (int end = 0; end < 2; end++) {
			struct wh_loop_fd watch = { .fd = f->ways[i].pipe[end] };
			socket_close(gateway, &watch);
		}
		socket_close(gateway, &f->sides[i].watch);
	}
	wh_list_remove(&f->node);
	wh_list_remove(&f->again);
	wh_assert(gateway->tcp_flow_count > 0);
	gateway->tcp_flow_count--;
	pool_put(&gateway->splice_pool, f);
}

/* Both peers see RST. */
static void flow_fail(struct splice_flow *f)
{
	static const struct linger now = { .l_onoff = 1 };
	struct wh_gateway *gateway = f->gateway;
	for (int i = 0; i < 2; i++)
		(void)gateway->host->option_set(gateway->host_ctx, f->sides[i].watch.fd, SOL_SOCKET,
						SO_LINGER, &now, sizeof now); /* else it is FIN */
	flow_free(f);
}

/* ---- bytes: each returns < 0 when the flow has failed, 1 when there was work ---- */

static int pipe_make(struct splice_flow *f, struct way *way)
{
	struct wh_gateway *gateway = f->gateway;
	if (way->pipe[0] >= 0)
		return 0;
	if (!socket_available(gateway))
		return -WH_EMFILE;
	int error = gateway->host->pipe(gateway->host_ctx, way->pipe, PIPE_SIZE);
	if (!error)
		gateway->descriptors += 2;
	return error;
}

static int way_drain(struct splice_flow *f, int from)
{
	struct wh_gateway *gateway = f->gateway;
	struct way *way = &f->ways[from];
	struct side *to = &f->sides[!from];
	int worked = 0;
	while (way->held && to->writable) {
		long n = gateway->host->splice(gateway->host_ctx, way->pipe[0], to->watch.fd,
					       way->held);
		if (n == -WH_EINTR)
			continue;
		if (n == -WH_EAGAIN) {
			to->writable = false;
			break;
		}
		if (n <= 0)
			return -WH_EPIPE;
		wh_assert((uint64_t)n <= way->held);
		way->held -= (uint32_t)n;
		worked = 1;
	}
	return worked;
}

/* What was read goes on; what the other side does not take waits in the pipe. */
static int bytes_pass(struct splice_flow *f, int from, uint8_t *bytes, uint32_t size)
{
	struct wh_gateway *gateway = f->gateway;
	struct way *way = &f->ways[from];
	struct side *to = &f->sides[!from];
	long n = 0;
	if (to->writable) {
		struct wh_iov iov = { bytes, size };
		n = socket_send(gateway, to->watch.fd, NULL, &iov, 1);
		if (n < 0 && n != -WH_EAGAIN && n != -WH_EINTR)
			return (int)n;
		n = n < 0 ? 0 : n;
		to->writable = n == (long)size;
	}
	if (n == (long)size)
		return 0;
	int error = pipe_make(f, way);
	if (error)
		return error;
	long kept =
		gateway->host->write(gateway->host_ctx, way->pipe[1], bytes + n, size - (size_t)n);
	if (kept != (long)size - n)
		return -WH_EPIPE; /* a pipe that is empty takes more than the buffer */
	way->held = (uint32_t)kept;
	return 0;
}

static int way_copy(struct splice_flow *f, int from)
{
	struct wh_gateway *gateway = f->gateway;
	struct side *side = &f->sides[from];
	struct wh_iov iov = { gateway->splice_buffer, BUFFER_SIZE };
	long n = socket_receive(gateway, side->watch.fd, &iov, 1, NULL);
	if (n == -WH_EINTR)
		return 1;
	if (n <= 0) {
		side->readable = n == 0;
		side->end = n == 0;
		return n == -WH_EAGAIN ? 0 : (int)n;
	}
	if (n == BUFFER_SIZE)
		(void)pipe_make(f, &f->ways[from]); /* without one it is copied, as before */
	else if (!side->hangup)
		side->readable = false;
	f->ways[from].bytes += (uint64_t)n;
	int error = bytes_pass(f, from, gateway->splice_buffer, (uint32_t)n);
	return error ? error : 1;
}

static int way_fill(struct splice_flow *f, int from)
{
	struct wh_gateway *gateway = f->gateway;
	struct side *side = &f->sides[from];
	struct way *way = &f->ways[from];
	if (way->pipe[0] < 0)
		return way_copy(f, from);
	long n = gateway->host->splice(gateway->host_ctx, side->watch.fd, way->pipe[1], PIPE_SIZE);
	if (n == -WH_EINTR)
		return 1;
	if (n <= 0) {
		side->readable = n == 0;
		side->end = n == 0;
		return n == -WH_EAGAIN ? 0 : (int)n;
	}
	way->held = (uint32_t)n;
	way->bytes += (uint64_t)n;
	return 1;
}

static int way_pump(struct splice_flow *f, int from)
{
	struct side *side = &f->sides[from], *to = &f->sides[!from];
	const struct way *way = &f->ways[from];
	int worked = way_drain(f, from);
	if (worked >= 0 && !way->held && side->readable && !side->end) {
		int filled = way_fill(f, from);
		worked = filled < 0 ? filled : worked | filled;
		if (filled > 0) {
			int drained = way_drain(f, from);
			worked = drained < 0 ? drained : 1;
		}
	}
	if (worked >= 0 && side->end && !way->held && !to->shut) {
		to->shut = true;
		if (!to->end) /* the close that follows says the same */
			f->gateway->host->shutdown(f->gateway->host_ctx, to->watch.fd);
	}
	return worked;
}

/* The flow may be gone afterwards. */
static void flow_pump(struct splice_flow *f)
{
	struct wh_gateway *gateway = f->gateway;
	wh_list_remove(&f->again);
	uint64_t before[2] = { f->ways[0].bytes, f->ways[1].bytes };
	int worked = 1, error = 0;
	for (uint32_t i = 0; i < TURNS_MAX && worked && !error; i++) {
		int out = way_pump(f, OUTSIDE), in = out < 0 ? 0 : way_pump(f, INSIDE);
		error = out < 0 ? out : in < 0 ? in : 0;
		worked = out | in;
	}
	gateway->stats.tcp_bytes_in += f->ways[OUTSIDE].bytes - before[OUTSIDE];
	gateway->stats.tcp_bytes_out += f->ways[INSIDE].bytes - before[INSIDE];
	if (error)
		flow_fail(f);
	else if (f->sides[0].shut && f->sides[1].shut)
		flow_free(f);
	else if (worked)
		wh_list_push_back(&gateway->splices_again, &f->again);
}

/* Before the loop sleeps. true: there is more to move. */
bool splice_continue(struct wh_gateway *gateway)
{
	struct wh_list now;
	wh_list_init(&now);
	while (!wh_list_empty(&gateway->splices_again))
		wh_list_push_back(&now, wh_list_pop_front(&gateway->splices_again));
	while (!wh_list_empty(&now))
		flow_pump(WH_LIST_ENTRY(wh_list_pop_front(&now), struct splice_flow, again));
	return !wh_list_empty(&gateway->splices_again);
}

/* ---- events ---- */

static void flow_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct splice_flow *f = watch->ctx;
	struct side *side = &f->sides[watch == &f->sides[INSIDE].watch];
	struct wh_gateway *gateway = f->gateway;
	if (events & (WH_LOOP_READ | WH_LOOP_HANGUP))
		side->readable = true;
	if (events & WH_LOOP_HANGUP)
		side->hangup = true;
	if (events & WH_LOOP_WRITE)
		side->writable = true;
	if (!f->connected && side == &f->sides[f->connects]) {
		if (gateway->host->error(gateway->host_ctx, watch->fd)) {
			*(f->connects == INSIDE ? &gateway->stats.tcp_in_failed
						: &gateway->stats.tcp_out_failed) += 1;
			flow_fail(f);
			return;
		}
		f->connected = true;
	}
	if (f->connected)
		flow_pump(f);
}

/* ---- beginning ---- */

static bool usable(const struct wh_gateway *gateway, const struct wh_net_end *client)
{
	return gateway->guest_socket && !pcap_wanted(gateway) && gateway_is_loopback(&client->ip) &&
	       !gateway->rates_limited; /* they are measured in frames */
}

/* A socket of the namespace. */
static int inside_socket(struct wh_gateway *gateway, int domain)
{
	if (!socket_available(gateway))
		return -WH_EMFILE;
	int fd = gateway->guest_socket(gateway->guest_socket_ctx, domain);
	if (fd >= 0)
		gateway->descriptors++;
	return fd;
}

/* fd when it is connected, or about to be; else it is closed. */
static int loopback_connect(struct wh_gateway *gateway, int fd, const struct wh_net_end *to)
{
	union host_address address;
	socklen_t size = address_from_end(to, &address);
	if (fd < 0)
		return fd;
	int error = gateway->host->connect(gateway->host_ctx, fd, &address.any, size);
	/* Loopback answers at once: the second call says what became of it. */
	if (error == -WH_EINPROGRESS)
		error = gateway->host->connect(gateway->host_ctx, fd, &address.any, size);
	if (!error || error == -WH_EALREADY || error == -WH_EISCONN)
		return fd;
	struct wh_loop_fd watch = { .fd = fd };
	socket_close(gateway, &watch);
	return error;
}

static bool memory_there(struct wh_gateway *gateway)
{
	if (!gateway->splice_buffer)
		gateway->splice_buffer = wh_alloc(gateway->alloc, BUFFER_SIZE);
	return gateway->splice_buffer;
}

/* Joins two sockets, which are the flow's from now on, or closed. */
static void flow_begin(struct wh_gateway *gateway, int outside, int inside, uint8_t connects,
		       const struct wh_net_end *client, const struct wh_net_end *to)
{
	static const uint32_t events = WH_LOOP_READ | WH_LOOP_WRITE | WH_LOOP_HANGUP | WH_LOOP_EDGE;
	struct wh_loop_fd watches[2] = { { .fd = outside }, { .fd = inside } };
	struct splice_flow *f = pool_get(&gateway->splice_pool, gateway->alloc);
	if (!f) {
		socket_close(gateway, &watches[0]);
		socket_close(gateway, &watches[1]);
		return;
	}
	f->gateway = gateway;
	f->id = ++gateway->flow_id;
	f->begun_ns = wh_loop_now(gateway->loop);
	f->client = *client;
	f->to = *to;
	f->connects = connects;
	for (int i = 0; i < 2; i++) {
		f->ways[i].pipe[0] = f->ways[i].pipe[1] = -1;
		f->sides[i].watch = watches[i];
		f->sides[i].watch.fn = flow_event;
		f->sides[i].watch.ctx = f;
	}
	wh_list_init(&f->again);
	wh_list_push_back(&gateway->splices, &f->node);
	gateway->tcp_flow_count++;
	gateway->stats.tcp_spliced++;
	*(connects == INSIDE ? &gateway->stats.tcp_in_accepted : &gateway->stats.tcp_out_opened) +=
		1;
	log_flow(gateway, f->id, "tcp spliced", client, to, 0);
	const struct wh_net_tuple tuple = { .local = connects == INSIDE ? *client : *to,
					    .remote = connects == INSIDE ? *to : *client };
	if (events_wanted(gateway))
		event_flow(gateway, f->id, WH_GATEWAY_TCP, connects == INSIDE, &tuple);
	/* Both edges come at once, for what is there already. */
	if (socket_watch(gateway, &f->sides[OUTSIDE].watch, events) ||
	    socket_watch(gateway, &f->sides[INSIDE].watch, events))
		flow_fail(f);
}

bool splice_accepted(struct wh_gateway *gateway, const struct rule *rule, int fd,
		     const struct wh_net_end *client)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 };
	struct wh_net_end to = { client->ip, rule->config.guest_port };
	if (!usable(gateway, client) || !memory_there(gateway))
		return false;
	if (wh_net_ip_is4(&client->ip))
		to.ip = wh_net_ip4(loopback4);
	int inside = loopback_connect(gateway, inside_socket(gateway, end_domain(&to)), &to);
	if (inside < 0)
		return false;
	flow_begin(gateway, fd, inside, INSIDE, client, &to);
	return true;
}

/* ---- from inside ---- */

static void inside_accept(struct wh_loop_fd *watch, uint32_t events)
{
	static const struct linger now = { .l_onoff = 1 };
	struct inside_listener *l = watch->ctx;
	struct wh_gateway *gateway = l->gateway;
	union host_address from = { .any = { .sa_family = AF_UNSPEC } };
	struct wh_net_end client;
	int fd = socket_accept(gateway, watch->fd, &from), outside = -WH_EMFILE;
	if (fd < 0)
		return; /* none, or no descriptor: the level stays, and others give theirs back */
	if (!address_to_end(&from, &client))
		client = (struct wh_net_end){ gateway->guest[0], 0 };
	bool may = gateway->tcp_flow_count < gateway->tcp_flows_max && memory_there(gateway) &&
		   !policy_denies(gateway, false, WH_GATEWAY_TCP, &l->to.ip, l->to.port);
	if (may)
		outside = socket_open(gateway, end_domain(&l->to), SOCK_STREAM, IPPROTO_TCP);
	if (outside >= 0)
		(void)socket_set(gateway, outside, IPPROTO_TCP, TCP_NODELAY, 1);
	outside = loopback_connect(gateway, outside, &l->to);
	if (outside >= 0) {
		flow_begin(gateway, outside, fd, OUTSIDE, &client, &l->to);
		return;
	}
	*(may ? &gateway->stats.tcp_out_failed : &gateway->stats.tcp_out_refused) += 1;
	struct wh_loop_fd closed = { .fd = fd };
	(void)gateway->host->option_set(gateway->host_ctx, fd, SOL_SOCKET, SO_LINGER, &now,
					sizeof now); /* else it is FIN */
	socket_close(gateway, &closed);
}

static int inside_listen(struct wh_gateway *gateway, int fd, uint16_t port)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 };
	struct wh_net_end end = { wh_net_ip4(loopback4), port };
	union host_address address;
	socklen_t size = address_from_end(&end, &address);
	(void)socket_set(gateway, fd, SOL_SOCKET, SO_REUSEADDR, 1); /* else bind says so */
	int error = gateway->host->bind(gateway->host_ctx, fd, &address.any, size);
	return error ? error : gateway->host->listen(gateway->host_ctx, fd, INSIDE_BACKLOG);
}

int wh_gateway_inside_listen(struct wh_gateway *gateway, uint16_t port, const struct wh_net_end *to,
			     struct wh_diag *diag)
{
	if (!gateway->guest_socket || !port || !to->port)
		return wh_diag_set(diag, -WH_EINVAL,
				   "a port inside needs a network namespace and both ports");
	int fd = inside_socket(gateway, AF_INET);
	if (fd < 0)
		return wh_diag_set(diag, fd, "no socket can be made in the namespace");
	struct inside_listener *l = wh_alloc_zero(gateway->alloc, sizeof *l);
	struct wh_loop_fd watch = { .fd = fd, .fn = inside_accept, .ctx = l };
	int error = l ? inside_listen(gateway, fd, port) : -WH_ENOMEM;
	if (!error) {
		l->watch = watch;
		error = socket_watch(gateway, &l->watch, WH_LOOP_READ);
	}
	if (error) {
		socket_close(gateway, &watch);
		wh_free(gateway->alloc, l, sizeof *l);
		return wh_diag_set(diag, error, "port %u of the namespace's loopback: error %d",
				   port, -error);
	}
	l->gateway = gateway;
	l->to = *to;
	wh_list_push_back(&gateway->inside_listeners, &l->node);
	return 0;
}

static void inside_end(struct wh_gateway *gateway)
{
	while (!wh_list_empty(&gateway->inside_listeners)) {
		struct inside_listener *l =
			WH_LIST_ENTRY(wh_list_pop_front(&gateway->inside_listeners),
				      struct inside_listener, node);
		socket_close(gateway, &l->watch);
		wh_free(gateway->alloc, l, sizeof *l);
	}
}

/* ---- seeing inside, and the end ---- */

void splices_list(struct wh_gateway *gateway, struct flow_list *list)
{
	uint64_t now = wh_loop_now(gateway->loop);
	WH_LIST_FOR_EACH(node, &gateway->splices) {
		const struct splice_flow *f = WH_LIST_ENTRY(node, struct splice_flow, node);
		struct wh_gateway_flow *to = flow_list_add(list, f->id);
		if (!to)
			continue;
		to->protocol = WH_GATEWAY_TCP;
		to->inbound = f->connects == INSIDE;
		to->guest = to->inbound ? f->to : f->client;
		to->peer = to->host_peer = to->inbound ? f->client : f->to;
		flow_socket_ends(gateway, f->sides[OUTSIDE].watch.fd, to);
		to->state = f->connected ? "SPLICED" : "SPLICE_CONNECTING";
		to->bytes_in = f->ways[OUTSIDE].bytes;
		to->bytes_out = f->ways[INSIDE].bytes;
		to->age_ns = now - f->begun_ns;
	}
}

void splices_end(struct wh_gateway *gateway)
{
	while (!wh_list_empty(&gateway->splices))
		flow_fail(WH_LIST_ENTRY(gateway->splices.next, struct splice_flow, node));
}

void splice_init(struct wh_gateway *gateway)
{
	wh_list_init(&gateway->splices);
	wh_list_init(&gateway->splices_again);
	wh_list_init(&gateway->inside_listeners);
	pool_init(&gateway->splice_pool, sizeof(struct splice_flow), FLOWS_PER_BLOCK);
}

void splice_fini(struct wh_gateway *gateway)
{
	inside_end(gateway);
	splices_end(gateway);
	pool_fini(&gateway->splice_pool, gateway->alloc);
	wh_free(gateway->alloc, gateway->splice_buffer, BUFFER_SIZE);
	gateway->splice_buffer = NULL;
}
