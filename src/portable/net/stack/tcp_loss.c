/* SPDX-License-Identifier: ISC */
/*
 * Finding out what was lost, and what to do then.
 *
 * Losses are found by time (RACK, RFC 8985): a segment is lost when one that was sent
 * later has arrived and enough time has passed since for it to be only late. "Enough" is nothing
 * once three segments' worth has passed it, as RFC 6675 has it, unless this path has been
 * seen to reorder. That finds lost retransmissions too. The last segments of a flight have none
 * after them, so a probe (TLP) is sent when acknowledgements fail to come. A peer
 * without SACK is treated by RFC 6582: three duplicates, then one segment per partial acknowledgement.
 *
 * States. OPEN: all is well. RECOVERY: losses were found; what is lost is sent again at the
 * pace of RFC 6937 until everything that was outstanding at the start (`recover`) is
 * acknowledged. LOSS: the timer ran out; everything the peer is not known to have counts as lost,
 * one segment goes out, and unless F-RTO (RFC 5682) finds that nothing was lost, the rest follows in
 * slow start.
 *
 * Undoing. A time-out or recovery that was needless (RFC 5682; RFC 3522: the acknowledgement echoes a
 * time before the retransmission; RFC 3708: all that was sent again arrived twice) gives
 * the congestion window back, and with D-SACK more patience with disorder.
 *
 * A link that loses nothing (config.lossless, or no congestion control) uses neither
 * the probe nor the reordering timer.
 */
#include "tcp_priv.h"

static const struct wh_net_tcp_cc *control(const struct wh_net_tcp *s)
{
	return s->net->config.cc;
}

/* RFC 6675 SetPipe: bytes that are thought to be in the network. Without SACK each
 * duplicate acknowledgement stands for a segment that has left it. */
uint32_t tcp_pipe(const struct wh_net_tcp *s)
{
	uint32_t flight = s->snd_nxt - s->snd_una, gone = s->sacked_bytes + s->lost_bytes;
	if (!s->sack_ok)
		gone += (uint32_t)s->dup_acks * s->mss;
	return gone < flight ? flight - gone : 0;
}

/* RFC 6937: sends in proportion to what arrives, so that the window shrinks
 * without a pause, and never in a burst. */
static uint32_t recovery_room(const struct wh_net_tcp *s)
{
	uint32_t pipe = tcp_pipe(s), goal = s->cc.ssthresh;
	if (!s->sack_ok)
		return pipe < s->cc.cwnd ? s->cc.cwnd - pipe : 0;
	if (pipe > goal) {
		uint64_t flight = s->prr_flight ? s->prr_flight : 1;
		uint64_t due = ((uint64_t)s->prr_delivered * goal + flight - 1) / flight;
		return due > s->prr_out ? (uint32_t)(due - s->prr_out) : 0;
	}
	uint32_t limit = s->prr_delivered > s->prr_out ? s->prr_delivered - s->prr_out : 0;
	limit += s->mss;
	return goal - pipe < limit ? goal - pipe : limit;
}

uint32_t tcp_congestion_room(const struct wh_net_tcp *s)
{
	if (!control(s))
		return UINT32_MAX;
	if (s->recovery == TCP_RECOVERY)
		return recovery_room(s);
	uint32_t pipe = tcp_pipe(s);
	return pipe < s->cc.cwnd ? s->cc.cwnd - pipe : 0;
}

/* ---- States ---- */

static void episode_begin(struct wh_net_tcp *s)
{
	if (s->recovery == TCP_OPEN)
		s->cc_before = s->cc;
	s->recover = s->snd_nxt;
	s->undo_armed = true;
	s->undo_bytes = 0;
	s->undo_end = s->snd_nxt;
	s->again_ts = 0;
	s->retransmit_now = true; /* the first one is not held back by the window */
	s->probe_out = false;
	tcp_timer_clear(s, TCP_TIMER_PROBE);
}

