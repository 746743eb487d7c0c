/* SPDX-License-Identifier: ISC */
/*
 * TCP flows: one connection of the guest (in our stack) joined to one host socket.
 *
 * Goals: what either side accepted is never dropped; the guest's window is the room in the stack's
 * ring, which empties as the host socket takes bytes; half-close, RST and refusal pass
 * through; few system calls: per short connection socket, connect, one epoll_ctl, two
 * reads, one write, close.
 *
 * States and their ways out (fd and tcp are both there unless said):
 *
 *	HOST_CONNECTING   guest's SYN is held, connect() is under way
 *	                  -> OPEN (writable without error) | gone (refuse)
 *	GUEST_CONNECTING  a client was accepted, our SYN is with the guest
 *	                  -> OPEN (CONNECTED) | GUEST_REFUSED (RST during the boot window) | gone
 *	GUEST_REFUSED     no tcp; in gateway->tcp_refused. Tried again when the guest shows
 *	                  activity, or by a timer that doubles from 1 to 50 ms
 *	                  -> GUEST_CONNECTING | gone
 *	OPEN              bytes flow
 *	                  -> gone: both directions ended (close, close), or either side
 *	                     failed (RST to the other)
 *
 * Host sockets are edge-triggered: host_readable and host_writable remember an edge until the
 * socket says that it has no more. A read that got less than asked has emptied the socket, so
 * the read that would say EAGAIN is spared; unless a hang-up was seen, as its edge has passed. One that got less after the
 * peer has ended its side in order (WH_LOOP_ENDED) has come to the end, and the read that would say so is spared, too.
 */
#include "gateway_priv.h"

#include <netinet/tcp.h>
#include <sys/un.h>
#include <wherry/base/assert.h>

#define RETRY_FIRST_NS (1 * GATEWAY_MS)
#define RETRY_MAX_NS (50 * GATEWAY_MS)
/* Tries to find a free port when a client is shown as the gateway. */
#define SHOWN_PORT_TRIES 8
/* From this size on, a segment's payload goes straight from the guest's memory to the host
 * socket; smaller ones are gathered in the ring, so that a burst costs one call. */
#define DIRECT_SIZE_MIN 4096u
#define DIRECT_IOV_MAX 32u

enum tcp_state { HOST_CONNECTING, GUEST_CONNECTING, GUEST_REFUSED, OPEN };

struct tcp_flow {
	struct wh_list node;    /* gateway->tcp_flows */
	struct wh_list refused; /* gateway->tcp_refused */
	struct wh_gateway *gateway;
	struct wh_net_tcp *tcp;
	struct wh_loop_fd watch;
	struct rule *rule;        /* GUEST_*: the published port; NULL = it is gone */
	struct wh_net_end client; /* GUEST_* */
	struct account *account;  /* of the guest that began it, or NULL */
	struct proxy_flow *proxy; /* the host's proxy is being talked to; NULL = bytes flow */
	uint64_t begun_ns, bytes_out, bytes_in;
	uint32_t id;
	uint8_t state;
	uint32_t rule_id; /* of its published port; 0 = none */
	bool pending;     /* counted in gateway->tcp_pending or rule->waiting */
	bool guest_connected;
	bool watched;
	bool inbound;   /* a client of a published port */
	bool try4;      /* the guest refused IPv6: use IPv4 */
	bool host_unix; /* a Unix socket */
	bool host_readable, host_writable, host_hangup;
	bool host_ended; /* what the socket holds is all that comes */
	bool host_written;
	bool nodelay;   /* the host socket waits for no acknowledgement */
	bool host_end;  /* end of file was read */
	bool host_shut; /* our side of the host socket was shut */
};

static const struct wh_net_tcp_ops flow_ops;

uint32_t tcp_flow_size(void)
{
	return sizeof(struct tcp_flow);
}

static void flow_event(struct wh_loop_fd *watch, uint32_t events);

