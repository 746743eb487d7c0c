/* SPDX-License-Identifier: ISC */
/*
 * The scoreboard: what lies between snd_una and snd_nxt, in at most TCP_SENT_MAX records. It is
 * what RFC 8985 needs (when was it sent last?) and RFC 6675 (what does the peer have?), without
 * a structure for each packet: bytes that were sent within a sixteenth of a round trip share a
 * record, a SACK block or a retransmission cuts one in pieces, and where that makes too many,
 * neighbours are joined with the more careful of their states: less is known then, and in the
 * worst case something is sent again for nothing.
 */
#include "tcp_priv.h"

static uint32_t length(const struct wh_net_tcp *s, uint32_t i)
{
	return s->sent[i].end - tcp_sent_start(s, i);
}

/* Takes record i's bytes out of the sums (sign -1), or puts them in (1). */
static void count(struct wh_net_tcp *s, uint32_t i, int sign)
{
	uint32_t size = length(s, i), change = sign < 0 ? 0 - size : size;
	if (s->sent[i].flags & TCP_SACKED)
		s->sacked_bytes += change;
	if (s->sent[i].flags & TCP_LOST)
		s->lost_bytes += change;
}

static void flags_set(struct wh_net_tcp *s, uint32_t i, uint8_t flags)
{
	wh_assert(!(flags & TCP_SACKED) || flags == TCP_SACKED);
	count(s, i, -1);
	s->sent[i].flags = flags;
	count(s, i, 1);
}

/* Joins record i and the next. */
static void join(struct wh_net_tcp *s, uint32_t i)
{
	struct tcp_sent *a = &s->sent[i], *b = a + 1;
	uint8_t flags =
		a->flags == b->flags ? a->flags : (uint8_t)((a->flags | b->flags) & ~TCP_SACKED);
	flags_set(s, i, flags);
	flags_set(s, i + 1, flags);
	a->end = b->end;
	if ((int32_t)(b->sent_us - a->sent_us) > 0)
		a->sent_us = b->sent_us;
	if ((int32_t)(b->first_us - a->first_us) < 0)
		a->first_us = b->first_us;
	s->sent_count--;
	memmove(b, b + 1, (s->sent_count - i - 1) * sizeof *b);
}

static void make_room(struct wh_net_tcp *s)
{
	wh_assert(s->sent_count == TCP_SENT_MAX);
	for (uint32_t i = 0; i + 1 < s->sent_count; i++) {
		if (s->sent[i].flags == s->sent[i + 1].flags) {
			join(s, i);
			return;
		}
	}
	join(s, 0);
}

/* The record that begins at `sequence`, cut from one if need be; sent_count at the end. */
static uint32_t boundary(struct wh_net_tcp *s, uint32_t sequence)
{
	for (;;) {
		uint32_t i = 0;
		while (i < s->sent_count && !tcp_before(sequence, s->sent[i].end))
			i++;
		if (i == s->sent_count || !tcp_before(tcp_sent_start(s, i), sequence))
			return i;
		if (s->sent_count == TCP_SENT_MAX) {
			make_room(s);
			continue;
		}
		struct tcp_sent *r = &s->sent[i];
		memmove(r + 1, r, (s->sent_count - i) * sizeof *r);
		r->end = sequence;
		s->sent_count++;
		return i + 1;
	}
}

void tcp_sent_add(struct wh_net_tcp *s, uint32_t end)
{
	struct tcp_sent *last = s->sent_count ? &s->sent[s->sent_count - 1] : 0;
	uint32_t now = tcp_now_us(s);
	uint32_t quantum = (uint32_t)(s->srtt / (1000 * TCP_SENT_QUANTA));
	wh_assert(tcp_before(s->snd_nxt, end));
	if (last && !last->flags && now - last->first_us <= quantum) {
		last->end = end;
		last->sent_us = now;
		return;
	}
	if (s->sent_count == TCP_SENT_MAX)
		make_room(s);
	s->sent[s->sent_count++] = (struct tcp_sent){ .end = end, .sent_us = now, .first_us = now };
}

/* Records that have a part in [start, end): where boundaries could not be kept, that is a little
 * more. */
