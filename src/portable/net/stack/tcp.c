/* SPDX-License-Identifier: ISC */
/* TCP sockets: life cycle, the work list, and the application's calls. */
#include "tcp_priv.h"

/* ---- Life cycle ---- */

struct wh_net_tcp *tcp_new(struct wh_net *net, const struct wh_net_tuple *tuple, int *ret_error)
{
	struct tcp_state *state = tcp_state(net);
	*ret_error = -WH_ENOBUFS;
	if (net->stats.tcp_sockets >= net->config.tcp_sockets_max) {
		net->stats.tcp_limit_refused++;
		return 0;
	}
	*ret_error = -WH_ENOMEM;
	struct wh_net_tcp *s = wh_alloc_zero(net->config.alloc, sizeof *s);
	if (!s)
		return 0;
	s->net = net;
	s->entry.tuple = *tuple;
	s->entry.state = WH_NET_TCP_CLOSED;
	wh_list_init(&s->work);
	wh_list_init(&s->sibling);
	wh_list_init(&s->opening);
	wh_list_init(&s->ready);
	wh_list_push_back(&state->all, &s->all);
	tcp_timers_init(s);
	s->receive_max = net->config.tcp_receive_max;
	s->send_max = net->config.tcp_send_max;
	s->keep_idle_s = 7200;
	s->keep_interval_s = 75;
	s->keep_count = 9;
	s->rto = TCP_RTO_FIRST_NS;
	s->iss = tcp_initial_sequence(net, tuple);
	s->snd_una = s->snd_nxt = s->fack = s->iss;
	s->syn_due = true;
	s->tx_sequence = s->iss + 1;
	s->small_end = s->iss;
	s->ts_offset = tcp_clock_of(net, tuple) - (uint32_t)(net->now / NET_MS);
	s->progress_at = s->received_at = s->sent_at = net->now;
	s->rcv_scale = tcp_scale(s->receive_max);
	tcp_insert(net, &s->entry);
	net->stats.tcp_sockets++;
	return s;
}

static void rings_free(struct wh_net_tcp *s, bool receive)
{
	s->net->stats.tcp_buffer_bytes -= s->tx.size;
	tcp_ring_fini(s->net, &s->tx);
	if (!receive)
		return;
	s->net->stats.tcp_buffer_bytes -= s->rx.size;
	tcp_ring_fini(s->net, &s->rx);
}

int tcp_buffers(struct wh_net_tcp *s)
{
	if (s->rx.base)
		return 0;
	if (tcp_ring_init(s->net, &s->rx))
		return -WH_ENOMEM;
	if (tcp_ring_init(s->net, &s->tx)) {
		tcp_ring_fini(s->net, &s->rx);
		return -WH_ENOMEM;
	}
	s->net->stats.tcp_buffer_bytes += (uint64_t)s->rx.size + s->tx.size;
	return 0;
}

void tcp_free(struct wh_net_tcp *s)
{
	rings_free(s, true);
	wh_list_remove(&s->work);
	wh_free(s->net->config.alloc, s, sizeof *s);
}

static void leave_listener(struct wh_net_tcp *s)
{
	struct wh_net_tcp *l = s->listener;
	if (!l)
		return;
	wh_list_remove(&s->sibling);
	if (s->half_open)
		l->opening_count--;
	else
		l->ready_count--;
	s->listener = 0;
}

static void detach(struct wh_net_tcp *s)
{
	leave_listener(s);
	tcp_half_open_done(s);
	tcp_remove(s->net, &s->entry);
	net_timer_stop(s->net, &s->timer);
	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		s->deadline[i] = WH_NET_NEVER;
}

void tcp_destroy(struct wh_net_tcp *s)
{
	if (s->dead)
		return;
	detach(s);
	s->entry.state = WH_NET_TCP_CLOSED;
	s->dead = true;
	s->held = false;
	s->ops = 0;
	wh_list_remove(&s->all);
	wh_list_remove(&s->work);
	wh_list_push_back(&tcp_state(s->net)->dead, &s->work);
	s->net->stats.tcp_sockets--;
	rings_free(s, true);
}

