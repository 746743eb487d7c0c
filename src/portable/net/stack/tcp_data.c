/* SPDX-License-Identifier: ISC */
/* Payload goes into the receive ring, where it belongs, in order or not; FIN. */
#include "tcp_priv.h"

static uint32_t right_edge(const struct wh_net_tcp *s)
{
	return s->rx_sequence + s->rx.size;
}

/* Cuts what was received before and what does not fit. false = nothing is left. */
static bool trim(struct wh_net_tcp *s, struct tcp_segment *seg)
{
	uint32_t edge = right_edge(s);
	if (s->fin_seen && tcp_before(s->fin_sequence, edge))
		edge = s->fin_sequence;
	if (tcp_before(seg->sequence, s->rcv_nxt)) {
		uint32_t cut = s->rcv_nxt - seg->sequence;
		if (s->sack_ok && seg->size) {
			s->dsack.start = seg->sequence;
			s->dsack.end = cut < seg->size ? s->rcv_nxt : seg->sequence + seg->size;
			s->dsack_pending = true;
		}
		if (cut > seg->size)
			return false;
		seg->sequence += cut;
		seg->offset += cut;
		seg->size -= cut;
	}
	if (tcp_before(edge, seg->sequence))
		return false;
	if (seg->size > edge - seg->sequence) {
		seg->size = edge - seg->sequence;
		seg->fin = false;
		tcp_work(s, TCP_WORK_ACK); /* says where the window ends */
	}
	return true;
}

static void copy_in(struct wh_net_tcp *s, const struct tcp_segment *seg, uint32_t skip)
{
	struct wh_iov iov[2];
	uint32_t at = seg->sequence + skip - s->rx_sequence, size = seg->size - skip;
	uint32_t from = seg->offset + skip;
	tcp_ring_slice(&s->rx, at, size, iov);
	for (int i = 0; i < 2 && iov[i].size; i++) {
		size_t n =
			wh_iov_read(seg->p->iov, seg->p->iov_count, from, iov[i].base, iov[i].size);
		wh_assert(n == iov[i].size);
		from += (uint32_t)n;
	}
}

/* Offers the bytes to the application where they are. Returns how many it took. */
static uint32_t offer(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	struct wh_iov iov[WH_NET_FRAME_IOV_MAX];
	if (!s->ops || !s->ops->data || !s->held || s->rx.used || s->ooo_count)
		return 0;
	int count = wh_iov_slice(seg->p->iov, seg->p->iov_count, seg->offset, seg->size, iov,
				 WH_ARRAY_COUNT(iov));
	if (count <= 0)
		return 0;
	uint32_t taken = s->ops->data(s, iov, (uint32_t)count, seg->size);
	wh_assert(taken <= seg->size);
	return taken;
}

static void in_order(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	uint32_t taken = offer(s, seg);
	if (s->dead)
		return;
	if (taken < seg->size)
		copy_in(s, seg, taken);
	/* What was taken never enters the ring: its place moves on. */
	s->rx.head = (s->rx.head + taken) & (s->rx.size - 1);
	s->rx_sequence += taken;
	s->rx.used += seg->size - taken;
	s->rcv_nxt += seg->size;
	s->unacked += seg->size;
	s->grow_received += seg->size;
	s->bytes_received += seg->size;
	if (s->ooo_count && !tcp_before(s->rcv_nxt, s->ooo[0].start)) {
		uint32_t more =
			tcp_before(s->rcv_nxt, s->ooo[0].end) ? s->ooo[0].end - s->rcv_nxt : 0;
		s->rx.used += more;
		s->rcv_nxt += more;
		s->bytes_received += more;
		tcp_range_cut(s->ooo, &s->ooo_count, s->rcv_nxt);
		s->ooo_last = 0;
		tcp_work(s, TCP_WORK_ACK); /* RFC 5681, 4.2 */
	}
	if (s->rx.used)
		tcp_event(s, WH_NET_READABLE);
	if (taken)
		tcp_window_opened(s);
	/* RFC 9293 3.8.6.3: at least every second full segment at once. */
	if (s->unacked >= 2u * s->mss_receive || s->ooo_count)
		tcp_work(s, TCP_WORK_ACK);
	else if (s->deadline[TCP_TIMER_ACK] == WH_NET_NEVER)
		tcp_timer_set(s, TCP_TIMER_ACK, s->net->now + s->net->config.delayed_ack_ns);
}