static struct tcp_flow *flow_new(struct wh_gateway *gateway, int fd)
{
	struct tcp_flow *flow = pool_get(&gateway->tcp_pool, gateway->alloc);
	if (!flow)
		return NULL;
	flow->gateway = gateway;
	flow->id = ++gateway->flow_id;
	flow->begun_ns = wh_loop_now(gateway->loop);
	flow->watch = (struct wh_loop_fd){ .fd = fd, .fn = flow_event, .ctx = flow };
	wh_list_push_back(&gateway->tcp_flows, &flow->node);
	wh_list_init(&flow->refused);
	gateway->tcp_flow_count++;
	return flow;
}

/* Not established yet: counted, so that neither a guest's SYN flood nor clients that wait for
 * a guest can take everything. */
static void pending_begin(struct tcp_flow *flow, struct rule *rule)
{
	flow->pending = true;
	flow->rule = rule;
	if (!rule && flow->account)
		flow->account->pending++;
	*(rule ? &rule->waiting : &flow->gateway->tcp_pending) += 1;
}

static void pending_end(struct tcp_flow *flow)
{
	uint32_t *count = flow->rule ? &flow->rule->waiting : &flow->gateway->tcp_pending;
	if (!flow->pending)
		return;
	wh_assert(*count > 0);
	*count -= 1;
	if (!flow->rule && flow->account)
		flow->account->pending--;
	flow->pending = false;
	flow->rule = NULL;
}

/* The guest's side is closed or handed back already. */
static void flow_free(struct tcp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	wh_assert(!flow->tcp);
	gateway->touched = true;
	if (events_wanted(gateway))
		event_flow_closed(gateway, flow->id, flow->begun_ns, flow->bytes_out,
				  flow->bytes_in);
	pending_end(flow);
	wh_list_remove(&flow->node);
	wh_list_remove(&flow->refused);
	wh_assert(gateway->tcp_flow_count > 0);
	gateway->tcp_flow_count--;
	if (flow->account)
		flow->account->tcp_flows--;
	proxy_end(flow->proxy);
	struct wh_loop_fd watch = flow->watch;
	gateway->host->watch_forget(gateway->host_ctx, gateway->loop, &flow->watch);
	pool_put(&gateway->tcp_pool, flow);
	/* Last: a free descriptor lets paused listeners accept at once. */
	socket_close(gateway, &watch);
}

/* Closing the host socket sends RST instead of FIN. */
static void host_reset(struct tcp_flow *flow)
{
	static const struct linger now = { .l_onoff = 1 };
	const struct wh_gateway *gateway = flow->gateway;
	if (flow->watch.fd >= 0)
		(void)gateway->host->option_set(gateway->host_ctx, flow->watch.fd, SOL_SOCKET,
						SO_LINGER, &now, sizeof now);
}

/* The guest's side has failed or must end: the host peer sees RST. */
static void flow_fail_host(struct tcp_flow *flow)
{
	if (flow->tcp && wh_net_tcp_error(flow->tcp))
		wh_net_tcp_close(flow->tcp);
	else if (flow->tcp)
		wh_net_tcp_abort(flow->tcp);
	flow->tcp = NULL;
	host_reset(flow);
	flow_free(flow);
}

/* The host's side has failed: the guest sees RST. */
static void flow_fail_guest(struct tcp_flow *flow)
{
	wh_net_tcp_abort(flow->tcp);
	flow->tcp = NULL;
	flow_free(flow);
}

static int watch_events(struct tcp_flow *flow, uint32_t more)
{
	uint32_t events = flow->watch.events | more | WH_LOOP_READ | WH_LOOP_HANGUP | WH_LOOP_EDGE;
	if (flow->watched && events == flow->watch.events)
		return 0;
	int error = flow->watched ? socket_watch_modify(flow->gateway, &flow->watch, events)
				  : socket_watch(flow->gateway, &flow->watch, events);
	flow->watched = !error;
	return error;
}

/* ---- bytes ---- */