void tcp_ended(struct wh_net_tcp *s, int error)
{
	bool taken = !s->listener;
	if (s->dead)
		return;
	if (error && !s->error)
		s->error = error;
	detach(s);
	s->entry.state = WH_NET_TCP_CLOSED;
	if (!taken || !s->held) {
		tcp_destroy(s);
		return;
	}
	rings_free(s, false);
	s->work_flags = 0;
	if (s->blocked) {
		s->blocked = false;
		wh_list_remove(&s->work);
	}
	tcp_event(s, (error ? WH_NET_FAILED : 0) | WH_NET_READABLE | WH_NET_WRITABLE);
}

void tcp_work(struct wh_net_tcp *s, uint8_t flags)
{
	s->work_flags |= flags;
	if (!s->dead && !s->blocked && wh_list_empty(&s->work))
		wh_list_push_back(&tcp_state(s->net)->work, &s->work);
}

void tcp_event(struct wh_net_tcp *s, uint32_t events)
{
	s->events |= events;
	/* A blocked socket still tells its news. */
	if (s->blocked && !s->dead) {
		s->blocked = false;
		wh_list_remove(&s->work);
	}
	tcp_work(s, 0);
}

void tcp_set_mss(struct wh_net_tcp *s)
{
	struct net_route r;
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	uint32_t mtu = net_route(s->net, &s->entry.tuple.remote.ip, &r) ? 1280 : r.mtu;
	uint32_t mss = mtu - (is4 ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE) - WH_WIRE_TCP_SIZE;
	if (!s->mss_receive)
		s->mss_receive = (uint16_t)mss;
	if (s->mss_peer && mss > s->mss_peer)
		mss = s->mss_peer;
	if (s->mss_limit && mss > s->mss_limit)
		mss = s->mss_limit;
	s->mss = (uint16_t)(mss - (s->timestamps_ok ? 12 : 0)); /* RFC 6691 */
	s->cc.mss = s->mss;
}

uint32_t tcp_receive_room(const struct wh_net_tcp *s)
{
	return s->rx.base ? s->rx.size - s->rx.used : s->net->config.tcp_buffer_start;
}

/* ---- The cycle ---- */

static bool tcp_run(struct wh_net *net)
{
	struct tcp_state *state = tcp_state(net);
	bool worked = false;
	/* What the callbacks add is done in the next round. */
	struct wh_list batch, *it;
	wh_list_init(&batch);
	while ((it = wh_list_pop_front(&state->work)))
		wh_list_push_back(&batch, it);
	while ((it = wh_list_pop_front(&batch))) {
		struct wh_net_tcp *s = WH_LIST_ENTRY(it, struct wh_net_tcp, work);
		uint32_t events = s->events;
		worked = true;
		s->events = 0;
		if (events && s->held && s->ops && s->ops->event)
			s->ops->event(s, events);
		if (s->dead)
			continue;
		if (s->work_flags & TCP_WORK_OUTPUT)
			tcp_output(s);
		if (!s->dead && !s->blocked && (s->work_flags & TCP_WORK_ACK) && s->rx.base) {
			if (s->entry.state != WH_NET_TCP_CLOSED)
				(void)tcp_send_ack(s); /* blocked: comes again */
		}
	}
	while ((it = wh_list_pop_front(&state->dead)))
		tcp_free(WH_LIST_ENTRY(it, struct wh_net_tcp, work));
	return worked;
}

static bool tcp_pending(const struct wh_net *net)
{
	const struct tcp_state *state = tcp_state(net);
	return !wh_list_empty(&state->work) || !wh_list_empty(&state->dead);
}

static void tcp_unblock(struct wh_net *net)
{
	struct tcp_state *state = tcp_state(net);
	for (struct wh_list *it; (it = wh_list_pop_front(&state->blocked));) {
		struct wh_net_tcp *s = WH_LIST_ENTRY(it, struct wh_net_tcp, work);
		s->blocked = false;
		tcp_work(s, TCP_WORK_OUTPUT);
	}
}

