/* SPDX-License-Identifier: ISC */
/* A segment arrives: RFC 9293 3.10.7 in its order, with RFC 5961 and RFC 7323. */
#include "tcp_priv.h"

/* May this connection answer once more what does not fit? */
static bool answer_allowed(struct wh_net_tcp *s)
{
	if (s->net->now - s->answers_at >= NET_S) {
		s->answers_at = s->net->now;
		s->answers_count = 0;
	}
	return s->answers_count++ < TCP_ANSWERS_PER_S;
}

void tcp_challenge(struct wh_net_tcp *s)
{
	struct tcp_state *state = tcp_state(s->net);
	if (!state->challenge_limit || s->net->now - state->challenge_at >= NET_S) {
		state->challenge_at = s->net->now;
		state->challenge_count = 0;
		state->challenge_limit = TCP_CHALLENGE_PER_S / 2 +
					 (uint32_t)(net_random(s->net) % TCP_CHALLENGE_PER_S);
	}
	if (state->challenge_count >= state->challenge_limit || !answer_allowed(s))
		return;
	state->challenge_count++;
	s->net->stats.tcp_challenge_acks++;
	tcp_work(s, TCP_WORK_ACK);
}

/* PAWS, RFC 7323 5.3. */
static bool timestamp_accept(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	if (!s->timestamps_ok || (seg->t.flags & WH_WIRE_TCP_RST))
		return true;
	if (!seg->t.has_timestamp) {
		s->net->stats.tcp_paws_dropped++;
		return false; /* RFC 7323, 3.2: once negotiated, always there */
	}
	if (!tcp_before(seg->t.timestamp, s->ts_recent) ||
	    s->net->now - s->ts_recent_at > TCP_PAWS_IDLE_NS)
		return true;
	s->net->stats.tcp_paws_dropped++;
	if (seg->size || answer_allowed(s))
		tcp_work(s, TCP_WORK_ACK);
	return false;
}

static void timestamp_take(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	if (s->timestamps_ok && seg->t.has_timestamp && !tcp_before(s->ack_sent, seg->t.sequence) &&
	    !tcp_before(seg->t.timestamp, s->ts_recent)) {
		s->ts_recent = seg->t.timestamp;
		s->ts_recent_at = s->net->now;
	}
}

/* Is a part of it in the window? The window is what the ring can hold, which is
 * never less than what was advertised. */
static bool sequence_accept(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	uint32_t room = tcp_receive_room(s), start = seg->t.sequence;
	uint32_t length = seg->size + (seg->t.flags & WH_WIRE_TCP_SYN ? 1 : 0) + seg->fin;
	int32_t from = tcp_diff(start, s->rcv_nxt), to = tcp_diff(start + length, s->rcv_nxt);
	if (!length && from >= 0 && (uint32_t)from <= room)
		return true;
	if (length && to > 0 && from <= (int32_t)room)
		return from < (int32_t)room || !from || !room;
	s->net->stats.tcp_window_dropped++;
	if (!(seg->t.flags & WH_WIRE_TCP_RST) && (length || answer_allowed(s))) {
		if (to <= 0 && length && s->sack_ok) { /* RFC 2883: say that it came twice */
			s->dsack = (struct tcp_range){ start, start + length };
			s->dsack_pending = true;
		}
		tcp_work(s, TCP_WORK_ACK);
	}
	return false;
}

static void reset_input(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	s->net->stats.tcp_resets_in++;
	if (seg->t.sequence != s->rcv_nxt) {
		tcp_challenge(s); /* RFC 5961, 3.2 */
		return;
	}
	bool closing =
		s->entry.state == WH_NET_TCP_LAST_ACK || s->entry.state == WH_NET_TCP_CLOSING;
	tcp_ended(s, closing ? 0 : WH_ECONNRESET);
}

/* SYN-RECEIVED: the ACK that completes the handshake. */
static bool handshake_ack(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	uint32_t ack = seg->t.acknowledgement;
	if (!tcp_before(s->snd_una, ack) || tcp_before(s->snd_nxt, ack)) {
		tcp_reply_reset(s->net, seg);
		return false;
	}
	/* Also when the accept queue is full: for this peer the connection exists. The queue is
	 * bounded because SYNs are not answered meanwhile. */
	if (tcp_buffers(s))
		return false; /* no memory now: the same */
	s->snd_wnd = (uint32_t)seg->t.window << s->snd_scale;
	s->snd_wl1 = seg->t.sequence;
	s->snd_wl2 = ack;
	tcp_established(s);
	return true;
}

static void requested_input(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	if (seg->t.flags & WH_WIRE_TCP_RST) {
		if (seg->t.sequence == s->rcv_nxt || seg->t.sequence == s->irs)
			tcp_ended(s, WH_ECONNRESET);
	}
}

/* RFC 3168, 6.1.3: "congestion experienced" is told until the peer says that it has heard. */
static void ecn_take(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	if (!s->ecn_ok)
		return;
	if (seg->t.flags & WH_WIRE_TCP_CWR)
		s->ecn_echo = false;
	if ((seg->p->tos & 3) == 3)
		s->ecn_echo = true;
}