static void out_of_order(struct wh_net_tcp *s, const struct tcp_segment *seg)
{
	uint32_t end = seg->sequence + seg->size;
	s->out_of_order++;
	s->net->stats.tcp_out_of_order++;
	tcp_work(s, TCP_WORK_ACK); /* a duplicate, with SACK */
	/* Bytes that are there already keep their place and value. */
	for (uint32_t i = 0; i < s->ooo_count; i++) {
		if (!tcp_before(seg->sequence, s->ooo[i].start) &&
		    !tcp_before(s->ooo[i].end, end)) {
			s->dsack = (struct tcp_range){ seg->sequence, end };
			s->dsack_pending = s->sack_ok;
			s->ooo_last = i; /* RFC 2883, 4.1.3: the one around it is told next */
			return;
		}
	}
	if (!tcp_range_insert(s->ooo, &s->ooo_count, TCP_OOO_MAX, seg->sequence, end,
			      &s->ooo_last)) {
		s->net->stats.tcp_out_of_order_dropped++;
		return; /* not acknowledged in any way, so not accepted */
	}
	copy_in(s, seg, 0);
}

static void fin_input(struct wh_net_tcp *s)
{
	s->fin_received = true;
	s->rcv_nxt++;
	tcp_work(s, TCP_WORK_ACK);
	tcp_event(s, WH_NET_PEER_CLOSED | WH_NET_READABLE);
	switch (s->entry.state) {
	case WH_NET_TCP_ESTABLISHED:
		s->entry.state = WH_NET_TCP_CLOSE_WAIT;
		break;
	case WH_NET_TCP_FIN_WAIT1:
		s->entry.state = WH_NET_TCP_CLOSING;
		break;
	case WH_NET_TCP_FIN_WAIT2:
		/* A lost one is asked for by the FIN's retransmission. */
		(void)tcp_send_ack(s);
		tcp_time_wait_enter(s);
		tcp_ended(s, 0);
		break;
	}
}

void tcp_data_input(struct wh_net_tcp *s, struct tcp_segment *seg)
{
	uint8_t state = s->entry.state;
	if (state != WH_NET_TCP_ESTABLISHED && state != WH_NET_TCP_FIN_WAIT1 &&
	    state != WH_NET_TCP_FIN_WAIT2) {
		if (seg->size || seg->fin)
			tcp_work(s, TCP_WORK_ACK);
		return;
	}
	if (!seg->size && !seg->fin)
		return;
	if (!trim(s, seg)) {
		tcp_work(s, TCP_WORK_ACK);
		return;
	}
	/* RFC 1122 4.2.2.13: nobody will ever read it. */
	if (seg->size && !s->held && !s->listener) {
		(void)tcp_send_reset(s); /* lost: the next segment is answered the same way */
		tcp_ended(s, WH_ECONNRESET);
		return;
	}
	if (seg->fin) {
		s->fin_seen = true;
		s->fin_sequence = seg->sequence + seg->size;
	}
	if (seg->size && seg->sequence == s->rcv_nxt)
		in_order(s, seg);
	else if (seg->size)
		out_of_order(s, seg);
	if (s->dead)
		return;
	if (s->fin_seen && !s->fin_received) {
		if (s->rcv_nxt == s->fin_sequence)
			fin_input(s);
		else
			tcp_work(s, TCP_WORK_ACK);
	}
}
