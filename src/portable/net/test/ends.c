/* SPDX-License-Identifier: ISC */
#include "ends.h"

static uint8_t byte_at(uint8_t pattern, uint64_t at)
{
	return (uint8_t)(pattern + at * 7 + (at >> 8) * 13 + (at >> 16) * 31);
}

static void end_check(struct end *e, const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	for (uint32_t i = 0; i < count && size; i++) {
		const uint8_t *p = iov[i].base;
		uint32_t n = iov[i].size < size ? (uint32_t)iov[i].size : size;
		for (uint32_t k = 0; k < n; k++)
			if (p[k] != byte_at(e->pattern ^ 0x55, e->received + k))
				test_fail(__FILE__, __LINE__, "byte %llu differs",
					  (unsigned long long)(e->received + k));
		e->received += n;
		size -= n;
	}
}

void end_pump(struct end *e)
{
	struct wh_iov iov[2];
	while (e->sent < e->send_total) {
		uint32_t room = wh_net_tcp_reserve(e->s, iov), n = 0;
		if (!room)
			break;
		for (int i = 0; i < 2; i++) {
			uint8_t *p = iov[i].base;
			for (size_t k = 0; k < iov[i].size && e->sent + n < e->send_total; k++, n++)
				p[k] = byte_at(e->pattern, e->sent + n);
		}
		wh_net_tcp_commit(e->s, n);
		e->sent += n;
	}
	if (e->sent == e->send_total && !e->shut && e->connected) {
		wh_net_tcp_shutdown(e->s);
		e->shut = true;
	}
}

void end_read(struct end *e, uint32_t most)
{
	struct wh_iov iov[2];
	uint32_t n = wh_net_tcp_peek(e->s, iov);
	if (n > most)
		n = most;
	end_check(e, iov, 2, n);
	wh_net_tcp_consume(e->s, n);
}

static void on_event(struct wh_net_tcp *s, uint32_t events)
{
	struct end *e = wh_net_tcp_ctx(s);
	if (events & WH_NET_CONNECTED)
		e->connected = true;
	if (events & WH_NET_FAILED) {
		e->failed = true;
		e->error = wh_net_tcp_error(s);
		return;
	}
	if (!e->slow)
		end_read(e, UINT32_MAX);
	if (events & WH_NET_PEER_CLOSED)
		e->peer_closed = true;
	if (events & WH_NET_DRAINED)
		e->drained = true;
	end_pump(e);
}

static uint32_t on_data(struct wh_net_tcp *s, const struct wh_iov *iov, uint32_t count,
			uint32_t size)
{
	struct end *e = wh_net_tcp_ctx(s);
	if (!e->direct)
		return 0;
	uint32_t n = size > 100 ? size - (uint32_t)(size % 7) : size;
	end_check(e, iov, count, n);
	return n;
}

const struct wh_net_tcp_ops end_ops = { .event = on_event, .data = on_data };