/* Both return false when the flow is gone. */
static bool pump_in(struct tcp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	while (flow->host_readable && !flow->host_end) {
		struct wh_iov iov[2];
		uint32_t room = wh_net_tcp_reserve(flow->tcp, iov);
		if (!room)
			return true; /* WRITABLE follows */
		long n = socket_receive(gateway, flow->watch.fd, iov, iov[1].size ? 2 : 1, NULL);
		gateway->touched = true;
		if (n == -WH_EINTR)
			continue;
		if (n == -WH_EAGAIN) {
			flow->host_readable = false;
		} else if (n < 0) {
			flow_fail_guest(flow);
			return false;
		} else if (n == 0) {
			flow->host_end = true;
			wh_net_tcp_shutdown(flow->tcp);
		} else {
			wh_assert((uint32_t)n <= room);
			wh_net_tcp_commit(flow->tcp, (uint32_t)n);
			gateway->stats.tcp_bytes_in += (uint64_t)n;
			flow->bytes_in += (uint64_t)n;
			if ((uint32_t)n < room && flow->host_ended) {
				flow->host_end = true;
				wh_net_tcp_shutdown(flow->tcp);
			} else if ((uint32_t)n < room && !flow->host_hangup) {
				flow->host_readable = false;
			}
		}
	}
	if (!flow->host_readable && !flow->host_end && watch_events(flow, 0)) {
		flow_fail_guest(flow);
		return false;
	}
	return true;
}

/* The guest's stack has decided what goes in one segment. A first one goes at once anyway: a short
 * connection needs no option. */
static void host_nodelay(struct tcp_flow *flow)
{
	if (flow->nodelay)
		return;
	if (flow->host_written)
		(void)socket_set(flow->gateway, flow->watch.fd, IPPROTO_TCP, TCP_NODELAY, 1);
	flow->nodelay = flow->host_written;
	flow->host_written = true;
}

static bool pump_out(struct tcp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	struct wh_iov iov[2];
	uint32_t size;
	while (flow->host_writable && (size = wh_net_tcp_peek(flow->tcp, iov)) > 0) {
		host_nodelay(flow);
		long n = socket_send(gateway, flow->watch.fd, NULL, iov, iov[1].size ? 2 : 1);
		gateway->touched = true;
		if (n == -WH_EINTR)
			continue;
		if (n < 0 && n != -WH_EAGAIN) {
			flow_fail_guest(flow);
			return false;
		}
		if (n > 0) {
			wh_assert((uint32_t)n <= size);
			wh_net_tcp_consume(flow->tcp, (uint32_t)n);
			gateway->stats.tcp_bytes_out += (uint64_t)n;
			flow->bytes_out += (uint64_t)n;
		}
		if (n < (long)size)
			flow->host_writable = false;
	}
	if (!flow->host_writable && watch_events(flow, WH_LOOP_WRITE)) {
		flow_fail_guest(flow);
		return false;
	}
	if (!flow->host_shut && wh_net_tcp_at_end(flow->tcp)) {
		flow->host_shut = true;
		/* The close that follows says the same. */
		if (!flow->host_end)
			gateway->host->shutdown(gateway->host_ctx, flow->watch.fd);
	}
	return true;
}

/* false: the flow is gone, or waits for the guest's request or the proxy's answer. */
static bool proxy_pump(struct tcp_flow *flow)
{
	int step = proxy_step(flow->proxy, flow->tcp, flow->watch.fd);
	flow->gateway->touched = true;
	if (!step && !flow->host_hangup)
		return false;
	if (step <= 0) {
		if (!proxy_page(flow->proxy, flow->tcp, true))
			wh_net_tcp_abort(flow->tcp);
		flow->tcp = NULL;
		flow_free(flow);
		return false;
	}
	proxy_end(flow->proxy);
	flow->proxy = NULL;
	flow->host_readable = flow->host_writable = true;
	return true;
}

