/* SPDX-License-Identifier: ISC */
/*
 * What to send, and the segment itself.
 *
 * Nagle's algorithm in Minshall's form: a segment below the MSS waits only while
 * another one below the MSS is not acknowledged, so that a large write's tail
 * never waits for the large part. Delayed acknowledgements: every second full segment
 * at once, else after config.delayed_ack_ns or with the next data.
 */
#include "tcp_priv.h"

#define ECN_MASK 3u /* RFC 3168, 5: the two low bits of the traffic class */
#define ECN_CAPABLE 2u

uint64_t tcp_rto_deadline(const struct wh_net_tcp *s)
{
	uint64_t wait = s->rto << (s->backoff > 10 ? 10 : s->backoff);
	uint64_t at = s->net->now + (wait > TCP_RTO_MAX_NS ? TCP_RTO_MAX_NS : wait);
	uint64_t last = s->progress_at + (uint64_t)s->user_timeout_ms * NET_MS;
	/* RFC 5482: not later than the application is told. */
	return s->user_timeout_ms && last > s->net->now && last < at ? last : at;
}

uint32_t tcp_window_field(struct wh_net_tcp *s)
{
	uint32_t edge = s->rx_sequence + tcp_receive_room(s) + (s->rx.base ? s->rx.used : 0);
	uint32_t gain = edge - s->rcv_advertised, size = s->rx.base ? s->rx.size : edge;
	uint32_t step = size / 2 < s->mss_receive ? size / 2 : s->mss_receive;
	/* RFC 9293 3.8.6.2.2: the edge moves by useful steps only. */
	if (s->rx.base && gain < step && !tcp_before(s->rcv_advertised, s->rcv_nxt))
		edge = s->rcv_advertised;
	uint32_t window = tcp_before(s->rcv_nxt, edge) ? edge - s->rcv_nxt : 0;
	uint32_t field = window >> s->rcv_scale;
	return field > 65535 ? 65535 : field;
}

int tcp_send_bare(struct wh_net *net, const struct wh_net_tuple *tuple, const struct wh_wire_tcp *t,
		  const uint8_t *mac, uint8_t tos)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_TCP_SIZE_MAX], *head = buffer + NET_HEADROOM;
	struct net_out o = { .head = head,
			     .head_size = (uint32_t)wh_wire_tcp_emit(head, t),
			     .from = tuple->local.ip,
			     .to = tuple->remote.ip,
			     .protocol = WH_WIRE_PROTO_TCP,
			     .tos = tos,
			     .dont_fragment = true,
			     .checksum_at = WH_WIRE_TCP_CHECKSUM_AT,
			     .mac = mac };
	net->stats.tcp_out++;
	if (t->flags & WH_WIRE_TCP_RST)
		net->stats.tcp_resets_out++;
	return net_ip_output(net, &o);
}

void tcp_reply_reset(struct wh_net *net, const struct tcp_segment *seg)
{
	const struct wh_wire_tcp *in = &seg->t;
	struct wh_net_tuple tuple = { .local = { seg->p->to, in->to },
				      .remote = { seg->p->from, in->from } };
	struct wh_wire_tcp t = { .from = in->to, .to = in->from, .flags = WH_WIRE_TCP_RST };
	if (in->flags & WH_WIRE_TCP_RST)
		return;
	if (in->flags & WH_WIRE_TCP_ACK) {
		t.sequence = in->acknowledgement;
	} else {
		t.flags |= WH_WIRE_TCP_ACK;
		t.acknowledgement = seg->sequence + seg->size + seg->fin;
	}
	/* The peer repeats its segment if this is lost. */
	(void)tcp_send_bare(net, &tuple, &t, seg->p->loop ? 0 : seg->p->from_mac, 0);
}

int tcp_send_reset(struct wh_net_tcp *s)
{
	bool synchronized =
		s->entry.state != WH_NET_TCP_SYN_SENT && s->entry.state != WH_NET_TCP_REQUESTED;
	struct wh_wire_tcp t = { .from = s->entry.tuple.local.port,
				 .to = s->entry.tuple.remote.port,
				 .sequence = synchronized ? s->snd_nxt : 0,
				 .acknowledgement = s->rcv_nxt,
				 .flags = WH_WIRE_TCP_RST | WH_WIRE_TCP_ACK };
	return tcp_send_bare(s->net, &s->entry.tuple, &t, 0, s->tos & (uint8_t)~ECN_MASK);
}