static void tcp_fini(struct wh_net *net)
{
	struct tcp_state *state = tcp_state(net);
	while (!wh_list_empty(&state->all))
		tcp_destroy(WH_LIST_ENTRY(state->all.next, struct wh_net_tcp, all));
	for (struct wh_list *it; (it = wh_list_pop_front(&state->dead));)
		tcp_free(WH_LIST_ENTRY(it, struct wh_net_tcp, work));
	tcp_time_wait_fini(net);
	tcp_rings_spare_free(net);
	wh_free(net->config.alloc, state->bucket, state->bucket_count * sizeof *state->bucket);
	wh_free(net->config.alloc, state, sizeof *state);
}

int wh_net_tcp_enable(struct wh_net *net)
{
	static const struct net_protocol protocol = { .input = tcp_input,
						      .error = tcp_error_input,
						      .run = tcp_run,
						      .pending = tcp_pending,
						      .unblock = tcp_unblock,
						      .fini = tcp_fini };
	const struct wh_alloc *a = net->config.alloc;
	if (net->tcp)
		return 0;
	struct tcp_state *state = wh_alloc_zero(a, sizeof *state);
	if (!state)
		return -WH_ENOMEM;
	state->bucket_count = TCP_BUCKETS_START;
	state->bucket = wh_alloc_zero(a, state->bucket_count * sizeof *state->bucket);
	if (!state->bucket) {
		wh_free(a, state, sizeof *state);
		return -WH_ENOMEM;
	}
	wh_list_init(&state->all);
	wh_list_init(&state->work);
	wh_list_init(&state->blocked);
	wh_list_init(&state->dead);
	net->tcp_state = state;
	net->tcp = &protocol;
	tcp_time_wait_init(net);
	return 0;
}

/* ---- Opening ---- */

static bool local_allowed(const struct wh_net *net, const struct wh_net_ip *ip)
{
	return wh_net_ip_is_any(ip) || net->config.transparent || wh_net_address_own(net, ip);
}

/* RFC 6056, algorithm 3: an offset by hash, then one after the other. A port that is listened on is no
 * client's: a connection to it would meet itself (RFC 9293, 3.5, simultaneous open). */
static int port_choose(struct wh_net *net, struct wh_net_tuple *t, bool listener)
{
	struct tcp_state *state = tcp_state(net);
	t->local.port = 0;
	uint32_t start = tcp_hash(net, t) + state->port_next++;
	for (uint32_t i = 0; i < TCP_PORT_COUNT; i++) {
		t->local.port = (uint16_t)(TCP_PORT_FIRST + (start + i) % TCP_PORT_COUNT);
		if (!tcp_find(net, t) && (listener ? !tcp_port_used(net, &t->local, false)
						   : !tcp_find_listener(net, &t->local)))
			return 0;
	}
	return -WH_EADDRINUSE;
}

int wh_net_tcp_bindable(struct wh_net *net, struct wh_net_end *local, bool v6only)
{
	struct wh_net_tuple t = { .local = *local };
	if (!local_allowed(net, &local->ip))
		return -WH_EADDRNOTAVAIL;
	if (local->port)
		return tcp_port_used(net, local, v6only) ? -WH_EADDRINUSE : 0;
	int error = port_choose(net, &t, true);
	if (!error)
		local->port = t.local.port;
	return error;
}

uint32_t wh_net_tcp_waiting(const struct wh_net_tcp *listener)
{
	return listener->ready_count;
}

