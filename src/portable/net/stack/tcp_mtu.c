/* SPDX-License-Identifier: ISC */
/*
 * What the path takes, when nobody says so (RFC 2923, 4821; RFC 8899 for the timers).
 *
 * Down: time-outs in a row while full segments are under way make the size suspected: 1280, then 576.
 *
 * Up: from there the size is searched with the connection's own data, as soon as there is enough of it: one segment that is
 * larger than the others goes between them. If it arrives, that size is the path's from now on; if it is lost twice (and only it,
 * which is no sign of congestion and leaves the congestion window alone), the search goes on below. It halves the interval
 * until what is left is not worth a probe. Ten minutes later it begins anew, with the largest size first: a black
 * hole that has ended costs one probe. What is found belongs to the address, and all connections to it use it.
 *
 * Without SACK there is no search: which segment was lost could not be told. Nor on links that lose nothing.
 */
#include "tcp_priv.h"

#define BLACK_HOLE_TRIES 3u   /* time-outs in a row before the segment's size is suspected */
#define BLACK_HOLE_MTU1 1280u /* every IPv6 link has it, nearly every tunnel */
#define BLACK_HOLE_MTU2 576u  /* what every IPv4 host takes */
#define PROBE_TRIES 2u        /* one loss may be congestion */
#define PROBE_STEP_MIN 16u    /* less than one percent: not worth a loss */
#define PROBE_FOLLOWERS \
	3u /* full segments behind it, so that its loss is seen without a time-out */
#define PROBE_WAIT_NS (1 * NET_S) /* after a black hole or a lost probe */

static uint32_t heads(const struct wh_net_tcp *s)
{
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	return (is4 ? WH_WIRE_IP4_SIZE : WH_WIRE_IP6_SIZE) + WH_WIRE_TCP_SIZE;
}

/* The largest that this connection would ever send. */
static uint32_t size_max(const struct wh_net_tcp *s)
{
	uint32_t mtu = s->net->port->mtu, peer = s->mss_peer + heads(s),
		 own = s->mss_limit + heads(s);
	if (s->net->link_mtu && s->net->link_mtu < mtu && !wh_net_ip_is4(&s->entry.tuple.remote.ip))
		mtu = s->net->link_mtu;
	if (s->mss_peer && peer < mtu)
		mtu = peer;
	return s->mss_limit && own < mtu ? own : mtu;
}

void tcp_black_hole(struct wh_net_tcp *s)
{
	bool is4 = wh_net_ip_is4(&s->entry.tuple.remote.ip);
	uint32_t mtu = s->tries < BLACK_HOLE_TRIES + 2 ? BLACK_HOLE_MTU1 : BLACK_HOLE_MTU2;
	uint32_t was = s->mss + heads(s) + (s->timestamps_ok ? 12 : 0);
	if (s->tries < BLACK_HOLE_TRIES || !s->net->config.cc || s->net->config.lossless ||
	    (!is4 && mtu < 1280) || s->mss + heads(s) <= mtu || s->snd_nxt - s->snd_una < s->mss)
		return;
	s->net->stats.tcp_black_holes++;
	struct net_pmtu_entry *e = net_pmtu_set(s->net, &s->entry.tuple.remote.ip, mtu);
	e->high = was - 1;
	e->probe_at = s->net->now + PROBE_WAIT_NS;
	net_pmtu_keep(s->net, e, 2 * NET_PMTU_NS);
	tcp_set_mss(s);
	s->mss_lowered = true;
	s->cc.cwnd = s->mss;
}

/* The search that this connection may take part in, or NULL. */
static struct net_pmtu_entry *search(struct wh_net_tcp *s)
{
	struct net_pmtu_entry *e = net_pmtu_find(s->net, &s->entry.tuple.remote.ip);
	return e && e->high ? e : 0;
}

/* Ends the search when the rest is not worth a probe. */
static void narrow(struct wh_net_tcp *s, struct net_pmtu_entry *e)
{
	e->tries = 0;
	e->rest = e->high < e->mtu + PROBE_STEP_MIN;
	net_pmtu_keep(s->net, e, 2 * NET_PMTU_NS);
	if (e->rest)
		e->probe_at = s->net->now + NET_PMTU_NS;
}

uint32_t tcp_mtu_due(struct wh_net_tcp *s, uint32_t available, uint32_t window)
{
	struct net_pmtu_entry *e;
	uint32_t options = s->timestamps_ok ? 12 : 0;
	if (!s->mss_lowered || s->mtu_probe || !s->sack_ok || !s->net->config.cc ||
	    s->net->config.lossless || s->recovery != TCP_OPEN || s->lost_bytes ||
	    s->sacked_bytes || s->tries || s->ecn_cwr || !(e = search(s)) ||
	    s->net->now < e->probe_at)
		return 0;
	uint32_t most = size_max(s);
	if (e->rest) { /* the time has come: from the top */
		e->rest = false;
		e->high = most;
		e->tries = 0;
	}
	uint32_t high = e->high < most ? e->high : most;
	uint32_t size = high == most ? high : (e->mtu + high + 1) / 2;
	/* Another connection may take more. */
	if (high <= e->mtu || (high < most && high < e->mtu + PROBE_STEP_MIN))
		return 0;
	uint32_t payload = size - heads(s) - options, need = payload + PROBE_FOLLOWERS * s->mss;
	if (available < need || window < need || s->cc.cwnd < need ||
	    tcp_congestion_room(s) < payload)
		return 0;
	return payload;
}

void tcp_mtu_sent(struct wh_net_tcp *s, uint32_t size)
{
	s->mtu_probe = size + heads(s) + (s->timestamps_ok ? 12 : 0);
	s->mtu_end = s->snd_nxt;
	s->mtu_start = s->snd_nxt - size;
	s->net->stats.tcp_mtu_probes++;
}

void tcp_mtu_forget(struct wh_net_tcp *s)
{
	struct net_pmtu_entry *e = s->mtu_probe ? search(s) : 0;
	if (e)
		e->probe_at = s->net->now + PROBE_WAIT_NS;
	s->mtu_probe = 0;
}

void tcp_mtu_acked(struct wh_net_tcp *s)
{
	if (!s->mtu_probe || tcp_before(s->snd_una, s->mtu_end))
		return;
	struct net_pmtu_entry *e = search(s);
	if (e && s->mtu_probe > e->mtu) {
		e->mtu = s->mtu_probe;
		if (e->high < e->mtu)
			e->high = e->mtu;
		narrow(s, e);
		tcp_set_mss(s);
	}
	s->mtu_probe = 0;
}

/* Are all lost bytes in [start, end)? */
static bool lost_within(const struct wh_net_tcp *s, uint32_t start, uint32_t end)
{
	for (uint32_t i = 0; i < s->sent_count; i++)
		if ((s->sent[i].flags & TCP_LOST) &&
		    (tcp_before(tcp_sent_start(s, i), start) || tcp_before(end, s->sent[i].end)))
			return false;
	return true;
}

bool tcp_mtu_lost(struct wh_net_tcp *s)
{
	if (!s->mtu_probe)
		return false;
	bool alone = lost_within(s, s->mtu_start, s->mtu_end);
	struct net_pmtu_entry *e = alone ? search(s) : 0;
	if (e && ++e->tries >= PROBE_TRIES && s->mtu_probe <= e->high) {
		e->high = s->mtu_probe - 1;
		narrow(s, e);
	}
	tcp_mtu_forget(s);
	if (e && e->rest)
		e->probe_at = s->net->now + NET_PMTU_NS;
	return alone;
}