/* SACK blocks, most recent first (RFC 2018, 4; RFC 2883, 4), at most `max`. */
static void sack_fill(struct wh_net_tcp *s, struct wh_wire_tcp *t, uint32_t max)
{
	if (!s->sack_ok || (!s->ooo_count && !s->dsack_pending))
		return;
	if (s->dsack_pending) {
		t->sack[0].start = s->dsack.start;
		t->sack[0].end = s->dsack.end;
		t->sack_count = 1;
	}
	for (uint32_t i = 0; i < s->ooo_count && t->sack_count < max; i++) {
		uint32_t at = (s->ooo_last + i) % s->ooo_count;
		t->sack[t->sack_count].start = s->ooo[at].start;
		t->sack[t->sack_count].end = s->ooo[at].end;
		t->sack_count++;
	}
}

static void block(struct wh_net_tcp *s)
{
	s->blocked = true;
	wh_list_remove(&s->work);
	wh_list_push_back(&tcp_state(s->net)->blocked, &s->work);
}

/* Sends `size` stream bytes from `sequence` on. 0, or -WH_EAGAIN: again later. */
static int segment_send(struct wh_net_tcp *s, uint32_t sequence, uint32_t size, uint8_t flags,
			bool probe)
{
	uint8_t buffer[NET_HEADROOM + WH_WIRE_TCP_SIZE_MAX], *head = buffer + NET_HEADROOM;
	struct wh_iov iov[2];
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	struct wh_wire_tcp t = { .from = s->entry.tuple.local.port,
				 .to = s->entry.tuple.remote.port,
				 .sequence = sequence,
				 .acknowledgement = s->rcv_nxt,
				 .flags = flags | WH_WIRE_TCP_ACK,
				 .window = (uint16_t)tcp_window_field(s),
				 .has_timestamp = s->timestamps_ok,
				 .timestamp = tcp_clock_ms(s),
				 .timestamp_echo = s->ts_recent };
	bool fresh = size && sequence == s->snd_nxt;
	uint8_t ecn = s->ecn_ok && fresh ? ECN_CAPABLE : 0; /* RFC 3168, 6.1.5: not repeats */
	if (s->ecn_ok && s->ecn_echo)
		t.flags |= WH_WIRE_TCP_ECE;
	if (s->ecn_cwr && fresh)
		t.flags |= WH_WIRE_TCP_CWR;
	uint32_t blocks = s->timestamps_ok ? 3 : 4;
	if (size) { /* only as much as still fits behind the data */
		uint32_t room = size < s->mss ? s->mss - size : 0;
		blocks = room < 12 ? 0 : (room - 4) / 8 < blocks ? (room - 4) / 8 : blocks;
	}
	sack_fill(s, &t, blocks);
	if (t.sack_count > blocks)
		t.sack_count = (uint8_t)blocks;
	uint32_t count = size ? tcp_ring_slice(&s->tx, sequence - s->tx_sequence, size, iov) : 0;
	struct net_out o = { .head = head,
			     .head_size = (uint32_t)wh_wire_tcp_emit(head, &t),
			     .payload = iov,
			     .payload_count = count,
			     .payload_size = size,
			     .from = s->entry.tuple.local.ip,
			     .to = s->entry.tuple.remote.ip,
			     .protocol = WH_WIRE_PROTO_TCP,
			     .tos = (uint8_t)((s->tos & ~ECN_MASK) | ecn),
			     .hop_limit = s->hop_limit,
			     .dont_fragment = true,
			     .checksum_at = WH_WIRE_TCP_CHECKSUM_AT };
	o.probe = probe;
	if (size > s->mss && !probe) {
		o.gso_type = is4 ? WH_NET_GSO_TCPV4 : WH_NET_GSO_TCPV6;
		o.gso_size = s->mss;
	}
	int error = net_ip_output(s->net, &o);
	if (error == -WH_EAGAIN) {
		block(s);
		return error;
	}
	/* Other errors: lost, as on any wire; the retransmission timer decides. */
	s->ack_sent = s->rcv_nxt;
	uint32_t advertised = s->rcv_nxt + ((uint32_t)t.window << s->rcv_scale);
	s->rcv_advertised = tcp_max(s->rcv_advertised, advertised);
	s->unacked = 0;
	s->dsack_pending = false;
	if (fresh)
		s->ecn_cwr = false;
	s->work_flags &= (uint8_t)~TCP_WORK_ACK;
	tcp_timer_clear(s, TCP_TIMER_ACK);
	s->sent_at = s->net->now;
	s->segments_out++;
	s->net->stats.tcp_out++;
	return 0;
}