static void enter_recovery(struct wh_net_tcp *s, bool congested)
{
	episode_begin(s);
	s->recovery = TCP_RECOVERY;
	s->prr_delivered = s->prr_out = 0;
	s->prr_flight = s->snd_nxt - s->snd_una;
	s->net->stats.tcp_recoveries++;
	if (control(s) && congested)
		control(s)->lost(&s->cc, s->snd_nxt - s->snd_una, s->net->now);
}

void tcp_enter_loss(struct wh_net_tcp *s)
{
	bool first = s->recovery != TCP_LOSS || !tcp_before(s->snd_una, s->recover);
	/* RFC 2018, 8: a peer may take back what it said it had. The first byte is never SACKed
	 * by one that keeps its word; a second time-out is no time to trust. */
	bool reneged = s->sent_count && (s->tries || (s->sent[0].flags & TCP_SACKED));
	uint32_t flight = s->snd_nxt - s->snd_una;
	if (reneged && s->sacked_bytes)
		s->net->stats.tcp_reneged++;
	episode_begin(s);
	tcp_mtu_forget(s);
	tcp_timer_clear(s, TCP_TIMER_REORDER);
	if (control(s) && first)
		control(s)->timeout(&s->cc, flight, s->net->now);
	else if (control(s))
		s->cc.cwnd = s->mss;
	s->recovery = TCP_LOSS;
	s->dup_acks = 0;
	s->frto = first && s->sack_ok;
	tcp_sent_lost_all(s, reneged);
}

static void recovered(struct wh_net_tcp *s)
{
	s->recovery = TCP_OPEN;
	s->dup_acks = 0;
	s->frto = 0;
	s->retransmit_now = false;
	s->undo_end = s->snd_nxt; /* D-SACKs of the last repeats are still to come */
	if (s->reorder_persist && !--s->reorder_persist)
		s->reorder_steps = 0;
}

static void undo(struct wh_net_tcp *s)
{
	const struct wh_net_cc_state *b = &s->cc_before;
	s->net->stats.tcp_undone++;
	s->undo_armed = false;
	if (control(s)) {
		memcpy(s->cc.private_, b->private_, sizeof s->cc.private_);
		s->cc.cwnd = s->cc.cwnd > b->cwnd ? s->cc.cwnd : b->cwnd;
		s->cc.ssthresh = s->cc.ssthresh > b->ssthresh ? s->cc.ssthresh : b->ssthresh;
	}
	tcp_sent_found(s);
	if (s->recovery != TCP_OPEN)
		recovered(s);
}

/* ---- RACK ---- */

/* RFC 6675's DupThresh, in bytes and in blocks. */
static bool many_passed(const struct wh_net_tcp *s)
{
	uint32_t blocks = 0;
	for (uint32_t i = 0; i < s->sent_count; i++)
		blocks += s->sent[i].flags == TCP_SACKED;
	return s->sacked_bytes > (TCP_DUP_ACKS - 1u) * s->mss || blocks >= TCP_DUP_ACKS;
}

/* RFC 8985, 6.2 step 4, in us. */
static uint32_t reordering_window(const struct wh_net_tcp *s)
{
	if (!s->reordering && (s->recovery != TCP_OPEN || many_passed(s)))
		return 0;
	if (!control(s)) /* no timer there: three must have passed */
		return s->recovery == TCP_OPEN && !many_passed(s) ? INT32_MAX : 0;
	uint64_t window = (uint64_t)(s->reorder_steps + 1u) * s->min_rtt_us / 4;
	if (window > s->srtt / 1000)
		window = s->srtt / 1000;
	return window < TCP_REORDER_MIN_US ? TCP_REORDER_MIN_US : (uint32_t)window;
}