int wh_net_tcp_listen(struct wh_net *net, const struct wh_net_end *local, bool v6only,
		      uint32_t backlog, const struct wh_net_tcp_ops *ops, void *ctx,
		      struct wh_net_tcp **ret_listener)
{
	struct wh_net_tuple t = { .local = *local };
	int error = 0;
	wh_assert(net->tcp);
	error = wh_net_tcp_bindable(net, &t.local, v6only);
	if (error)
		return error;
	struct wh_net_tcp *l = tcp_new(net, &t, &error);
	if (!l)
		return error;
	l->entry.state = WH_NET_TCP_LISTEN;
	l->v6only = v6only;
	l->backlog = backlog ? backlog : 1;
	l->ops = ops;
	l->ctx = ctx;
	l->held = true;
	*ret_listener = l;
	return 0;
}

int wh_net_tcp_take(struct wh_net_tcp *l, struct wh_net_tcp **ret_s)
{
	wh_assert(l->entry.state == WH_NET_TCP_LISTEN);
	struct wh_list *it = wh_list_pop_front(&l->ready);
	if (!it)
		return -WH_EAGAIN;
	struct wh_net_tcp *s = WH_LIST_ENTRY(it, struct wh_net_tcp, sibling);
	l->ready_count--;
	s->listener = 0;
	s->held = true;
	*ret_s = s;
	return 0;
}

int wh_net_tcp_connect(struct wh_net *net, const struct wh_net_tuple *tuple,
		       const struct wh_net_tcp_ops *ops, void *ctx, struct wh_net_tcp **ret_s)
{
	struct wh_net_tuple t = *tuple;
	struct net_route r;
	wh_assert(net->tcp);
	if (!t.remote.port || net_ip_multicast(&t.remote.ip) || net_ip_broadcast(net, &t.remote.ip))
		return -WH_ENETUNREACH;
	if (!local_allowed(net, &t.local.ip))
		return -WH_EADDRNOTAVAIL;
	int error = net_route(net, &t.remote.ip, &r);
	if (!error && wh_net_ip_is_any(&t.local.ip))
		error = wh_net_source(net, &t.remote.ip, &t.local.ip);
	if (!error && !t.local.port)
		error = port_choose(net, &t, false);
	if (error)
		return error;
	uint32_t after = 0;
	bool reuse = false;
	struct tcp_entry *old = tcp_find(net, &t);
	if (old && old->state != WH_NET_TCP_TIME_WAIT)
		return -WH_EADDRINUSE;
	if (old) { /* RFC 1122 4.2.2.13 and 6191: begin beyond the old connection */
		struct tcp_time_wait *w = WH_CONTAINER_OF(old, struct tcp_time_wait, entry);
		after = w->snd_nxt + (1u << 16);
		reuse = true;
		tcp_time_wait_drop(net, w);
	}
	struct wh_net_tcp *s = tcp_new(net, &t, &error);
	if (!s)
		return error;
	if (reuse && tcp_before(s->iss, after)) {
		s->iss = s->snd_una = s->snd_nxt = s->fack = s->small_end = after;
		s->tx_sequence = after + 1;
	}
	s->entry.state = WH_NET_TCP_SYN_SENT;
	s->half_open = true;
	net->stats.tcp_half_open++;
	net->stats.tcp_opened++;
	s->sack_ok = s->timestamps_ok = s->scale_ok = true;
	s->ecn_ok = net->config.ecn && net->config.cc;
	s->ops = ops;
	s->ctx = ctx;
	s->held = true;
	tcp_work(s, TCP_WORK_OUTPUT);
	*ret_s = s;
	return 0;
}

/* ---- Bytes ---- */

uint32_t wh_net_tcp_peek(struct wh_net_tcp *s, struct wh_iov iov[2])
{
	iov[0] = iov[1] = (struct wh_iov){ 0, 0 };
	if (s->rx.base)
		tcp_ring_slice(&s->rx, 0, s->rx.used, iov);
	return s->rx.used;
}

/* The receive buffer doubles when a bulk sender fills it twice within a few round
 * trips and the application keeps up. */
