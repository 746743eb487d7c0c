/* SPDX-License-Identifier: ISC */
/*
 * A connection's timers share one place in the heap, at or before the earliest of
 * their deadlines: moving a deadline away or clearing it costs nothing, and the
 * heap's timer looks again when it fires.
 */
#include "tcp_priv.h"

static uint64_t earliest(const struct wh_net_tcp *s)
{
	uint64_t deadline = WH_NET_NEVER;
	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		if (s->deadline[i] < deadline)
			deadline = s->deadline[i];
	return deadline;
}

void tcp_timer_set(struct wh_net_tcp *s, enum tcp_timer which, uint64_t deadline)
{
	s->deadline[which] = deadline;
	if (deadline < s->timer.deadline)
		net_timer_start(s->net, &s->timer, deadline);
}

void tcp_keep_restart(struct wh_net_tcp *s)
{
	if (s->keepalive && s->entry.state == WH_NET_TCP_ESTABLISHED)
		tcp_timer_set(s, TCP_TIMER_KEEP, s->net->now + s->keep_idle_s * NET_S);
	else
		tcp_timer_clear(s, TCP_TIMER_KEEP);
}

static bool gave_up(const struct wh_net_tcp *s, uint32_t tries_max)
{
	if (s->user_timeout_ms && s->net->now - s->progress_at >= s->user_timeout_ms * NET_MS)
		return true;
	if (!s->held && !s->listener && tries_max > TCP_ORPHAN_TRIES)
		tries_max = TCP_ORPHAN_TRIES;
	return s->tries >= tries_max;
}

static void on_retransmit(struct wh_net_tcp *s)
{
	uint8_t state = s->entry.state;
	bool opening = state == WH_NET_TCP_SYN_SENT || state == WH_NET_TCP_SYN_RECEIVED;
	uint32_t max = state == WH_NET_TCP_SYN_SENT       ? TCP_SYN_TRIES
		       : state == WH_NET_TCP_SYN_RECEIVED ? TCP_SYNACK_TRIES
							  : TCP_DATA_TRIES;
	/* A window that was made smaller than what is under way: a peer that answers is not
	 * given up (RFC 9293, 3.8.6.1). */
	bool waits = !s->snd_wnd && s->held && s->net->now - s->received_at < 2 * TCP_RTO_MAX_NS;
	if (gave_up(s, max) && !(waits && !s->user_timeout_ms && !opening)) {
		s->net->stats.tcp_failed++;
		tcp_ended(s, s->soft_error ? s->soft_error : WH_ETIMEDOUT);
		return;
	}
	s->net->stats.tcp_timeouts++;
	if (opening)
		s->syn_due = true;
	else
		tcp_enter_loss(s);
	if (s->tries < 255)
		s->tries++;
	if (s->backoff < 10)
		s->backoff++;
	if (!opening)
		tcp_black_hole(s);
	tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
	tcp_work(s, TCP_WORK_OUTPUT);
}

static uint64_t persist_deadline(const struct wh_net_tcp *s)
{
	uint64_t wait = s->rto << (s->persist_tries > 10 ? 10 : s->persist_tries);
	return s->net->now + (wait > TCP_RTO_MAX_NS ? TCP_RTO_MAX_NS : wait);
}