/* Marks what must be lost by now; sets the timer for what may be soon. */
void tcp_rack_detect(struct wh_net_tcp *s)
{
	uint32_t window, now = tcp_now_us(s);
	int32_t wait = 0;
	if (!s->sack_ok || !s->rack_valid || (!s->sacked_bytes && s->recovery == TCP_OPEN))
		return;
	window = reordering_window(s);
	for (uint32_t i = 0; i < s->sent_count; i++) {
		const struct tcp_sent *r = &s->sent[i];
		int32_t earlier = (int32_t)(s->rack_sent_us - r->sent_us);
		if ((r->flags & (TCP_SACKED | TCP_LOST)) || earlier < 0 ||
		    (!earlier && !tcp_before(r->end, s->rack_end)))
			continue;
		int64_t left = (int64_t)s->rack_rtt_us + window - (int32_t)(now - r->sent_us);
		if (left <= 0)
			tcp_sent_lost(s, tcp_sent_start(s, i), r->end);
		else if (left > wait)
			wait = left > INT32_MAX ? INT32_MAX : (int32_t)left;
	}
	if (wait && control(s))
		tcp_timer_set(s, TCP_TIMER_REORDER, s->net->now + (uint64_t)wait * 1000);
	else
		tcp_timer_clear(s, TCP_TIMER_REORDER);
	if (s->lost_bytes && s->recovery == TCP_OPEN)
		enter_recovery(s, !tcp_mtu_lost(s));
}

/* RFC 8985, 6.2 step 4: a needless repeat means that more patience is due, once a round. */
static void more_patience(struct wh_net_tcp *s)
{
	if (s->dsack_seen && tcp_before(s->snd_una, s->dsack_round))
		return;
	s->dsack_seen = true;
	s->dsack_round = s->snd_nxt;
	if (s->reorder_steps < TCP_REORDER_STEPS_MAX)
		s->reorder_steps++;
	s->reorder_persist = TCP_REORDER_PERSIST;
}

/* ---- Tail loss probe, RFC 8985, 7 ---- */

void tcp_probe_arm(struct wh_net_tcp *s)
{
	if (!control(s) || s->net->config.lossless || !s->sack_ok || s->recovery != TCP_OPEN ||
	    s->sacked_bytes || s->probe_out || s->snd_una == s->snd_nxt || s->tries)
		return;
	uint64_t wait = s->srtt ? 2 * s->srtt : TCP_RTO_FIRST_NS;
	if (s->snd_nxt - s->snd_una <= s->mss)
		wait += TCP_PROBE_DELAY_NS; /* the peer may delay the acknowledgement of one */
	if (wait < TCP_PROBE_MIN_NS)
		wait = TCP_PROBE_MIN_NS;
	uint64_t at = s->net->now + wait;
	if (at > s->deadline[TCP_TIMER_RETRANSMIT])
		at = s->deadline[TCP_TIMER_RETRANSMIT];
	tcp_timer_set(s, TCP_TIMER_PROBE, at);
}

void tcp_probe_send(struct wh_net_tcp *s)
{
	if (s->recovery != TCP_OPEN || s->lost_bytes || s->probe_out || s->snd_una == s->snd_nxt ||
	    !s->tx.base)
		return;
	s->probe_again = !tcp_send_new(s, s->mss);
	if (s->probe_again) {
		uint32_t size = s->snd_nxt - s->snd_una, fin = s->fin_sent && size;
		if (size > s->mss + fin)
			size = s->mss + fin;
		if (tcp_send_again(s, s->snd_nxt - size, size - fin))
			return; /* the link is full, so nobody was idle */
	}
	s->net->stats.tcp_probes++;
	s->probe_out = true;
	s->probe_end = s->snd_nxt;
	tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
}

