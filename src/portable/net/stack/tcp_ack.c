/* SPDX-License-Identifier: ISC */
/*
 * Acknowledgements.
 *
 * Loss recovery has three states. OPEN: all is well. RECOVERY: a loss was found by
 * duplicate acknowledgements or SACK (RFC 6675; RFC 6582 without SACK): holes are
 * sent again in order while the pipe has room, until everything that was
 * outstanding when it began (`recover`) is acknowledged. LOSS: the timer ran out; sending
 * starts over at snd_una and passes over what the peer has.
 */
#include "tcp_priv.h"

/* RFC 6298, section 2; in ns. */
void tcp_rtt_sample(struct wh_net_tcp *s, uint64_t rtt)
{
	if (!s->srtt) {
		s->srtt = rtt ? rtt : 1;
		s->rttvar = rtt / 2;
	} else {
		uint64_t delta = rtt > s->srtt ? rtt - s->srtt : s->srtt - rtt;
		s->rttvar += (delta >> 2) - (s->rttvar >> 2);
		s->srtt += (rtt >> 3);
		s->srtt -= (s->srtt >> 3);
		if (!s->srtt)
			s->srtt = 1;
	}
	uint64_t rto = s->srtt + (4 * s->rttvar > NET_MS ? 4 * s->rttvar : NET_MS);
	s->rto = rto < TCP_RTO_MIN_NS   ? TCP_RTO_MIN_NS
		 : rto > TCP_RTO_MAX_NS ? TCP_RTO_MAX_NS
					: rto;
}

uint32_t tcp_sacked_bytes(const struct wh_net_tcp *s)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < s->sacked.count; i++)
		n += s->sacked.range[i].end - s->sacked.range[i].start;
	return n;
}

/* Everything that is not SACKed below this is taken for lost (RFC 6675 IsLost). */
static uint32_t lost_edge(const struct wh_net_tcp *s)
{
	uint32_t above = 0;
	const struct tcp_ranges *r = &s->sacked;
	for (uint32_t i = r->count; i-- > 0;) {
		above += r->range[i].end - r->range[i].start;
		if (above > (TCP_DUP_ACKS - 1u) * s->mss || r->count - i >= TCP_DUP_ACKS)
			return r->range[i].start;
	}
	return s->snd_una;
}

/* RFC 6675 SetPipe: bytes that are thought to be in the network. */
uint32_t tcp_pipe(const struct wh_net_tcp *s, uint32_t *ret_lost_edge)
{
	uint32_t outstanding = s->snd_max - s->snd_una, gone, edge = lost_edge(s);
	uint32_t from = tcp_max(s->retransmit_next, s->snd_una);
	if (s->recovery == TCP_RECOVERY && !tcp_before(s->snd_una, edge)) {
		/* By the count of duplicates, or a partial acknowledgement (RFC 6582): what
		 * comes next was sent before that, and is lost. */
		edge = s->snd_una + s->mss;
		if (s->sacked.count && tcp_before(s->sacked.range[0].start, edge))
			edge = s->sacked.range[0].start;
		if (tcp_before(s->snd_max, edge))
			edge = s->snd_max;
	}
	*ret_lost_edge = edge;
	gone = s->sack_ok ? tcp_sacked_bytes(s) : (uint32_t)s->dup_acks * s->mss;
	for (uint32_t i = 0; tcp_before(from, edge) && i <= s->sacked.count; i++) {
		uint32_t hole_end = i < s->sacked.count ? s->sacked.range[i].start : edge;
		if (tcp_before(edge, hole_end))
			hole_end = edge;
		if (tcp_before(from, hole_end))
			gone += hole_end - from;
		if (i < s->sacked.count)
			from = tcp_max(from, s->sacked.range[i].end);
	}
	return gone < outstanding ? outstanding - gone : 0;
}