static void pump(struct tcp_flow *flow)
{
	if (flow->state != OPEN || !flow->guest_connected)
		return;
	if (flow->proxy && !proxy_pump(flow))
		return;
	if (!pump_in(flow) || !pump_out(flow))
		return;
	if (!flow->host_end || !flow->host_shut)
		return;
	wh_net_tcp_close(flow->tcp);
	flow->tcp = NULL;
	flow_free(flow);
}

/* Straight from the guest's memory; what the socket does not take goes to the ring. */
static uint32_t guest_data(struct wh_net_tcp *s, const struct wh_iov *iov, uint32_t count,
			   uint32_t size)
{
	struct tcp_flow *flow = wh_net_tcp_ctx(s);
	if (size < DIRECT_SIZE_MIN || count > DIRECT_IOV_MAX || flow->state != OPEN ||
	    !flow->host_writable || flow->proxy)
		return 0;
	host_nodelay(flow);
	long n = socket_send(flow->gateway, flow->watch.fd, NULL, iov, count);
	if (n < (long)size)
		flow->host_writable = n < 0 && n != -WH_EAGAIN; /* errors: the next write sees it */
	if (n <= 0)
		return 0;
	flow->gateway->stats.tcp_bytes_out += (uint64_t)n;
	flow->bytes_out += (uint64_t)n;
	return (uint32_t)n;
}

/* ---- guest to host ---- */

static void request_refuse(struct tcp_flow *flow, int error)
{
	const struct wh_net_tuple *tuple = wh_net_tcp_tuple(flow->tcp);
	flow->gateway->stats.tcp_out_failed++;
	log_flow(flow->gateway, flow->id, "tcp failed", &tuple->remote, &tuple->local, error);
	if (!flow->proxy || !proxy_page(flow->proxy, flow->tcp, false))
		wh_net_tcp_refuse(flow->tcp, error);
	flow->tcp = NULL;
	flow_free(flow);
}

/* false: the flow is gone. */
static bool host_connected(struct tcp_flow *flow)
{
	pending_end(flow);
	flow->state = OPEN;
	flow->host_writable = true;
	flow->gateway->touched = true;
	if (wh_net_tcp_accept(flow->tcp)) {
		request_refuse(flow, WH_ECONNREFUSED);
		return false;
	}
	flow->gateway->stats.tcp_out_opened++;
	if (events_wanted(flow->gateway))
		event_flow(flow->gateway, flow->id, WH_GATEWAY_TCP, false,
			   wh_net_tcp_tuple(flow->tcp));
	return true;
}

/* The host's socket is connected. false: the flow is gone, or a proxy is to be heard first. */
static bool host_ready(struct tcp_flow *flow)
{
	if (flow->proxy && proxy_wants_connect(flow->proxy)) {
		int step = proxy_step(flow->proxy, flow->tcp, flow->watch.fd);
		if (step < 0 || (!step && flow->host_hangup))
			request_refuse(flow, WH_ECONNREFUSED);
		if (step <= 0)
			return false;
		proxy_end(flow->proxy);
		flow->proxy = NULL;
		flow->host_readable = true;
	}
	return host_connected(flow);
}

/* 0, -WH_EINPROGRESS or why not. path NULL = to an address. */
static int host_connect(struct tcp_flow *flow, const struct wh_net_end *to, const char *path)
{
	struct wh_gateway *gateway = flow->gateway;
	union host_address address;
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket_open(gateway, path ? AF_UNIX : end_domain(to), SOCK_STREAM,
			     path ? 0 : IPPROTO_TCP);
	if (fd < 0)
		return fd == -WH_EAFNOSUPPORT ? -WH_ENETUNREACH : -WH_ECONNREFUSED;
	flow->watch.fd = fd;
	if (path) {
		flow->host_unix = true;
		memcpy(name.sun_path, path, wh_strlen(path) + 1);
		int error = gateway->host->connect(gateway->host_ctx, fd,
						   (const struct sockaddr *)&name, sizeof name);
		/* No such file, no permission, a full backlog: nobody listens. */
		return error && error != -WH_EINPROGRESS ? -WH_ECONNREFUSED : error;
	}
	socklen_t size = address_from_end(to, &address);
	return gateway->host->connect(gateway->host_ctx, fd, &address.any, size);
}