static void flags_change(struct wh_net_tcp *s, uint32_t start, uint32_t end, uint8_t clear,
			 uint8_t set, bool sent_now)
{
	(void)boundary(s, end);
	(void)boundary(s, start);
	for (uint32_t i = 0; i < s->sent_count; i++) {
		struct tcp_sent *r = &s->sent[i];
		if (!tcp_before(start, r->end))
			continue;
		if (!tcp_before(tcp_sent_start(s, i), end))
			break;
		if (r->flags & TCP_SACKED)
			continue;
		flags_set(s, i, (uint8_t)((r->flags & ~clear) | set));
		if (sent_now)
			r->sent_us = r->first_us = tcp_now_us(s);
	}
}

void tcp_sent_again(struct wh_net_tcp *s, uint32_t start, uint32_t end)
{
	flags_change(s, start, end, TCP_LOST, TCP_AGAIN, true);
}

void tcp_sent_lost(struct wh_net_tcp *s, uint32_t start, uint32_t end)
{
	if (tcp_before(s->snd_nxt, end))
		end = s->snd_nxt;
	if (tcp_before(start, end))
		flags_change(s, start, end, 0, TCP_LOST, false);
}

void tcp_sent_lost_all(struct wh_net_tcp *s, bool reneged)
{
	for (uint32_t i = 0; i < s->sent_count; i++) {
		uint8_t flags = s->sent[i].flags;
		if (!(flags & TCP_SACKED))
			flags_set(s, i, flags | TCP_LOST);
		else if (reneged)
			flags_set(s, i, TCP_LOST);
	}
}

void tcp_sent_found(struct wh_net_tcp *s)
{
	for (uint32_t i = 0; i < s->sent_count; i++)
		if (s->sent[i].flags & TCP_LOST)
			flags_set(s, i, s->sent[i].flags & (uint8_t)~TCP_LOST);
}

/* Record i's bytes up to `end` are known to have arrived, for the first time. */
static void delivered(struct wh_net_tcp *s, const struct tcp_sent *r, uint32_t start, uint32_t end,
		      struct tcp_delivery *d)
{
	uint32_t rtt = tcp_now_us(s) - r->sent_us;
	d->bytes += end - start;
	if (r->flags & TCP_AGAIN) {
		/* RFC 8985, 6.2 step 2: an answer that comes faster than possible is to
		 * the copy before. */
		if (rtt < s->min_rtt_us)
			return;
	} else {
		d->original |= !tcp_before(s->recover, end);
		d->has_rtt = true;
		d->rtt_us = rtt;
		if (tcp_before(end, s->fack))
			s->reordering = true;
	}
	s->fack = tcp_max(s->fack, end);
	int32_t later = (int32_t)(r->sent_us - s->rack_sent_us);
	if (!s->rack_valid || later > 0 || (!later && tcp_before(s->rack_end, end))) {
		s->rack_valid = true;
		s->rack_sent_us = r->sent_us;
		s->rack_end = end;
		s->rack_rtt_us = rtt;
	}
}

void tcp_sent_ack(struct wh_net_tcp *s, uint32_t ack, struct tcp_delivery *d)
{
	uint32_t gone = 0, start = s->snd_una;
	for (; gone < s->sent_count && tcp_before(start, ack); gone++) {
		struct tcp_sent *r = &s->sent[gone];
		uint32_t end = tcp_before(ack, r->end) ? ack : r->end, size = end - start;
		if (r->flags & TCP_SACKED)
			s->sacked_bytes -= size;
		else
			delivered(s, r, start, end, d);
		if (r->flags & TCP_LOST)
			s->lost_bytes -= size;
		if (end != r->end)
			break; /* the rest of it stays */
		start = end;
	}
	s->sent_count -= gone;
	memmove(s->sent, s->sent + gone, s->sent_count * sizeof s->sent[0]);
	s->fack = tcp_max(s->fack, ack);
}

void tcp_sent_sack(struct wh_net_tcp *s, uint32_t start, uint32_t end, struct tcp_delivery *d)
{
	(void)boundary(s, end);
	(void)boundary(s, start);
	for (uint32_t i = 0; i < s->sent_count; i++) {
		struct tcp_sent *r = &s->sent[i];
		uint32_t from = tcp_sent_start(s, i);
		if (tcp_before(end, r->end))
			break;
		/* One that was joined with bytes outside is not known to be there. */
		if (tcp_before(from, start) || (r->flags & TCP_SACKED))
			continue;
		delivered(s, r, from, r->end, d);
		flags_set(s, i, TCP_SACKED);
	}
	for (uint32_t i = 0; i + 1 < s->sent_count;) {
		if ((s->sent[i].flags & s->sent[i + 1].flags) & TCP_SACKED)
			join(s, i);
		else
			i++;
	}
}