int tcp_send_ack(struct wh_net_tcp *s)
{
	return segment_send(s, s->snd_nxt, 0, 0, false);
}

/* An old sequence number makes the peer say what it has and takes (as Linux does;
 * RFC 9293 3.8.6.1 and 1122 4.2.3.6 allow a segment without data). */
int tcp_send_probe(struct wh_net_tcp *s)
{
	return segment_send(s, s->snd_una - 1, 0, 0, false);
}

/* RFC 3168, 6.1.1: ECN is asked for with both bits, granted with one; not in a repeat, as some
 * networks drop such SYNs. */
static uint8_t syn_flags(const struct wh_net_tcp *s, bool answer)
{
	if (answer)
		return WH_WIRE_TCP_ACK | (s->ecn_ok ? WH_WIRE_TCP_ECE : 0);
	return s->ecn_ok && !s->tries ? WH_WIRE_TCP_ECE | WH_WIRE_TCP_CWR : 0;
}

int tcp_send_syn(struct wh_net_tcp *s)
{
	bool answer = s->entry.state == WH_NET_TCP_SYN_RECEIVED;
	struct net_route r;
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	int error = net_route(s->net, &s->entry.tuple.remote.ip, &r);
	uint32_t mtu = error ? 1280 : r.mtu;
	s->mss_receive =
		(uint16_t)(mtu - (is4 ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE) - WH_WIRE_TCP_SIZE);
	if (s->mss_limit && s->mss_receive > s->mss_limit)
		s->mss_receive = s->mss_limit;
	uint32_t window = tcp_receive_room(s);
	if (window > 65535)
		window = 65535;
	struct wh_wire_tcp t = { .from = s->entry.tuple.local.port,
				 .to = s->entry.tuple.remote.port,
				 .sequence = s->iss,
				 .acknowledgement = answer ? s->rcv_nxt : 0,
				 .flags = (uint8_t)(WH_WIRE_TCP_SYN | syn_flags(s, answer)),
				 .window = (uint16_t)window,
				 .has_mss = true,
				 .mss = s->mss_receive,
				 .has_scale = s->scale_ok,
				 .scale = s->rcv_scale,
				 .sack_permitted = s->sack_ok,
				 .has_timestamp = s->timestamps_ok,
				 .timestamp = tcp_clock_ms(s),
				 .timestamp_echo = answer ? s->ts_recent : 0 };
	s->rcv_advertised = s->rcv_nxt + window;
	error = tcp_send_bare(s->net, &s->entry.tuple, &t, 0, s->tos & (uint8_t)~ECN_MASK);
	if (error == -WH_EAGAIN) {
		block(s);
		return error;
	}
	if (error && !answer) {
		tcp_ended(s, -error);
		return error;
	}
	s->segments_out++;
	s->snd_nxt = s->iss + 1;
	s->syn_due = false;
	s->sent_at = s->net->now;
	s->work_flags &= (uint8_t)~TCP_WORK_ACK;
	tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
	return 0;
}

/* ---- What to send ---- */