static void request_connect(struct tcp_flow *flow, const struct wh_net_end *to, const char *path)
{
	int error = host_connect(flow, to, path);
	if (error && error != -WH_EINPROGRESS) {
		request_refuse(flow, -error);
		return;
	}
	if (!error && !flow->proxy) {
		(void)host_connected(flow);
		return;
	}
	if (watch_events(flow, WH_LOOP_WRITE))
		request_refuse(flow, WH_ECONNREFUSED);
	else if (!error)
		(void)host_ready(flow);
}

/* All places are taken by connects that are not answered: a guest that has fewer of them gets the oldest of one that
 * has more, which hears nothing and may try again. */
static void pending_evict(struct wh_gateway *gateway, const struct account *account)
{
	WH_LIST_FOR_EACH(node, &gateway->tcp_flows) {
		struct tcp_flow *flow = WH_LIST_ENTRY(node, struct tcp_flow, node);
		if (flow->state != HOST_CONNECTING || !flow->account ||
		    flow->account->pending <= account->pending + 1)
			continue;
		gateway->stats.limit_refused++;
		wh_net_tcp_refuse(flow->tcp, 0);
		flow->tcp = NULL;
		flow_free(flow);
		return;
	}
}

bool tcp_request(void *ctx, struct wh_net_tcp *s, const struct wh_net_tuple *tuple)
{
	struct wh_gateway *gateway = ctx;
	struct wh_net_end to = { .port = 0 };
	const struct wh_gateway_forward *forward =
		forward_find(gateway, WH_GATEWAY_TCP, &tuple->local);
	gateway->touched = true;
	if (forward)
		to = forward->to;
	bool said = forward || proxy_explicit(gateway, &tuple->local, &to);
	switch (said ? DESTINATION_HOST : gateway_destination(gateway, &tuple->local, &to)) {
	case DESTINATION_HOST:
		break;
	case DESTINATION_DNS:
		return tuple->local.port == 53 && dns_request(gateway, s);
	case DESTINATION_UNREACHABLE:
		gateway->stats.tcp_out_refused++;
		wh_net_tcp_refuse(s, WH_EHOSTUNREACH);
		return true;
	case DESTINATION_FORBIDDEN:
		gateway->stats.tcp_out_refused++;
		wh_net_tcp_refuse(s, WH_EACCES);
		return true;
	case DESTINATION_REFUSED:
		gateway->stats.tcp_out_refused++;
		return false;
	}
	if (policy_denies(gateway, false, WH_GATEWAY_TCP, &tuple->local.ip, tuple->local.port)) {
		gateway->stats.tcp_out_refused++;
		return false;
	}
	struct account *account = account_now(gateway);
	if (!account_connect(gateway, account)) {
		gateway->stats.tcp_out_refused++;
		wh_net_tcp_refuse(s, 0); /* the guest's SYN comes again */
		return true;
	}
	struct tcp_flow *flow = NULL;
	if (gateway->tcp_pending >= gateway->tcp_pending_max)
		pending_evict(gateway, account);
	if (gateway->tcp_pending < gateway->tcp_pending_max &&
	    gateway->tcp_flow_count < gateway->tcp_flows_max)
		flow = flow_new(gateway, -1);
	if (!flow) {
		gateway->stats.tcp_out_refused++;
		return false;
	}
	flow->account = account;
	account->tcp_flows++;
	flow->state = HOST_CONNECTING;
	flow->tcp = s;
	pending_begin(flow, NULL);
	log_flow(gateway, flow->id, "tcp", &tuple->remote, &tuple->local, 0);
	wh_net_tcp_set_ops(s, &flow_ops, flow);
	if (!said && proxy_carries(gateway, &tuple->local)) {
		flow->proxy = proxy_begin(gateway, &tuple->local, &to);
		if (!flow->proxy) {
			request_refuse(flow, WH_ECONNREFUSED);
			return true;
		}
	}
	request_connect(flow, &to, forward && forward->path[0] ? forward->path : NULL);
	return true;
}