static void connection_input(struct wh_net_tcp *s, struct tcp_segment *seg)
{
	s->segments_in++;
	if (s->entry.state == WH_NET_TCP_SYN_SENT) {
		tcp_syn_sent_input(s, seg);
		return;
	}
	if (s->entry.state == WH_NET_TCP_REQUESTED) {
		requested_input(s, seg);
		return;
	}
	/* The peer's SYN once more: our SYN-ACK was lost. */
	if (s->entry.state == WH_NET_TCP_SYN_RECEIVED && seg->t.sequence == s->irs &&
	    (seg->t.flags & (WH_WIRE_TCP_SYN | WH_WIRE_TCP_RST)) == WH_WIRE_TCP_SYN) {
		if (!(seg->t.flags & WH_WIRE_TCP_ACK)) {
			s->syn_due = true;
			tcp_work(s, TCP_WORK_OUTPUT);
			return;
		}
		/* Simultaneous open: SYN-ACK completes it (RFC 9293, figure 8). */
		seg->t.flags &= (uint8_t)~WH_WIRE_TCP_SYN;
		seg->t.sequence++;
	}
	if (!timestamp_accept(s, seg) || !sequence_accept(s, seg))
		return;
	if (seg->t.flags & WH_WIRE_TCP_RST) {
		reset_input(s, seg);
		return;
	}
	if (seg->t.flags & WH_WIRE_TCP_SYN) {
		tcp_challenge(s); /* RFC 5961, 4.2 */
		return;
	}
	if (!(seg->t.flags & WH_WIRE_TCP_ACK))
		return;
	if (s->entry.state == WH_NET_TCP_SYN_RECEIVED && !handshake_ack(s, seg))
		return;
	timestamp_take(s, seg);
	ecn_take(s, seg);
	s->received_at = s->net->now;
	s->keep_sent = 0;
	if (!tcp_ack_input(s, seg))
		return;
	tcp_data_input(s, seg);
}

/* No connection has it. */
static void unknown_input(struct wh_net *net, struct tcp_segment *seg,
			  const struct wh_net_tuple *tuple)
{
	uint8_t kind = seg->t.flags &
		       (WH_WIRE_TCP_SYN | WH_WIRE_TCP_ACK | WH_WIRE_TCP_RST | WH_WIRE_TCP_FIN);
	struct wh_net_tcp *l, *s = 0;
	bool drop = false;
	if (kind & WH_WIRE_TCP_RST)
		return;
	l = kind == WH_WIRE_TCP_SYN || (kind & ~WH_WIRE_TCP_FIN) == WH_WIRE_TCP_ACK
		    ? tcp_find_listener(net, &tuple->local)
		    : 0;
	if (kind == WH_WIRE_TCP_SYN) {
		if (l)
			tcp_listen_input(net, l, seg, tuple);
		else
			tcp_request_input(net, seg, tuple);
		return;
	}
	if (l)
		s = tcp_cookie_input(net, l, seg, tuple, &drop);
	if (s)
		connection_input(s, seg);
	else if (!drop)
		tcp_reply_reset(net, seg);
}

void tcp_input(struct wh_net *net, struct net_packet *p)
{
	struct tcp_segment seg = { .p = p };
	net->stats.tcp_in++;
	int size = wh_wire_tcp_parse(p->head, p->head_size, p->size, &seg.t);
	if (size < 0 || p->group || !seg.t.from || !seg.t.to || wh_net_ip_is_any(&p->from)) {
		net->stats.in_malformed++;
		return;
	}
	if (!net_checksum_good(p)) {
		net->stats.in_checksum++;
		return;
	}
	seg.offset = p->offset + (uint32_t)size;
	seg.size = p->size - (uint32_t)size;
	seg.fin = seg.t.flags & WH_WIRE_TCP_FIN;
	seg.sequence = seg.t.sequence + (seg.t.flags & WH_WIRE_TCP_SYN ? 1 : 0);
	struct wh_net_tuple tuple = { .local = { p->to, seg.t.to },
				      .remote = { p->from, seg.t.from } };
	struct tcp_entry *e = tcp_find(net, &tuple);
	if (e && e->state == WH_NET_TCP_TIME_WAIT) {
		if (tcp_time_wait_input(net, WH_CONTAINER_OF(e, struct tcp_time_wait, entry), &seg))
			return;
		e = 0;
	}
	if (e) {
		connection_input(WH_CONTAINER_OF(e, struct wh_net_tcp, entry), &seg);
		return;
	}
	unknown_input(net, &seg, &tuple);
}

/* RFC 1122 4.2.3.9, RFC 5927: errors count only when they quote what is in flight,
 * and end only connections that are being opened. */
void tcp_error_input(struct wh_net *net, const struct net_icmp_error *error)
{
	struct tcp_entry *e = tcp_find(net, &error->tuple);
	if (!e || e->state == WH_NET_TCP_TIME_WAIT || e->state == WH_NET_TCP_LISTEN)
		return;
	struct wh_net_tcp *s = WH_CONTAINER_OF(e, struct wh_net_tcp, entry);
	if (tcp_before(error->sequence, s->snd_una) || !tcp_before(error->sequence, s->snd_nxt))
		return;
	if (error->error == WH_EMSGSIZE) {
		/* RFC 8201 and Linux: a smaller claim than 552 is not believed. */
		uint32_t least = wh_net_ip_is4(&e->tuple.remote.ip) ? 552 : 1280;
		net_pmtu_set(net, &e->tuple.remote.ip, error->mtu < least ? least : error->mtu);
		uint16_t mss = s->mss;
		tcp_set_mss(s);
		s->mss_lowered |= s->mss < mss;
		if (s->mss < mss && s->entry.state != WH_NET_TCP_SYN_SENT) {
			/* Not congestion: sent again with the window as it is. */
			s->recover = s->snd_nxt;
			s->recovery = TCP_LOSS;
			s->frto = 0;
			tcp_sent_lost_all(s, false);
			tcp_work(s, TCP_WORK_OUTPUT);
		}
		return;
	}
	/* RFC 5461: no reason to wait while it is being opened; later it may pass. */
	if (e->state == WH_NET_TCP_SYN_SENT)
		tcp_ended(s, error->error);
	else
		s->soft_error = error->error;
}
