/* SPDX-License-Identifier: ISC */
/*
 * Acknowledgements: what they say about the round trip, the window, the scoreboard and ECN. What
 * follows from it for lost segments is in tcp_loss.c.
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
		s->srtt += (rtt >> 3) - (s->srtt >> 3);
		if (!s->srtt)
			s->srtt = 1;
	}
	uint64_t rto = s->srtt + (4 * s->rttvar > NET_MS ? 4 * s->rttvar : NET_MS);
	s->rto = rto < TCP_RTO_MIN_NS   ? TCP_RTO_MIN_NS
		 : rto > TCP_RTO_MAX_NS ? TCP_RTO_MAX_NS
					: rto;
}

/* The least round trip of the last seconds, which RACK measures disorder by. */
static void least_rtt(struct wh_net_tcp *s, uint64_t rtt)
{
	uint32_t us = rtt / 1000 > INT32_MAX ? INT32_MAX : (uint32_t)(rtt / 1000);
	if (s->min_rtt_at && us > s->min_rtt_us && s->net->now - s->min_rtt_at < TCP_MIN_RTT_NS)
		return;
	s->min_rtt_us = us;
	s->min_rtt_at = s->net->now;
}

/* The handshake's. */
void tcp_rtt_first(struct wh_net_tcp *s, uint64_t rtt)
{
	tcp_rtt_sample(s, rtt);
	least_rtt(s, rtt);
}

/* A measured round trip: of a segment that was sent once (Karn), or by the echoed timestamp
 * (RFC 7323, 4.1). Only that ends the timer's backing off (RFC 6298, 5.7). */
static void rtt_from_ack(struct wh_net_tcp *s, const struct tcp_segment *seg,
			 const struct tcp_delivery *d)
{
	uint64_t rtt;
	if (d->has_rtt) {
		rtt = (uint64_t)d->rtt_us * 1000;
		least_rtt(s, rtt);
	} else if (s->timestamps_ok && seg->t.has_timestamp && d->bytes) {
		uint32_t ms = tcp_clock_ms(s) - seg->t.timestamp_echo;
		if (ms >= 120000)
			return;
		rtt = (uint64_t)ms * NET_MS;
	} else {
		return;
	}
	tcp_rtt_sample(s, rtt);
	s->backoff = 0;
}

/* ---- SACK ---- */

/* RFC 2883, 4: the first block is below the acknowledgement, or inside the second. */
static bool dsack_find(const struct wh_net_tcp *s, const struct wh_wire_tcp *t,
		       struct tcp_range *ret)
{
	uint32_t start = t->sack[0].start, end = t->sack[0].end;
	bool below = !tcp_before(t->acknowledgement, end);
	bool inside = t->sack_count > 1 && !tcp_before(start, t->sack[1].start) &&
		      !tcp_before(t->sack[1].end, end);
	/* One that is older than a window is an old segment's, or forged. */
	if (!tcp_before(start, end) || (!below && !inside) || tcp_before(s->snd_nxt, end) ||
	    tcp_before(start, s->snd_una - s->snd_wnd_max))
		return false;
	*ret = (struct tcp_range){ start, end };
	return true;
}

static bool block_plausible(const struct wh_net_tcp *s, const struct wh_wire_tcp *t, uint32_t i)
{
	uint32_t start = t->sack[i].start, end = t->sack[i].end;
	return tcp_before(start, end) && !tcp_before(start, s->snd_una) &&
	       tcp_before(t->acknowledgement, start) && !tcp_before(s->snd_nxt, end);
}