/* ---- host to guest ---- */

/* 0 = under way. The tuple is the guest's view of the client. */
static int guest_connect(struct tcp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	struct wh_net_tuple tuple;
	bool kept = gateway_shown(gateway, &flow->client, &tuple.local);
	if (kept && flow->try4 && !wh_net_ip_is4(&tuple.local.ip)) {
		tuple.local.ip = gateway->self[0];
		kept = false;
	}
	tuple.remote = rule_guest(gateway, flow->rule, &tuple.local.ip, &kept);
	int error = -WH_EADDRINUSE;
	for (int i = 0; i < SHOWN_PORT_TRIES && error == -WH_EADDRINUSE; i++) {
		error = wh_net_tcp_connect(gateway->net, &tuple, &flow_ops, flow, &flow->tcp);
		if (kept)
			break;
		tuple.local.port = gateway_random_port(gateway);
	}
	log_flow(gateway, flow->id, "tcp", &flow->client, &tuple.remote, -error);
	if (!error) {
		flow->state = GUEST_CONNECTING;
		gateway->touched = true;
	}
	return error;
}

static void client_give_up(struct tcp_flow *flow)
{
	flow->gateway->stats.tcp_in_failed++;
	wh_log_write(&flow->gateway->log, WH_LOG_DEBUG, "net", flow->id,
		     "tcp: the guest does not take the connection");
	flow_fail_host(flow);
}

uint32_t tcp_rule_flows(const struct wh_gateway *gateway, uint32_t rule)
{
	uint32_t count = 0;
	WH_LIST_FOR_EACH(node, &gateway->tcp_flows)
		count += WH_LIST_ENTRY(node, struct tcp_flow, node)->rule_id == rule;
	return count;
}

void tcp_accepted(struct wh_gateway *gateway, struct rule *rule, int fd,
		  const struct wh_net_end *client)
{
	if (wh_net_ip_is_any(&rule->config.guest) && !rule->limits.connections &&
	    splice_accepted(gateway, rule, fd, client))
		return;
	struct tcp_flow *flow = flow_new(gateway, fd);
	if (!flow) {
		struct wh_loop_fd watch = { .fd = fd };
		gateway->stats.tcp_in_failed++;
		socket_close(gateway, &watch);
		return;
	}
	gateway->stats.tcp_in_accepted++;
	flow->client = *client;
	flow->inbound = true;
	flow->rule_id = rule->id;
	flow->nodelay = true; /* as its listener */
	pending_begin(flow, rule);
	if (guest_connect(flow))
		client_give_up(flow);
}

/* Before the guest has ever listened on the port, a RST only means "not yet". */
static bool may_wait(const struct tcp_flow *flow)
{
	const struct wh_gateway *gateway = flow->gateway;
	return flow->rule && !flow->rule->guest_listens &&
	       (!gateway->boot_end_ns || wh_loop_now(gateway->loop) < gateway->boot_end_ns ||
		wh_loop_now(gateway->loop) < flow->rule->wait_end_ns);
}

static void guest_refused(struct tcp_flow *flow)
{
	struct wh_gateway *gateway = flow->gateway;
	bool was6 = !wh_net_ip_is4(&wh_net_tcp_tuple(flow->tcp)->local.ip);
	wh_net_tcp_close(flow->tcp);
	flow->tcp = NULL;
	if (was6 && flow->rule) {
		flow->try4 = true;
		if (guest_connect(flow))
			client_give_up(flow);
		return;
	}
	if (!may_wait(flow)) {
		client_give_up(flow);
		return;
	}
	flow->state = GUEST_REFUSED;
	flow->try4 = false;
	wh_list_push_back(&gateway->tcp_refused, &flow->refused);
	if (wh_loop_timer_running(&gateway->retry_timer))
		return;
	if (!gateway->retry_delay_ns)
		gateway->retry_delay_ns = RETRY_FIRST_NS;
	wh_loop_timer_start(gateway->loop, &gateway->retry_timer,
			    wh_loop_now(gateway->loop) + gateway->retry_delay_ns);
}

