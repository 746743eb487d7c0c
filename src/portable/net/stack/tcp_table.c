/* SPDX-License-Identifier: ISC */
/* Table of connections by keyed hash, listeners among them; TIME-WAIT. */
#include "tcp_priv.h"

uint32_t tcp_hash(const struct wh_net *net, const struct wh_net_tuple *t)
{
	uint8_t bytes[36];
	memcpy(bytes, t->local.ip.bytes, 16);
	memcpy(bytes + 16, t->remote.ip.bytes, 16);
	memcpy(bytes + 32, &t->local.port, 2);
	memcpy(bytes + 34, &t->remote.port, 2);
	return (uint32_t)wh_siphash(net->config.key, bytes, sizeof bytes);
}

static bool tuple_equal(const struct wh_net_tuple *a, const struct wh_net_tuple *b)
{
	return a->local.port == b->local.port && a->remote.port == b->remote.port &&
	       wh_net_ip_equal(&a->remote.ip, &b->remote.ip) &&
	       wh_net_ip_equal(&a->local.ip, &b->local.ip);
}

struct tcp_entry *tcp_find(const struct wh_net *net, const struct wh_net_tuple *t)
{
	struct tcp_state *state = tcp_state(net);
	/* Segments come in trains. */
	if (state->last && tuple_equal(&state->last->tuple, t))
		return state->last;
	uint32_t hash = tcp_hash(net, t);
	struct tcp_entry *e = state->bucket[hash & (state->bucket_count - 1)];
	while (e && !(e->hash == hash && tuple_equal(&e->tuple, t)))
		e = e->next;
	if (e)
		state->last = e;
	return e;
}

static struct wh_net_tcp *listener_at(const struct wh_net *net, const struct wh_net_ip *ip,
				      uint16_t port)
{
	struct wh_net_tuple t = { .local = { *ip, port } };
	struct tcp_entry *e = tcp_find(net, &t);
	return e ? WH_CONTAINER_OF(e, struct wh_net_tcp, entry) : 0;
}

struct wh_net_tcp *tcp_find_listener(const struct wh_net *net, const struct wh_net_end *local)
{
	static const uint8_t zero[16];
	struct wh_net_ip any4 = wh_net_ip4(zero), any6 = wh_net_ip6(zero);
	struct wh_net_tcp *l = listener_at(net, &local->ip, local->port);
	bool is4 = wh_net_ip_is4(&local->ip);
	if (!l && is4)
		l = listener_at(net, &any4, local->port);
	if (!l) {
		l = listener_at(net, &any6, local->port);
		if (l && is4 && l->v6only)
			l = 0;
	}
	return l;
}

/* Twice the buckets, when there is memory; the table only gets slower without. */
static void grow(struct wh_net *net, struct tcp_state *state)
{
	uint32_t count = state->bucket_count * 2;
	struct tcp_entry **bucket = wh_alloc_zero(net->config.alloc, count * sizeof *bucket);
	if (!bucket)
		return;
	for (uint32_t i = 0; i < state->bucket_count; i++) {
		for (struct tcp_entry *e = state->bucket[i], *next; e; e = next) {
			next = e->next;
			e->next = bucket[e->hash & (count - 1)];
			bucket[e->hash & (count - 1)] = e;
		}
	}
	wh_free(net->config.alloc, state->bucket, state->bucket_count * sizeof *bucket);
	state->bucket = bucket;
	state->bucket_count = count;
}

void tcp_insert(struct wh_net *net, struct tcp_entry *e)
{
	struct tcp_state *state = tcp_state(net);
	wh_assert(!e->hashed);
	if (state->entry_count >= state->bucket_count)
		grow(net, state);
	e->hash = tcp_hash(net, &e->tuple);
	struct tcp_entry **at = &state->bucket[e->hash & (state->bucket_count - 1)];
	e->next = *at;
	*at = e;
	e->hashed = true;
	state->entry_count++;
}

void tcp_remove(struct wh_net *net, struct tcp_entry *e)
{
	struct tcp_state *state = tcp_state(net);
	if (!e->hashed)
		return;
	struct tcp_entry **at = &state->bucket[e->hash & (state->bucket_count - 1)];
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	if (state->last == e)
		state->last = 0;
	e->hashed = false;
	state->entry_count--;
}

/* Would a listener at `local` collide with another one? */
bool tcp_port_used(const struct wh_net *net, const struct wh_net_end *local, bool v6only)
{
	const struct tcp_state *state = tcp_state(net);
	bool any = wh_net_ip_is_any(&local->ip), is4 = wh_net_ip_is4(&local->ip);
	WH_LIST_FOR_EACH(it, &state->all) {
		const struct wh_net_tcp *l = WH_LIST_ENTRY(it, struct wh_net_tcp, all);
		const struct wh_net_end *other = &l->entry.tuple.local;
		if (l->entry.state != WH_NET_TCP_LISTEN || other->port != local->port)
			continue;
		bool other_any = wh_net_ip_is_any(&other->ip), other4 = wh_net_ip_is4(&other->ip);
		if (wh_net_ip_equal(&other->ip, &local->ip))
			return true;
		if (any && other_any && is4 != other4 && !(is4 ? l->v6only : v6only))
			return true;
	}
	return false;
}