static void receive_grow(struct wh_net_tcp *s)
{
	uint64_t span = 50 * NET_MS + 4 * s->srtt;
	if (s->grow_received < 2 * s->rx.size)
		return;
	bool fast = s->net->now - s->grow_at < span;
	s->grow_at = s->net->now;
	s->grow_received = 0;
	if (!fast || s->rx.size * 2 > s->receive_max || s->rx.used > s->rx.size / 2)
		return;
	/* Out-of-order bytes sit behind `used`: everything moves. */
	if (tcp_ring_grow(s->net->config.alloc, &s->rx, s->rx.size * 2,
			  s->ooo_count ? s->rx.size : s->rx.used))
		s->net->stats.tcp_buffer_bytes += s->rx.size / 2;
}

void tcp_window_opened(struct wh_net_tcp *s)
{
	if (!s->rx.base || s->entry.state == WH_NET_TCP_CLOSED || s->fin_received)
		return;
	receive_grow(s);
	uint32_t gain = s->rx_sequence + s->rx.size - s->rcv_advertised;
	/* RFC 9293 3.8.6.2.2, with a quarter of the buffer where that is more. */
	if (gain >= s->rx.size / 2 || (gain >= s->rx.size / 4 && gain >= 2u * s->mss_receive))
		tcp_work(s, TCP_WORK_ACK);
}

void wh_net_tcp_consume(struct wh_net_tcp *s, uint32_t size)
{
	wh_assert(size <= s->rx.used);
	tcp_ring_skip(&s->rx, size);
	s->rx_sequence += size;
	tcp_window_opened(s);
}

/* Is the buffer what limits the connection? Then half of it is under way already, or the peer and the
 * congestion window would take more at once than it holds. */
static bool send_more_helps(const struct wh_net_tcp *s)
{
	uint32_t window = s->snd_wnd;
	if (s->tx.size * 2 > s->send_max)
		return false;
	if (s->net->config.cc && s->cc.cwnd < window)
		window = s->cc.cwnd;
	return s->snd_nxt - s->snd_una >= s->tx.size / 2 || window > s->tx.used;
}

uint32_t wh_net_tcp_reserve(struct wh_net_tcp *s, struct wh_iov iov[2])
{
	iov[0] = iov[1] = (struct wh_iov){ 0, 0 };
	if (!s->tx.base || s->fin_wanted)
		return 0;
	uint32_t room = s->tx.size - s->tx.used;
	if (room < s->tx.size / 4 && send_more_helps(s) &&
	    tcp_ring_grow(s->net->config.alloc, &s->tx, s->tx.size * 2, s->tx.used)) {
		s->net->stats.tcp_buffer_bytes += s->tx.size / 2;
		room = s->tx.size - s->tx.used;
	}
	if (room < s->tx.size / 4)
		s->want_write = true;
	tcp_ring_slice(&s->tx, s->tx.used, room, iov);
	return room;
}

void wh_net_tcp_commit(struct wh_net_tcp *s, uint32_t size)
{
	if (!size || !s->tx.base)
		return;
	wh_assert(!s->fin_wanted && size <= s->tx.size - s->tx.used);
	s->tx.used += size;
	if (s->tx.size - s->tx.used < s->tx.size / 4)
		s->want_write = true;
	tcp_work(s, TCP_WORK_OUTPUT);
}

bool wh_net_tcp_writable(struct wh_net_tcp *s)
{
	struct wh_iov iov[2];
	uint32_t room = wh_net_tcp_reserve(s, iov);
	return room && room >= s->tx.size / 4;
}

uint32_t wh_net_tcp_read(struct wh_net_tcp *s, void *to, uint32_t size)
{
	struct wh_iov iov[2];
	wh_net_tcp_peek(s, iov);
	uint32_t n = (uint32_t)wh_iov_read(iov, 2, 0, to, size);
	if (n)
		wh_net_tcp_consume(s, n);
	return n;
}

uint32_t wh_net_tcp_write(struct wh_net_tcp *s, const void *from, uint32_t size)
{
	struct wh_iov iov[2];
	wh_net_tcp_reserve(s, iov);
	uint32_t n = (uint32_t)wh_iov_write(iov, 2, 0, from, size);
	wh_net_tcp_commit(s, n);
	return n;
}