/* In ascending order, which RFC 8985 6.2 step 3 needs. */
static void sack_input(struct wh_net_tcp *s, const struct wh_wire_tcp *t, struct tcp_delivery *d)
{
	uint32_t order[WH_WIRE_TCP_SACKS_MAX], count = 0;
	uint32_t first = d->dsack ? 1 : 0;
	for (uint32_t i = first; i < t->sack_count; i++) {
		if (!block_plausible(s, t, i))
			continue;
		uint32_t at = count++;
		for (; at && tcp_before(t->sack[i].start, t->sack[order[at - 1]].start); at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
	for (uint32_t k = 0; k < count; k++)
		tcp_sent_sack(s, t->sack[order[k]].start, t->sack[order[k]].end, d);
}

/* RFC 3168, 6.1.2: the network is congested though nothing was lost; once per window. */
static void ecn_input(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	if (!s->ecn_ok || !(seg->t.flags & WH_WIRE_TCP_ECE) || s->recovery != TCP_OPEN ||
	    tcp_before(seg->t.acknowledgement, s->ecn_recover))
		return;
	s->ecn_recover = s->snd_nxt;
	s->ecn_cwr = true;
	s->net->stats.tcp_ecn_reduced++;
	if (s->net->config.cc)
		s->net->config.cc->lost(&s->cc, s->snd_nxt - s->snd_una, s->net->now);
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

/* The acknowledgement moves on. Returns the stream bytes that it covers. */
static uint32_t advance(struct wh_net_tcp *s, uint32_t ack)
{
	uint32_t data_end = s->tx_sequence + s->tx.used;
	uint32_t upto = tcp_before(data_end, ack) ? data_end : ack;
	uint32_t bytes = tcp_before(s->tx_sequence, upto) ? upto - s->tx_sequence : 0;
	s->syn_acked = true;
	s->snd_una = ack;
	if (bytes) {
		tcp_ring_skip(&s->tx, bytes);
		s->tx_sequence += bytes;
		s->bytes_acked += bytes;
	}
	return bytes;
}

/* The congestion window grows by what arrives outside of recovery. */
static void grow(struct wh_net_tcp *s, uint32_t bytes, const struct tcp_delivery *d,
		 bool recovering)
{
	const struct wh_net_tcp_cc *cc = s->net->config.cc;
	uint32_t flight = s->snd_nxt - s->snd_una + bytes;
	bool round = !tcp_before(s->snd_una, s->round_end);
	if (round) {
		s->round_end = s->snd_nxt;
		if (s->mss_lowered) /* RFC 1191, 6.3: until what was learnt has expired */
			tcp_set_mss(s);
	}
	if (!cc || !bytes || recovering)
		return;
	struct wh_net_cc_ack a = { .bytes = bytes,
				   .now = s->net->now,
				   .rtt_ns = d->has_rtt ? (uint64_t)d->rtt_us * 1000 : 0,
				   .srtt_ns = s->srtt,
				   .limited = flight + s->mss > s->cc.cwnd,
				   .round = round };
	cc->acked(&s->cc, &a);
}

static void new_ack(struct wh_net_tcp *s, uint32_t bytes, const struct tcp_delivery *d,
		    bool recovering)
{
	s->tries = 0;
	s->soft_error = 0;
	tcp_mtu_acked(s);
	s->progress_at = s->net->now;
	grow(s, bytes, d, recovering);
	if (s->snd_una == s->snd_nxt) {
		tcp_timer_clear(s, TCP_TIMER_RETRANSMIT);
		tcp_timer_clear(s, TCP_TIMER_PROBE);
		tcp_timer_clear(s, TCP_TIMER_REORDER);
	} else {
		tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
		tcp_probe_arm(s);
	}
	if (s->want_write && s->tx.size - s->tx.used >= s->tx.size / 4) {
		s->want_write = false;
		tcp_event(s, WH_NET_WRITABLE);
	}
	if (s->fin_sent && !s->fin_acked && s->snd_una == s->tx_sequence + s->tx.used + 1)
		closing_acked(s);
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
	uint32_t ack = seg->t.acknowledgement, before = s->snd_una, bytes = 0;
	struct tcp_delivery d = { 0 };
	bool recovering = s->recovery == TCP_RECOVERY;
	if (tcp_before(s->snd_nxt, ack) || tcp_before(ack, s->snd_una - s->snd_wnd_max)) {
		tcp_challenge(s); /* RFC 5961, 5.2 */
		return false;
	}
	bool sack = s->sack_ok && seg->t.sack_count;
	if (sack)
		d.dsack = dsack_find(s, &seg->t, &d.dsack_range);
	bool window_changed = window_update(s, seg);
	ecn_input(s, seg);
	if (tcp_before(s->snd_una, ack)) {
		tcp_sent_ack(s, ack, &d);
		bytes = advance(s, ack);
	}
	if (sack)
		sack_input(s, &seg->t, &d);
	if (d.bytes)
		rtt_from_ack(s, seg, &d);
	if (!s->sack_ok && ack == before && ack == s->snd_una && s->snd_una != s->snd_nxt &&
	    !seg->size && !seg->fin && !window_changed)
		tcp_duplicate_ack(s);
	if (d.bytes || d.dsack || s->probe_out || s->recovery != TCP_OPEN || s->dup_acks)
		tcp_loss_ack(s, seg, before, &d);
	if (ack != before && ack == s->snd_una) {
		new_ack(s, bytes, &d, recovering);
		if (s->dead || s->entry.state == WH_NET_TCP_CLOSED)
			return false;
	}
	tcp_work(s, TCP_WORK_OUTPUT);
	return true;
}