/* ---- TIME-WAIT: what is needed to answer a late FIN, in 100 bytes ---- */

void tcp_time_wait_drop(struct wh_net *net, struct tcp_time_wait *w)
{
	tcp_remove(net, &w->entry);
	wh_list_remove(&w->node);
	net->stats.tcp_time_wait--;
	wh_free(net->config.alloc, w, sizeof *w);
}

static struct tcp_time_wait *oldest(struct tcp_state *state)
{
	struct wh_list *first = state->time_wait.next;
	return first == &state->time_wait ? 0 : WH_LIST_ENTRY(first, struct tcp_time_wait, node);
}

static void on_timer(struct wh_net *net, struct net_timer *timer)
{
	struct tcp_time_wait *w;
	while ((w = oldest(tcp_state(net))) && w->expires <= net->now)
		tcp_time_wait_drop(net, w);
	if (w)
		net_timer_start(net, timer, w->expires);
}

void tcp_time_wait_init(struct wh_net *net)
{
	net_timer_init(&tcp_state(net)->time_wait_timer, on_timer);
	wh_list_init(&tcp_state(net)->time_wait);
}

void tcp_time_wait_fini(struct wh_net *net)
{
	struct tcp_time_wait *w;
	while ((w = oldest(tcp_state(net))))
		tcp_time_wait_drop(net, w);
	net_timer_stop(net, &tcp_state(net)->time_wait_timer);
}

static void restart(struct wh_net *net, struct tcp_time_wait *w)
{
	struct tcp_state *state = tcp_state(net);
	w->expires = net->now + net->config.time_wait_ns;
	wh_list_remove(&w->node);
	wh_list_push_back(&state->time_wait, &w->node);
	if (state->time_wait_timer.deadline == WH_NET_NEVER)
		net_timer_start(net, &state->time_wait_timer, w->expires);
}

/* Takes the connection's place in the table. Without memory there is no
 * TIME-WAIT: its purpose is only to answer politely. */
void tcp_time_wait_enter(struct wh_net_tcp *s)
{
	struct wh_net *net = s->net;
	struct tcp_time_wait *w = 0;
	tcp_remove(net, &s->entry);
	if (net->stats.tcp_time_wait >= net->config.tcp_time_wait_max)
		tcp_time_wait_drop(net, oldest(tcp_state(net)));
	w = wh_alloc_zero(net->config.alloc, sizeof *w);
	if (!w)
		return;
	w->entry.tuple = s->entry.tuple;
	w->entry.state = WH_NET_TCP_TIME_WAIT;
	w->snd_nxt = s->snd_nxt;
	w->rcv_nxt = s->rcv_nxt;
	w->timestamps = s->timestamps_ok;
	w->ts_recent = s->ts_recent;
	w->ts_offset = s->ts_offset;
	w->window = tcp_window_field(s);
	wh_list_init(&w->node);
	tcp_insert(net, &w->entry);
	net->stats.tcp_time_wait++;
	restart(net, w);
}

bool tcp_time_wait_input(struct wh_net *net, struct tcp_time_wait *w, const struct tcp_segment *seg)
{
	const struct wh_wire_tcp *t = &seg->t;
	/* RFC 1122 4.2.2.13, RFC 6191: a new SYN beyond the old connection opens anew. */
	if ((t->flags & WH_WIRE_TCP_SYN) && !(t->flags & (WH_WIRE_TCP_ACK | WH_WIRE_TCP_RST)) &&
	    (tcp_before(w->rcv_nxt - 1, t->sequence) ||
	     (w->timestamps && t->has_timestamp && tcp_before(w->ts_recent, t->timestamp)))) {
		tcp_time_wait_drop(net, w);
		return false;
	}
	if (t->flags & WH_WIRE_TCP_RST) {
		/* RFC 1337: an old RST must not end TIME-WAIT; an exact one may. */
		if (t->sequence == w->rcv_nxt)
			tcp_time_wait_drop(net, w);
		return true;
	}
	if (seg->fin && t->sequence + seg->size + 1 == w->rcv_nxt)
		restart(net, w); /* the peer did not see our ACK */
	if (!seg->size && !(t->flags & (WH_WIRE_TCP_FIN | WH_WIRE_TCP_SYN)) &&
	    t->sequence == w->rcv_nxt)
		return true;
	struct wh_wire_tcp ack = { .from = w->entry.tuple.local.port,
				   .to = w->entry.tuple.remote.port,
				   .sequence = w->snd_nxt,
				   .acknowledgement = w->rcv_nxt,
				   .flags = WH_WIRE_TCP_ACK,
				   .window = (uint16_t)w->window,
				   .has_timestamp = w->timestamps,
				   .timestamp = (uint32_t)(net->now / NET_MS) + w->ts_offset,
				   .timestamp_echo = w->ts_recent };
	(void)tcp_send_bare(net, &w->entry.tuple, &ack, 0, 0); /* peer repeats what it lacks */
	return true;
}
