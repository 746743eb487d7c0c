/* SPDX-License-Identifier: ISC */
/* Opening: SYNs for listeners and for the application's decision, connect. */
#include "tcp_priv.h"

/* RFC 6528: a keyed hash of the tuple, plus a clock that ticks every 4 us. */
uint32_t tcp_initial_sequence(const struct wh_net *net, const struct wh_net_tuple *t)
{
	const uint64_t key[2] = { net->config.key[0] ^ 0x736571756e636573ull, net->config.key[1] };
	uint8_t bytes[36];
	memcpy(bytes, t->local.ip.bytes, 16);
	memcpy(bytes + 16, t->remote.ip.bytes, 16);
	wh_store_be16(bytes + 32, t->local.port);
	wh_store_be16(bytes + 34, t->remote.port);
	return (uint32_t)wh_siphash(key, bytes, sizeof bytes) + (uint32_t)(net->now / 4000);
}

uint32_t tcp_clock_ms(const struct wh_net_tcp *s)
{
	return (uint32_t)(s->net->now / NET_MS) + s->ts_offset;
}

/* RFC 7323, 5.4: an offset of its own for each pair of ends, always the same one. */
uint32_t tcp_clock_of(const struct wh_net *net, const struct wh_net_tuple *t)
{
	return (uint32_t)(net->now / NET_MS) + tcp_hash(net, t) * 2654435761u;
}

uint8_t tcp_scale(uint32_t window_max)
{
	uint8_t scale = 0;
	while (scale < 14 && window_max >> scale > 65535)
		scale++;
	return scale;
}

static void syn_options(struct wh_net_tcp *s, const struct wh_wire_tcp *t)
{
	s->irs = t->sequence;
	s->rcv_nxt = s->rx_sequence = s->ack_sent = t->sequence + 1;
	s->rcv_advertised = s->rcv_nxt;
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	s->mss_peer = t->has_mss ? t->mss : is4 ? TCP_MSS_DEFAULT4 : TCP_MSS_DEFAULT6;
	if (s->mss_peer < TCP_MSS_MIN)
		s->mss_peer = TCP_MSS_MIN;
	s->scale_ok = t->has_scale;
	s->snd_scale = t->has_scale ? t->scale : 0;
	if (!s->scale_ok)
		s->rcv_scale = 0;
	s->sack_ok = t->sack_permitted;
	/* RFC 3168, 6.1.1: a SYN asks with both bits, an answer grants with ECE alone. */
	uint8_t ecn = t->flags & (WH_WIRE_TCP_ECE | WH_WIRE_TCP_CWR);
	if (t->flags & WH_WIRE_TCP_ACK)
		s->ecn_ok &= ecn == WH_WIRE_TCP_ECE;
	else
		s->ecn_ok = s->net->config.cc && ecn == (WH_WIRE_TCP_ECE | WH_WIRE_TCP_CWR);
	s->timestamps_ok = t->has_timestamp;
	s->ts_recent = t->timestamp;
	s->ts_recent_at = s->net->now;
	s->snd_wnd = s->snd_wnd_max = t->window; /* never scaled in a SYN */
	s->snd_wl1 = t->sequence;
	tcp_set_mss(s);
}

void tcp_half_open_done(struct wh_net_tcp *s)
{
	if (!s->half_open)
		return;
	s->half_open = false;
	s->net->stats.tcp_half_open--;
}

static struct wh_net_tcp *half_open_new(struct wh_net *net, const struct tcp_segment *seg,
					const struct wh_net_tuple *tuple)
{
	int error;
	struct wh_net_tcp *s = tcp_new(net, tuple, &error);
	if (!s)
		return 0;
	s->half_open = true;
	net->stats.tcp_half_open++;
	syn_options(s, &seg->t);
	return s;
}

static bool half_open_room(const struct wh_net *net, const struct wh_net_tcp *l)
{
	uint32_t limit = l->backlog < TCP_OPENING_MIN ? TCP_OPENING_MIN : l->backlog;
	return l->opening_count < limit && net->stats.tcp_half_open < net->config.tcp_half_open_max;
}

struct wh_net_tcp *tcp_half_open(struct wh_net *net, struct wh_net_tcp *l,
				 const struct tcp_segment *seg, const struct wh_net_tuple *tuple)
{
	struct wh_net_tcp *s = half_open_new(net, seg, tuple);
	if (!s)
		return 0;
	s->entry.state = WH_NET_TCP_SYN_RECEIVED;
	s->listener = l;
	s->receive_max = l->receive_max;
	s->send_max = l->send_max;
	s->nodelay = l->nodelay;
	s->keepalive = l->keepalive;
	s->keep_idle_s = l->keep_idle_s;
	s->keep_interval_s = l->keep_interval_s;
	s->keep_count = l->keep_count;
	s->tos = l->tos;
	wh_list_push_back(&l->opening, &s->sibling);
	l->opening_count++;
	return s;
}

void tcp_listen_input(struct wh_net *net, struct wh_net_tcp *l, const struct tcp_segment *seg,
		      const struct wh_net_tuple *tuple)
{
	if (l->ready_count >= l->backlog || net->stats.tcp_sockets >= net->config.tcp_sockets_max) {
		net->stats.tcp_backlog_dropped++;
		return; /* the peer's SYN comes again */
	}
	if (!half_open_room(net, l)) {
		tcp_cookie_send(net, l, seg, tuple);
		return;
	}
	struct wh_net_tcp *s = tcp_half_open(net, l, seg, tuple);
	if (s)
		tcp_work(s, TCP_WORK_OUTPUT);
}