/* RFC 9293 3.8.6.1: the window is probed for as long as the peer answers. */
static void on_persist(struct wh_net_tcp *s)
{
	uint32_t unsent = s->tx_sequence + s->tx.used - s->snd_nxt;
	bool orphan = !s->held && !s->listener;
	if ((int32_t)unsent <= 0 || s->snd_una != s->snd_nxt)
		return;
	/* Nobody waits for it here, and the peer does not take it: RFC 9293, 3.8.6.1 lets the
	 * system decide, and memory is more use to others (RFC 6429). */
	if (orphan && s->persist_tries >= TCP_ORPHAN_TRIES) {
		(void)tcp_send_reset(s); /* lost: its next segment finds nobody */
		tcp_ended(s, WH_ETIMEDOUT);
		return;
	}
	if (s->persist_tries >= TCP_DATA_TRIES &&
	    s->net->now - s->received_at > 2 * TCP_RTO_MAX_NS) {
		tcp_ended(s, WH_ETIMEDOUT);
		return;
	}
	if (s->user_timeout_ms && s->net->now - s->progress_at >= s->user_timeout_ms * NET_MS) {
		tcp_ended(s, WH_ETIMEDOUT);
		return;
	}
	if (s->persist_tries < 255)
		s->persist_tries++;
	/* Some room, but less than we like: time to use it. Else ask; blocked: the timer comes again. */
	if (!s->snd_wnd || !tcp_send_new(s, s->mss))
		(void)tcp_send_probe(s);
	tcp_timer_set(s, TCP_TIMER_PERSIST, persist_deadline(s));
}

static void on_keep(struct wh_net_tcp *s)
{
	if (!s->keepalive || s->entry.state == WH_NET_TCP_CLOSED)
		return;
	uint64_t idle_end = s->received_at + s->keep_idle_s * NET_S;
	if (s->snd_una != s->snd_nxt) /* retransmission looks after it */
		idle_end = s->net->now + s->keep_idle_s * NET_S;
	if (idle_end > s->net->now) {
		s->keep_sent = 0;
		tcp_timer_set(s, TCP_TIMER_KEEP, idle_end);
		return;
	}
	if (s->keep_sent >= s->keep_count) {
		(void)tcp_send_reset(s); /* the peer is probably gone */
		tcp_ended(s, WH_ETIMEDOUT);
		return;
	}
	s->keep_sent++;
	(void)tcp_send_probe(s); /* counts as sent when the link is full: there will be more */
	tcp_timer_set(s, TCP_TIMER_KEEP, s->net->now + s->keep_interval_s * NET_S);
}

static void on_close(struct wh_net_tcp *s)
{
	if (s->entry.state == WH_NET_TCP_REQUESTED)
		tcp_ended(s, WH_ETIMEDOUT);
	else if (s->entry.state == WH_NET_TCP_FIN_WAIT2 && !s->held)
		tcp_ended(s, 0);
}

static void expire(struct wh_net_tcp *s, enum tcp_timer which)
{
	switch (which) {
	case TCP_TIMER_RETRANSMIT:
		on_retransmit(s);
		break;
	case TCP_TIMER_PERSIST:
		on_persist(s);
		break;
	case TCP_TIMER_ACK:
		tcp_work(s, TCP_WORK_ACK);
		break;
	case TCP_TIMER_KEEP:
		on_keep(s);
		break;
	case TCP_TIMER_CLOSE:
		on_close(s);
		break;
	case TCP_TIMER_CORK: {
		bool cork = s->cork;
		s->cork = false;
		tcp_output(s);
		s->cork = cork;
		break;
	}
	case TCP_TIMER_PROBE:
		tcp_probe_send(s);
		break;
	case TCP_TIMER_REORDER:
		tcp_rack_detect(s);
		tcp_work(s, TCP_WORK_OUTPUT);
		break;
	case TCP_TIMER_COUNT:
		break;
	}
}

static void on_timer(struct wh_net *net, struct net_timer *timer)
{
	struct wh_net_tcp *s = WH_CONTAINER_OF(timer, struct wh_net_tcp, timer);
	for (int i = 0; i < TCP_TIMER_COUNT && !s->dead; i++) {
		if (s->deadline[i] > net->now)
			continue;
		s->deadline[i] = WH_NET_NEVER;
		expire(s, (enum tcp_timer)i);
	}
	if (!s->dead)
		net_timer_start(net, timer, earliest(s));
}

void tcp_timers_init(struct wh_net_tcp *s)
{
	net_timer_init(&s->timer, on_timer);
	for (int i = 0; i < TCP_TIMER_COUNT; i++)
		s->deadline[i] = WH_NET_NEVER;
}