/* Returns true when something new was learnt. */
static bool sack_input(struct wh_net_tcp *s, const struct wh_wire_tcp *t)
{
	uint32_t before = tcp_sacked_bytes(s);
	for (uint32_t i = 0; i < t->sack_count; i++) {
		uint32_t start = t->sack[i].start, end = t->sack[i].end;
		/* Below the acknowledgement: D-SACK (RFC 2883), no news here. Outside of what
		 * was sent: nonsense. */
		if (!tcp_before(start, end) || tcp_before(start, s->snd_una) ||
		    !tcp_before(t->acknowledgement, start) || tcp_before(s->snd_max, end))
			continue;
		/* Full: forgotten, will be sent again in the worst case. */
		(void)tcp_range_insert(s->sacked.range, &s->sacked.count, TCP_SACKED_MAX, start,
				       end, 0);
	}
	return tcp_sacked_bytes(s) != before;
}

static void enter_recovery(struct wh_net_tcp *s)
{
	s->recovery = TCP_RECOVERY;
	s->recover = s->snd_max;
	s->retransmit_next = s->snd_una;
	s->retransmit_now = true; /* the first one is not held back by the window */
	s->timing = false;
	if (s->net->config.cc)
		s->net->config.cc->lost(&s->cc, s->snd_max - s->snd_una, s->net->now);
}

void tcp_enter_loss(struct wh_net_tcp *s)
{
	const struct wh_net_tcp_cc *cc = s->net->config.cc;
	if (cc && (s->recovery != TCP_LOSS || !tcp_before(s->snd_una, s->recover)))
		cc->timeout(&s->cc, s->snd_max - s->snd_una, s->net->now);
	else if (cc)
		s->cc.cwnd = s->mss;
	s->recovery = TCP_LOSS;
	s->recover = s->snd_max;
	s->snd_nxt = s->snd_una;
	s->dup_acks = 0;
	s->timing = false;
	s->retransmit_now = false;
}

static void closing_acked(struct wh_net_tcp *s)
{
	s->fin_acked = true;
	tcp_event(s, WH_NET_DRAINED);
	if (s->entry.state == WH_NET_TCP_FIN_WAIT1) {
		s->entry.state = WH_NET_TCP_FIN_WAIT2;
		if (!s->held)
			tcp_timer_set(s, TCP_TIMER_CLOSE, s->net->now + TCP_FIN_WAIT2_NS);
	} else if (s->entry.state == WH_NET_TCP_CLOSING) {
		tcp_time_wait_enter(s);
		tcp_ended(s, 0);
	} else if (s->entry.state == WH_NET_TCP_LAST_ACK) {
		tcp_ended(s, 0);
	}
}

static void rtt_from_ack(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	if (s->timing && tcp_before(s->timed_sequence, seg->t.acknowledgement)) {
		s->timing = false;
		tcp_rtt_sample(s, s->net->now - s->timed_at);
	} else if (!s->timing && s->timestamps_ok && seg->t.has_timestamp && s->tries) {
		/* After a time-out only the echo tells which copy arrived (RFC 7323, 4.1). */
		uint32_t ms = tcp_clock_ms(s) - seg->t.timestamp_echo;
		if (ms < 120000)
			tcp_rtt_sample(s, (uint64_t)ms * NET_MS);
	}
}

/* The acknowledgement moves on. Returns the stream bytes that it covers. */
static uint32_t advance(struct wh_net_tcp *s, uint32_t ack)
{
	uint32_t data_end = s->tx_sequence + s->tx.used;
	uint32_t upto = tcp_before(data_end, ack) ? data_end : ack;
	uint32_t bytes = tcp_before(s->tx_sequence, upto) ? upto - s->tx_sequence : 0;
	s->syn_acked = true;
	s->snd_una = ack;
	if (tcp_before(s->snd_nxt, ack))
		s->snd_nxt = ack;
	if (bytes) {
		tcp_ring_skip(&s->tx, bytes);
		s->tx_sequence += bytes;
		s->bytes_acked += bytes;
	}
	tcp_range_cut(s->sacked.range, &s->sacked.count, ack);
	return bytes;
}