void tcp_request_input(struct wh_net *net, const struct tcp_segment *seg,
		       const struct wh_net_tuple *tuple)
{
	const struct wh_net_ops *ops = net->config.ops;
	if (!ops->tcp_request) {
		tcp_reply_reset(net, seg);
		return;
	}
	if (net->stats.tcp_half_open >= net->config.tcp_half_open_max) {
		net->stats.tcp_backlog_dropped++;
		return;
	}
	struct wh_net_tcp *s = half_open_new(net, seg, tuple);
	if (!s)
		return;
	s->entry.state = WH_NET_TCP_REQUESTED;
	s->held = true;
	tcp_timer_set(s, TCP_TIMER_CLOSE, net->now + TCP_REQUEST_NS);
	if (!ops->tcp_request(net->config.ctx, s, &s->entry.tuple)) {
		tcp_reply_reset(net, seg);
		tcp_destroy(s);
	}
}

int wh_net_tcp_accept(struct wh_net_tcp *s)
{
	if (s->entry.state != WH_NET_TCP_REQUESTED)
		return -WH_EINVAL;
	int error = tcp_buffers(s);
	if (error)
		return error;
	tcp_timer_clear(s, TCP_TIMER_CLOSE);
	s->entry.state = WH_NET_TCP_SYN_RECEIVED;
	tcp_work(s, TCP_WORK_OUTPUT);
	return 0;
}

void wh_net_tcp_refuse(struct wh_net_tcp *s, int error)
{
	if (s->entry.state == WH_NET_TCP_REQUESTED && error) {
		if (error == WH_EHOSTUNREACH || error == WH_ENETUNREACH || error == WH_EACCES ||
		    error == WH_ETIMEDOUT)
			(void)net_icmp_quote(s->net, WH_WIRE_PROTO_TCP, &s->entry.tuple, s->irs,
					     error, 0); /* best effort; the RST says it too */
		(void)tcp_send_reset(s); /* a lost one is asked for by the next SYN */
	}
	tcp_destroy(s);
}

void tcp_established(struct wh_net_tcp *s)
{
	struct wh_net *net = s->net;
	s->entry.state = WH_NET_TCP_ESTABLISHED;
	if (!s->tries && s->sent_at)
		tcp_rtt_first(s, net->now - s->sent_at);
	else if (s->tries) /* RFC 6298, 5.7 */
		s->rto = TCP_RTO_SYN_NS;
	bool repeated = s->tries > 1;
	s->tries = s->backoff = 0;
	s->round_end = s->ecn_recover = s->snd_nxt;
	s->progress_at = s->received_at = net->now;
	tcp_timer_clear(s, TCP_TIMER_RETRANSMIT);
	tcp_half_open_done(s);
	tcp_set_mss(s);
	if (net->config.cc)
		net->config.cc->init(&s->cc, s->mss);
	if (net->config.cc && repeated) /* RFC 6298 5.7 and 5681 3.1: more than one was lost */
		s->cc.cwnd = s->mss;
	tcp_keep_restart(s);
	if (s->snd_wnd > s->snd_wnd_max)
		s->snd_wnd_max = s->snd_wnd;
	struct wh_net_tcp *l = s->listener;
	if (!l) {
		tcp_event(s, WH_NET_CONNECTED | WH_NET_WRITABLE);
		return;
	}
	net->stats.tcp_accepted++;
	wh_list_remove(&s->sibling);
	wh_list_push_back(&l->ready, &s->sibling);
	l->opening_count--;
	l->ready_count++;
	tcp_event(l, WH_NET_ACCEPTABLE);
}

/* RFC 9293, 3.10.7.3. */
void tcp_syn_sent_input(struct wh_net_tcp *s, struct tcp_segment *seg)
{
	const struct wh_wire_tcp *t = &seg->t;
	bool ack = t->flags & WH_WIRE_TCP_ACK;
	if (ack && (!tcp_before(s->iss, t->acknowledgement) ||
		    tcp_before(s->snd_nxt, t->acknowledgement))) {
		if (!(t->flags & WH_WIRE_TCP_RST))
			tcp_reply_reset(s->net, seg);
		return;
	}
	if (t->flags & WH_WIRE_TCP_RST) {
		s->net->stats.tcp_resets_in++;
		if (ack)
			tcp_ended(s, WH_ECONNREFUSED);
		return;
	}
	if (!(t->flags & WH_WIRE_TCP_SYN))
		return;
	syn_options(s, t);
	if (!ack) { /* both at once */
		s->entry.state = WH_NET_TCP_SYN_RECEIVED;
		s->syn_due = true;
		tcp_work(s, TCP_WORK_OUTPUT);
		return;
	}
	if (tcp_buffers(s)) {
		(void)tcp_send_reset(s); /* nothing more can be done for it */
		tcp_ended(s, WH_ENOBUFS);
		return;
	}
	s->snd_una = s->snd_nxt = s->fack = t->acknowledgement;
	s->snd_wl2 = t->acknowledgement;
	s->syn_acked = true;
	tcp_established(s);
	tcp_work(s, TCP_WORK_ACK | TCP_WORK_OUTPUT);
}