int tcp_send_again(struct wh_net_tcp *s, uint32_t start, uint32_t size)
{
	uint32_t data_end = s->tx_sequence + s->tx.used;
	bool fin = s->fin_sent && start + size == data_end;
	int error =
		segment_send(s, start, size, fin ? WH_WIRE_TCP_FIN | WH_WIRE_TCP_PSH : 0, false);
	if (error)
		return error;
	if (!s->again_ts)
		s->again_ts = tcp_clock_ms(s);
	s->undo_bytes += size + fin;
	s->prr_out += size + fin;
	tcp_sent_again(s, start, start + size + fin);
	s->retransmit_now = false;
	s->retransmits++;
	s->net->stats.tcp_retransmits++;
	/* The first one's repeat gets the time that it needs. */
	if (start == s->snd_una || s->deadline[TCP_TIMER_RETRANSMIT] == WH_NET_NEVER)
		tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
	return 0;
}

/* What is known to be lost, from the lowest on (RFC 6675 NextSeg 1). */
static void lost_send(struct wh_net_tcp *s, uint32_t gso_max)
{
	uint32_t data_end = s->tx_sequence + s->tx.used, edge = s->snd_una + s->snd_wnd;
	bool cc = s->net->config.cc;
	if (s->frto == 2 && tcp_before(s->snd_nxt, data_end) && tcp_before(s->snd_nxt, edge))
		return; /* new data tells whether the time-out was spurious */
	while (s->lost_bytes) {
		uint32_t i = 0;
		while (!(s->sent[i].flags & TCP_LOST))
			i++;
		wh_assert(i < s->sent_count);
		uint32_t start = tcp_sent_start(s, i), end = s->sent[i].end;
		uint32_t size = (tcp_before(data_end, end) ? data_end : end) - start;
		uint32_t most = cc ? s->mss : gso_max;
		if (size > most)
			size = most;
		/* The peer may have made its window smaller (RFC 9293, 3.8.6): then one segment
		 * at a time asks what it takes. */
		if (start != s->snd_una && tcp_before(edge, start + size))
			return;
		if (cc && !s->retransmit_now && tcp_congestion_room(s) < size)
			return;
		if (tcp_send_again(s, start, size))
			return;
	}
}

/* How many of the `available` bytes go into one frame now; 0 = wait. */
static uint32_t size_choose(struct wh_net_tcp *s, uint32_t available, uint32_t window,
			    uint32_t gso_max)
{
	uint32_t size = available < window ? available : window, room = tcp_congestion_room(s);
	if (size > room) {
		if (room < s->mss && s->snd_nxt != s->snd_una)
			return 0;
		size = room < s->mss ? (size < s->mss ? size : s->mss) : room;
	}
	if (s->ecn_cwr) /* one segment says so, not all of a frame */
		gso_max = s->mss;
	if (size > gso_max)
		size = gso_max;
	bool small_out = tcp_before(s->snd_una, s->small_end);
	bool tail_ok = size == available && !s->cork && (s->nodelay || s->fin_wanted || !small_out);
	if (size >= s->mss)
		return tail_ok ? size : size / s->mss * s->mss;
	if (tail_ok || (s->fin_wanted && size == available))
		return size;
	/* The peer never takes a full segment: half its greatest window will do. */
	if (size < available && size && size >= s->snd_wnd_max / 2)
		return size;
	return 0;
}

/* New bytes, and the FIN behind the last of them. */
static int new_send(struct wh_net_tcp *s, uint32_t size, bool probe)
{
	uint32_t data_end = s->tx_sequence + s->tx.used, sequence = s->snd_nxt;
	bool last = sequence + size == data_end, fin = s->fin_wanted && last;
	uint8_t flags = (fin ? WH_WIRE_TCP_FIN : 0) | (size && last ? WH_WIRE_TCP_PSH : 0);
	int error = segment_send(s, sequence, size, flags, probe);
	if (error)
		return error;
	if (s->snd_una == sequence)
		s->progress_at = s->net->now;
	if (size % s->mss && !probe)
		s->small_end = sequence + size;
	tcp_sent_add(s, sequence + size + fin);
	s->prr_out += size + fin;
	s->snd_nxt = sequence + size + fin;
	s->fin_sent |= fin;
	if (s->deadline[TCP_TIMER_RETRANSMIT] == WH_NET_NEVER)
		tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
	return 0;
}

