/* SPDX-License-Identifier: ISC */
/*
 * SYN cookies (RFC 4987, 3.6): when a listener holds as many half-open connections as it may, the
 * SYN-ACK's sequence number is a keyed hash of what must be remembered, and nothing is. Whoever
 * acknowledges it has received it, so it is not spoofed, and gets its connection.
 *
 *	31..27 time in units of 64 s   26..24 MSS, of a table   23..0 hash
 *
 * The other options of the peer's SYN fit only into the timestamp that it will echo: its low
 * six bits are the window scale (15 = none), SACK, ECN; without timestamps they are not used.
 */
#include "tcp_priv.h"

#define PERIOD_NS (64 * NET_S)
#define PERIODS_OLD 1u /* 64 to 128 s: longer than any SYN-ACK is repeated */
#define SCALE_NONE 15u
#define OPTION_SACK 16u
#define OPTION_ECN 32u
#define OPTION_MASK 63u

static const uint16_t sizes[8] = { TCP_MSS_MIN, 536, 1024, 1220, 1360, 1440, 1460, 8960 };

static uint32_t cookie(const struct wh_net *net, const struct wh_net_tuple *t, uint32_t irs,
		       uint64_t period, uint32_t size)
{
	const uint64_t key[2] = { net->config.key[0], net->config.key[1] ^ 0x636f6f6b69657300ull };
	uint8_t bytes[52];
	memcpy(bytes, t->local.ip.bytes, 16);
	memcpy(bytes + 16, t->remote.ip.bytes, 16);
	wh_store_be16(bytes + 32, t->local.port);
	wh_store_be16(bytes + 34, t->remote.port);
	wh_store_be32(bytes + 36, irs);
	wh_store_be32(bytes + 40, size);
	wh_store_be64(bytes + 44, period);
	return (uint32_t)(period & 31) << 27 | size << 24 |
	       ((uint32_t)wh_siphash(key, bytes, sizeof bytes) & 0xffffff);
}

void tcp_cookie_send(struct wh_net *net, struct wh_net_tcp *l, const struct tcp_segment *seg,
		     const struct wh_net_tuple *tuple)
{
	const struct wh_wire_tcp *in = &seg->t;
	struct net_route r;
	bool is4 = wh_net_ip_is4(&tuple->remote.ip);
	uint32_t size = WH_ARRAY_COUNT(sizes) - 1;
	uint32_t wanted = in->has_mss ? in->mss : is4 ? TCP_MSS_DEFAULT4 : TCP_MSS_DEFAULT6;
	uint32_t mtu = net_route(net, &tuple->remote.ip, &r) ? 1280 : r.mtu;
	uint32_t window = net->config.tcp_buffer_start;
	uint8_t ecn = in->flags & (WH_WIRE_TCP_ECE | WH_WIRE_TCP_CWR);
	bool ecn_ok =
		in->has_timestamp && net->config.cc && ecn == (WH_WIRE_TCP_ECE | WH_WIRE_TCP_CWR);
	while (size && sizes[size] > wanted)
		size--;
	uint32_t options = (in->has_scale ? in->scale : SCALE_NONE) |
			   (in->sack_permitted ? OPTION_SACK : 0) | (ecn_ok ? OPTION_ECN : 0);
	uint32_t clock = tcp_clock_of(net, tuple), stamp = (clock & ~OPTION_MASK) | options;
	if (tcp_before(clock, stamp))
		stamp -= OPTION_MASK + 1;
	struct wh_wire_tcp t = {
		.from = tuple->local.port,
		.to = tuple->remote.port,
		.sequence = cookie(net, tuple, in->sequence, net->now / PERIOD_NS, size),
		.acknowledgement = in->sequence + 1,
		.flags = WH_WIRE_TCP_SYN | WH_WIRE_TCP_ACK | (ecn_ok ? WH_WIRE_TCP_ECE : 0),
		.window = (uint16_t)(window > 65535 ? 65535 : window),
		.has_mss = true,
		.mss = (uint16_t)(mtu - WH_WIRE_TCP_SIZE -
				  (is4 ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE)),
		.has_timestamp = in->has_timestamp,
		.has_scale = in->has_timestamp && in->has_scale,
		.scale = tcp_scale(net->config.tcp_receive_max),
		.sack_permitted = in->has_timestamp && in->sack_permitted,
		.timestamp = stamp,
		.timestamp_echo = in->timestamp
	};
	net->stats.tcp_cookies_sent++;
	l->cookies_until = net->now + (PERIODS_OLD + 1) * PERIOD_NS;
	(void)tcp_send_bare(net, tuple, &t, 0, 0); /* lost: the SYN comes again */
}

/* The SYN that the cookie stands for; false = it is none of ours. */
static bool cookie_read(struct wh_net *net, const struct tcp_segment *seg,
			const struct wh_net_tuple *tuple, struct wh_wire_tcp *ret)
{
	uint32_t irs = seg->t.sequence - 1, value = seg->t.acknowledgement - 1;
	uint64_t now = net->now / PERIOD_NS, age = (now - (value >> 27)) & 31;
	uint32_t size = value >> 24 & 7, options = seg->t.timestamp_echo & OPTION_MASK;
	if (age > PERIODS_OLD || value != cookie(net, tuple, irs, now - age, size))
		return false;
	*ret = (struct wh_wire_tcp){ .flags = WH_WIRE_TCP_SYN,
				     .sequence = irs,
				     .window = seg->t.window,
				     .has_mss = true,
				     .mss = sizes[size] };
	if (!seg->t.has_timestamp)
		return true;
	ret->has_timestamp = true;
	ret->timestamp = seg->t.timestamp;
	ret->has_scale = (options & 15) <= 14;
	ret->scale = ret->has_scale ? options & 15 : 0;
	ret->sack_permitted = options & OPTION_SACK;
	if (options & OPTION_ECN)
		ret->flags |= WH_WIRE_TCP_ECE | WH_WIRE_TCP_CWR;
	return true;
}

struct wh_net_tcp *tcp_cookie_input(struct wh_net *net, struct wh_net_tcp *l,
				    const struct tcp_segment *seg, const struct wh_net_tuple *tuple,
				    bool *ret_drop)
{
	struct tcp_segment syn = { .p = seg->p };
	*ret_drop = false;
	if (l->cookies_until <= net->now)
		return 0;
	if (!cookie_read(net, seg, tuple, &syn.t)) {
		net->stats.tcp_cookies_bad++;
		return 0;
	}
	/* For this peer the connection exists; what it sends comes again. The queue may become as
	 * long as it can through those that were half open. */
	*ret_drop = true;
	if (l->ready_count >= l->backlog + TCP_OPENING_MIN)
		return 0;
	struct wh_net_tcp *s = tcp_half_open(net, l, &syn, tuple);
	if (!s)
		return 0;
	net->stats.tcp_cookies_taken++;
	s->iss = s->snd_una = s->fack = s->small_end = seg->t.acknowledgement - 1;
	s->snd_nxt = s->tx_sequence = s->iss + 1;
	s->rcv_advertised = s->rcv_nxt + net->config.tcp_buffer_start;
	s->syn_due = false;
	s->sent_at = 0; /* nobody knows, so there is no round trip to measure */
	tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));
	return s;
}