bool wh_net_tcp_at_end(const struct wh_net_tcp *s)
{
	return s->fin_received && !s->rx.used;
}

uint32_t wh_net_tcp_unsent(const struct wh_net_tcp *s)
{
	return s->tx.used;
}

/* ---- Closing ---- */

void wh_net_tcp_shutdown(struct wh_net_tcp *s)
{
	if (s->fin_wanted)
		return;
	switch (s->entry.state) {
	case WH_NET_TCP_ESTABLISHED:
		s->entry.state = WH_NET_TCP_FIN_WAIT1;
		break;
	case WH_NET_TCP_CLOSE_WAIT:
		s->entry.state = WH_NET_TCP_LAST_ACK;
		break;
	default:
		return;
	}
	s->fin_wanted = true;
	tcp_work(s, TCP_WORK_OUTPUT);
}

static void listener_close(struct wh_net_tcp *l)
{
	struct wh_list *lists[] = { &l->opening, &l->ready };
	for (int i = 0; i < 2; i++) {
		while (!wh_list_empty(lists[i])) {
			struct wh_net_tcp *s =
				WH_LIST_ENTRY(lists[i]->next, struct wh_net_tcp, sibling);
			(void)tcp_send_reset(s); /* lost: its next segment finds nobody */
			tcp_destroy(s);
		}
	}
	tcp_destroy(l);
}

void wh_net_tcp_abort(struct wh_net_tcp *s)
{
	if (!s)
		return;
	if (s->entry.state == WH_NET_TCP_LISTEN) {
		listener_close(s);
		return;
	}
	if (s->entry.state != WH_NET_TCP_CLOSED &&
	    !(s->entry.state == WH_NET_TCP_SYN_SENT && s->snd_nxt == s->iss))
		(void)tcp_send_reset(s); /* lost: the peer's next segment is answered so */
	tcp_destroy(s);
}

void wh_net_tcp_close(struct wh_net_tcp *s)
{
	if (!s)
		return;
	uint8_t state = s->entry.state;
	if (state == WH_NET_TCP_CLOSED) {
		tcp_destroy(s);
		return;
	}
	if (state == WH_NET_TCP_LISTEN || state == WH_NET_TCP_SYN_SENT ||
	    state == WH_NET_TCP_REQUESTED || (s->rx.used && s->rx.base)) {
		wh_net_tcp_abort(s);
		return;
	}
	if (state == WH_NET_TCP_SYN_RECEIVED) {
		wh_net_tcp_abort(s);
		return;
	}
	wh_net_tcp_shutdown(s);
	s->held = false;
	s->ops = 0;
	s->events = 0;
	s->keepalive = false;
	if (s->entry.state == WH_NET_TCP_FIN_WAIT2)
		tcp_timer_set(s, TCP_TIMER_CLOSE, s->net->now + TCP_FIN_WAIT2_NS);
}

void wh_net_tcp_close_all(struct wh_net *net)
{
	struct tcp_state *state = tcp_state(net);
	if (!net->tcp)
		return;
	/* Closing a listener takes others from the list, so begin again each time. */
	for (bool again = true; again;) {
		again = false;
		WH_LIST_FOR_EACH(it, &state->all) {
			struct wh_net_tcp *s = WH_LIST_ENTRY(it, struct wh_net_tcp, all);
			if (!s->held)
				continue;
			wh_net_tcp_close(s);
			again = true;
			break;
		}
	}
}

bool wh_net_tcp_busy(const struct wh_net *net)
{
	const struct tcp_state *state = tcp_state(net);
	if (!net->tcp)
		return false;
	WH_LIST_FOR_EACH(it, &state->all) {
		const struct wh_net_tcp *s = WH_LIST_ENTRY(it, struct wh_net_tcp, all);
		if (s->tx.used || (s->fin_wanted && !s->fin_acked))
			return true;
	}
	return false;
}