void tcp_retry_refused(struct wh_gateway *gateway)
{
	struct wh_list again;
	wh_list_init(&again);
	while (!wh_list_empty(&gateway->tcp_refused))
		wh_list_push_back(&again, wh_list_pop_front(&gateway->tcp_refused));
	while (!wh_list_empty(&again)) {
		struct tcp_flow *flow =
			WH_LIST_ENTRY(wh_list_pop_front(&again), struct tcp_flow, refused);
		wh_assert(flow->state == GUEST_REFUSED && !flow->tcp);
		gateway->stats.tcp_in_retries++;
		if (!may_wait(flow) || guest_connect(flow))
			client_give_up(flow);
	}
	wh_loop_timer_stop(gateway->loop, &gateway->retry_timer);
}

void tcp_retry_expired(struct wh_loop_timer *timer)
{
	struct wh_gateway *gateway = timer->ctx;
	gateway->retry_delay_ns *= 2;
	if (gateway->retry_delay_ns > RETRY_MAX_NS)
		gateway->retry_delay_ns = RETRY_MAX_NS;
	tcp_retry_refused(gateway);
}

static void guest_accepted(struct tcp_flow *flow)
{
	if (flow->state == GUEST_CONNECTING) {
		if (flow->rule)
			flow->rule->guest_listens = true;
		flow->gateway->retry_delay_ns = 0;
		flow->state = OPEN;
		flow->host_readable = flow->host_writable = true;
		if (events_wanted(flow->gateway))
			event_flow(flow->gateway, flow->id, WH_GATEWAY_TCP, true,
				   wh_net_tcp_tuple(flow->tcp));
		pending_end(flow);
		rules_resume(flow->gateway);
	}
	flow->guest_connected = true;
}

/* ---- events ---- */

static void guest_event(struct wh_net_tcp *s, uint32_t events)
{
	struct tcp_flow *flow = wh_net_tcp_ctx(s);
	wh_assert(flow->tcp == s);
	if (events & WH_NET_FAILED) {
		int error = wh_net_tcp_error(s);
		/* ENOPROTOOPT: the guest's program has made no TCP socket yet. */
		if (flow->state == GUEST_CONNECTING &&
		    (error == WH_ECONNREFUSED || error == WH_ENOPROTOOPT))
			guest_refused(flow);
		else if (flow->state == GUEST_CONNECTING)
			client_give_up(flow);
		else
			flow_fail_host(flow);
		return;
	}
	if (events & WH_NET_CONNECTED)
		guest_accepted(flow);
	pump(flow);
}

static const struct wh_net_tcp_ops flow_ops = { .event = guest_event, .data = guest_data };

static void flow_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct tcp_flow *flow = watch->ctx;
	struct wh_gateway *gateway = flow->gateway;
	gateway->touched = true;
	if (flow->state == HOST_CONNECTING) {
		int error = 0;
		flow->host_hangup = events & WH_LOOP_HANGUP;
		if (flow->host_hangup)
			error = gateway->host->error(gateway->host_ctx, watch->fd);
		if (error)
			request_refuse(flow, error);
		uint32_t news = WH_LOOP_WRITE | WH_LOOP_HANGUP | (flow->proxy ? WH_LOOP_READ : 0);
		if (error || !(events & news) || !host_ready(flow))
			return;
	}
	if (events & (WH_LOOP_READ | WH_LOOP_HANGUP))
		flow->host_readable = true;
	if (events & WH_LOOP_HANGUP) {
		flow->host_hangup = true;
		/* Unix sockets end a read where descriptors lie. */
		flow->host_ended = (events & WH_LOOP_ENDED) && !flow->host_unix;
	}
	if (events & WH_LOOP_WRITE)
		flow->host_writable = true;
	pump(flow);
}