/* RFC 8985, 7.4.2: was the probe the repair of a loss? Then the network was congested. */
static void probe_judge(struct wh_net_tcp *s, const struct tcp_segment *seg, bool advanced,
			const struct tcp_delivery *d)
{
	uint32_t ack = seg->t.acknowledgement;
	if (!s->probe_out || tcp_before(ack, s->probe_end))
		return;
	bool twice = d->dsack && !tcp_before(d->dsack_range.end, s->probe_end);
	bool duplicate = !advanced && !seg->size && !seg->t.sack_count;
	if (!s->probe_again || twice || duplicate) {
		s->probe_out = false;
	} else if (tcp_before(s->probe_end, ack)) {
		s->probe_out = false;
		if (control(s))
			control(s)->lost(&s->cc, s->snd_nxt - s->snd_una, s->net->now);
	}
}

/* ---- Acknowledgements ---- */

/* Was the last repeat for nothing? */
static bool needless(struct wh_net_tcp *s, const struct tcp_segment *seg, bool advanced,
		     const struct tcp_delivery *d)
{
	if (!s->undo_armed)
		return false;
	if (s->recovery == TCP_LOSS && s->frto && d->original)
		return true; /* RFC 5682, 3 (3b): one that was sent once before the time-out came */
	if (s->recovery != TCP_OPEN && advanced && s->again_ts && s->timestamps_ok &&
	    seg->t.has_timestamp && tcp_before(seg->t.timestamp_echo, s->again_ts))
		return true;
	if (d->dsack && s->undo_bytes) {
		uint32_t size = d->dsack_range.end - d->dsack_range.start;
		s->undo_bytes -= size < s->undo_bytes ? size : s->undo_bytes;
		return !s->undo_bytes;
	}
	return false;
}

static void frto_step(struct wh_net_tcp *s, bool advanced, const struct tcp_delivery *d)
{
	uint32_t data_end = s->tx_sequence + s->tx.used;
	if (s->frto == 1 && advanced && tcp_before(s->snd_nxt, data_end))
		s->frto = 2; /* (2b): two new segments and wait what comes */
	else if (advanced || d->bytes || s->dup_acks)
		s->frto = 0; /* (3a), or nothing new to try it with */
}

/* RFC 6582 without SACK: the next hole is what follows a partial acknowledgement. */
static void partial_ack(struct wh_net_tcp *s)
{
	if (s->sack_ok)
		return;
	s->dup_acks = 0;
	tcp_sent_lost(s, s->snd_una, s->snd_una + s->mss);
	s->retransmit_now = true;
}

void tcp_loss_ack(struct wh_net_tcp *s, const struct tcp_segment *seg, uint32_t before,
		  const struct tcp_delivery *d)
{
	bool advanced = s->snd_una != before;
	probe_judge(s, seg, advanced, d);
	if (d->dsack)
		more_patience(s);
	if (needless(s, seg, advanced, d))
		undo(s);
	if (s->undo_armed && s->recovery == TCP_OPEN && tcp_before(s->undo_end, s->snd_una))
		s->undo_armed = false;
	if (s->recovery != TCP_OPEN && !tcp_before(s->snd_una, s->recover))
		recovered(s);
	else if (s->recovery == TCP_RECOVERY && advanced)
		partial_ack(s);
	else if (s->recovery == TCP_LOSS && s->frto)
		frto_step(s, advanced, d);
	else if (advanced && s->recovery == TCP_OPEN)
		s->dup_acks = 0;
	tcp_rack_detect(s);
	s->prr_delivered += d->bytes; /* the acknowledgement that began it counts (RFC 6937, 3) */
}

/* For peers without SACK. */
void tcp_duplicate_ack(struct wh_net_tcp *s)
{
	if (s->dup_acks < 255)
		s->dup_acks++;
	/* RFC 6582 3.2 step 1: not for what was sent again after the last time. */
	if (s->recovery != TCP_OPEN || s->sack_ok ||
	    (s->undo_armed && !tcp_before(s->recover, s->snd_una)))
		return;
	if (s->dup_acks < TCP_DUP_ACKS)
		return;
	enter_recovery(s, true);
	tcp_sent_lost(s, s->snd_una, s->snd_una + s->mss);
}