static void new_ack(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	const struct wh_net_tcp_cc *cc = s->net->config.cc;
	uint32_t ack = seg->t.acknowledgement, flight = s->snd_max - s->snd_una;
	rtt_from_ack(s, seg);
	uint32_t bytes = advance(s, ack);
	s->tries = 0;
	s->progress_at = s->net->now;
	if (s->recovery != TCP_OPEN && !tcp_before(ack, s->recover)) {
		s->recovery = TCP_OPEN;
		s->dup_acks = 0;
		s->retransmit_now = false;
	} else if (s->recovery == TCP_RECOVERY) {
		if (!s->sack_ok) { /* RFC 6582 3.2 step 3: partial acknowledgement */
			s->retransmit_next = ack;
			s->retransmit_now = true;
			s->dup_acks = 0;
		}
	} else {
		s->dup_acks = 0;
	}
	if (cc && s->recovery != TCP_RECOVERY && bytes)
		cc->acked(&s->cc, bytes, s->net->now, s->srtt, flight + s->mss > s->cc.cwnd);
	if (ack == s->snd_max)
		tcp_timer_clear(s, TCP_TIMER_RETRANSMIT);
	else
		tcp_timer_set(s, TCP_TIMER_RETRANSMIT, s->net->now + s->rto);
	if (s->want_write && s->tx.size - s->tx.used >= s->tx.size / 4) {
		s->want_write = false;
		tcp_event(s, WH_NET_WRITABLE);
	}
	if (s->fin_sent && !s->fin_acked && ack == s->tx_sequence + s->tx.used + 1)
		closing_acked(s);
}

static void duplicate_ack(struct wh_net_tcp *s)
{
	uint32_t edge;
	if (s->dup_acks < 255)
		s->dup_acks++;
	if (s->recovery != TCP_OPEN)
		return;
	/* RFC 6582 3.2 step 1: not for what was sent again after the last time. */
	if (!s->sack_ok && s->recover && !tcp_before(s->recover, s->snd_una))
		return;
	(void)tcp_pipe(s, &edge); /* only the edge */
	if (s->dup_acks >= TCP_DUP_ACKS || tcp_before(s->snd_una, edge))
		enter_recovery(s);
}

static bool window_update(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	const struct wh_wire_tcp *t = &seg->t;
	uint32_t window = (uint32_t)t->window << s->snd_scale;
	if (!tcp_before(s->snd_wl1, t->sequence) &&
	    (s->snd_wl1 != t->sequence || tcp_before(t->acknowledgement, s->snd_wl2)))
		return false;
	bool changed = window != s->snd_wnd;
	s->snd_wnd = window;
	s->snd_wl1 = t->sequence;
	s->snd_wl2 = t->acknowledgement;
	if (window > s->snd_wnd_max)
		s->snd_wnd_max = window;
	if (window) {
		tcp_timer_clear(s, TCP_TIMER_PERSIST);
		s->persist_tries = 0;
	}
	return changed;
}

bool tcp_ack_input(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	uint32_t ack = seg->t.acknowledgement;
	if (tcp_before(s->snd_max, ack) || tcp_before(ack, s->snd_una - s->snd_wnd_max)) {
		tcp_challenge(s); /* RFC 5961, 5.2 */
		return false;
	}
	bool news = s->sack_ok && seg->t.sack_count && sack_input(s, &seg->t);
	bool window_changed = window_update(s, seg);
	if (tcp_before(s->snd_una, ack)) {
		new_ack(s, seg);
		if (s->dead || s->entry.state == WH_NET_TCP_CLOSED)
			return false;
		if (news && s->recovery == TCP_OPEN)
			duplicate_ack(s);
	} else if (ack == s->snd_una && s->snd_una != s->snd_max && !seg->size && !seg->fin &&
		   (s->sack_ok ? news : !window_changed)) {
		duplicate_ack(s);
	}
	tcp_work(s, TCP_WORK_OUTPUT);
	return true;
}