bool tcp_send_new(struct wh_net_tcp *s, uint32_t size_max)
{
	uint32_t data_end = s->tx_sequence + s->tx.used, edge = s->snd_una + s->snd_wnd;
	if (!tcp_before(s->snd_nxt, data_end) || !tcp_before(s->snd_nxt, edge))
		return false;
	uint32_t size = data_end - s->snd_nxt, window = edge - s->snd_nxt;
	size = size < window ? size : window;
	return !new_send(s, size < size_max ? size : size_max, false);
}

/* One frame. 1 = sent, 0 = nothing more now, < 0 = blocked. */
static int next_send(struct wh_net_tcp *s, uint32_t gso_max)
{
	uint32_t data_end = s->tx_sequence + s->tx.used, edge = s->snd_una + s->snd_wnd;
	if (tcp_before(data_end, s->snd_nxt)) /* the FIN is out */
		return 0;
	uint32_t available = data_end - s->snd_nxt;
	uint32_t window = tcp_before(s->snd_nxt, edge) ? edge - s->snd_nxt : 0;
	uint32_t probe = tcp_mtu_due(s, available, window);
	if (probe) {
		int error = new_send(s, probe, true);
		if (!error)
			tcp_mtu_sent(s, probe);
		return error ? error : 1;
	}
	uint32_t size = available ? size_choose(s, available, window, gso_max) : 0;
	bool fin = s->fin_wanted && size == available;
	if (!size && !fin)
		return 0;
	int error = new_send(s, size, false);
	return error ? error : 1;
}

static uint32_t gso_limit(const struct wh_net_tcp *s)
{
	struct net_route r;
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	uint32_t wanted = is4 ? WH_NET_LINK_TSO4 : WH_NET_LINK_TSO6;
	if (net_route(s->net, &s->entry.tuple.remote.ip, &r) || !(r.features & wanted))
		return s->mss;
	uint32_t heads = WH_WIRE_IP6_SIZE + WH_WIRE_TCP_SIZE_MAX;
	uint32_t segments = (TCP_GSO_MAX - heads) / s->mss;
	return segments ? segments * s->mss : s->mss; /* an MTU near 64 KiB: one */
}

void tcp_output(struct wh_net_tcp *s)
{
	const struct wh_net_tcp_cc *cc = s->net->config.cc;
	s->work_flags &= (uint8_t)~TCP_WORK_OUTPUT;
	uint8_t state = s->entry.state;
	if (state == WH_NET_TCP_SYN_SENT || state == WH_NET_TCP_SYN_RECEIVED) {
		if (s->syn_due)
			(void)tcp_send_syn(s); /* blocked or ended: dealt with there */
		return;
	}
	if (state == WH_NET_TCP_CLOSED || state == WH_NET_TCP_REQUESTED ||
	    state == WH_NET_TCP_LISTEN || !s->tx.base)
		return;
	if (cc && s->snd_una == s->snd_nxt && s->net->now - s->sent_at > s->rto)
		cc->idle(&s->cc);
	uint32_t before = s->snd_nxt;
	if (s->lost_bytes || s->snd_nxt != s->tx_sequence + s->tx.used + s->fin_sent ||
	    s->fin_wanted != s->fin_sent) { /* or every acknowledgement would look for the route */
		uint32_t gso_max = gso_limit(s);
		if (s->lost_bytes)
			lost_send(s, gso_max);
		while (!s->blocked && next_send(s, gso_max) > 0)
			;
	}
	if (s->snd_nxt != before)
		tcp_probe_arm(s);
	if (s->blocked)
		return;
	/* Data waits, nothing is under way that would bring an acknowledgement. */
	uint32_t unsent = s->tx_sequence + s->tx.used - s->snd_nxt;
	if (s->snd_una == s->snd_nxt && (int32_t)unsent > 0 && s->snd_wnd < s->mss &&
	    s->deadline[TCP_TIMER_PERSIST] == WH_NET_NEVER)
		tcp_timer_set(s, TCP_TIMER_PERSIST, s->net->now + s->rto);
	if (s->cork && (int32_t)unsent > 0 && s->deadline[TCP_TIMER_CORK] == WH_NET_NEVER)
		tcp_timer_set(s, TCP_TIMER_CORK, s->net->now + TCP_CORK_NS);
}