void tcp_rule_gone(struct wh_gateway *gateway, struct rule *rule)
{
	WH_LIST_FOR_EACH_SAFE(node, &gateway->tcp_flows) {
		struct tcp_flow *flow = WH_LIST_ENTRY(node, struct tcp_flow, node);
		if (flow->rule == rule)
			client_give_up(flow);
	}
	wh_assert(rule->waiting == 0);
}

static const char *state_text(const struct tcp_flow *flow)
{
	switch (flow->state) {
	case HOST_CONNECTING:
		return "HOST_CONNECTING";
	case GUEST_REFUSED:
		return "GUEST_REFUSED";
	default:
		return NULL;
	}
}

void tcp_flows_list(struct wh_gateway *gateway, struct flow_list *list)
{
	uint64_t now = wh_loop_now(gateway->loop);
	WH_LIST_FOR_EACH(node, &gateway->tcp_flows) {
		struct tcp_flow *flow = WH_LIST_ENTRY(node, struct tcp_flow, node);
		struct wh_gateway_flow *to = flow_list_add(list, flow->id);
		if (!to)
			continue;
		to->protocol = WH_GATEWAY_TCP;
		to->inbound = flow->inbound;
		to->age_ns = now - flow->begun_ns;
		to->state = state_text(flow);
		flow_socket_ends(gateway, flow->watch.fd, to);
		if (flow->inbound)
			to->host_peer = flow->client;
		if (!flow->tcp) {
			to->peer = flow->client;
			to->guest.ip = gateway->guest[0];
			if (flow->rule)
				to->guest.port = flow->rule->config.guest_port;
			continue;
		}
		const struct wh_net_tuple *tuple = wh_net_tcp_tuple(flow->tcp);
		struct wh_net_tcp_info info;
		wh_net_tcp_info(flow->tcp, &info);
		to->guest = tuple->remote;
		to->peer = tuple->local;
		if (!flow->inbound)
			(void)gateway_destination(gateway, &tuple->local, &to->host_peer);
		if (!to->state)
			to->state = wh_net_tcp_state_name(info.state);
		to->rtt_ns = info.rtt_ns;
		to->bytes_out = info.bytes_received;
		to->bytes_in = info.bytes_acked;
	}
}

uint32_t tcp_finish(struct wh_gateway *gateway)
{
	WH_LIST_FOR_EACH_SAFE(node, &gateway->tcp_flows) {
		struct tcp_flow *flow = WH_LIST_ENTRY(node, struct tcp_flow, node);
		struct wh_iov iov[2];
		if (flow->state != OPEN || !flow->guest_connected || !pump_out(flow) ||
		    wh_net_tcp_peek(flow->tcp, iov))
			continue;
		/* Closing the socket sends FIN behind the bytes that the kernel holds. */
		wh_net_tcp_abort(flow->tcp);
		flow->tcp = NULL;
		flow_free(flow);
	}
	uint32_t left = 0;
	WH_LIST_FOR_EACH(node, &gateway->tcp_flows)
		left += WH_LIST_ENTRY(node, struct tcp_flow, node)->state == OPEN;
	return left;
}

void tcp_fini(struct wh_gateway *gateway)
{
	struct wh_list *node;
	while (gateway->tcp_flows.next != &gateway->tcp_flows) {
		node = gateway->tcp_flows.next;
		struct tcp_flow *flow = WH_LIST_ENTRY(node, struct tcp_flow, node);
		if (flow->tcp && flow->state == HOST_CONNECTING) {
			wh_net_tcp_refuse(flow->tcp, 0);
			flow->tcp = NULL;
		}
		flow_fail_host(flow);
	}
}
