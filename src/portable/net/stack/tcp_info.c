/* SPDX-License-Identifier: ISC */
/* TCP sockets: options and information. */
#include "tcp_priv.h"

void wh_net_tcp_set_ops(struct wh_net_tcp *s, const struct wh_net_tcp_ops *ops, void *ctx)
{
	s->ops = ops;
	s->ctx = ctx;
}

void *wh_net_tcp_ctx(const struct wh_net_tcp *s)
{
	return s->ctx;
}

const struct wh_net_tuple *wh_net_tcp_tuple(const struct wh_net_tcp *s)
{
	return &s->entry.tuple;
}

int wh_net_tcp_error(const struct wh_net_tcp *s)
{
	return s->error;
}

static uint32_t power_of_two(uint32_t value, uint32_t low, uint32_t high)
{
	uint32_t v = low;
	while (v < value && v < high)
		v *= 2;
	return v;
}

static int buffer_set(struct wh_net_tcp *s, bool receive, uint32_t value)
{
	const struct wh_net_config *c = &s->net->config;
	uint32_t v = power_of_two(value, c->tcp_buffer_start,
				  receive ? c->tcp_receive_max : c->tcp_send_max);
	if (receive)
		s->receive_max = v;
	else
		s->send_max = v;
	return 0;
}

int wh_net_tcp_set(struct wh_net_tcp *s, enum wh_net_tcp_option option, uint32_t value)
{
	switch (option) {
	case WH_NET_TCP_NODELAY:
		s->nodelay = value;
		tcp_work(s, TCP_WORK_OUTPUT);
		return 0;
	case WH_NET_TCP_CORK:
		s->cork = value;
		tcp_timer_clear(s, TCP_TIMER_CORK);
		tcp_work(s, TCP_WORK_OUTPUT);
		return 0;
	case WH_NET_TCP_KEEPALIVE:
		s->keepalive = value;
		tcp_keep_restart(s);
		return 0;
	case WH_NET_TCP_KEEP_IDLE_S:
	case WH_NET_TCP_KEEP_INTERVAL_S:
	case WH_NET_TCP_KEEP_COUNT:
		if (!value || value > 32767)
			return -WH_EINVAL;
		if (option == WH_NET_TCP_KEEP_IDLE_S)
			s->keep_idle_s = value;
		else if (option == WH_NET_TCP_KEEP_INTERVAL_S)
			s->keep_interval_s = value;
		else
			s->keep_count = value;
		tcp_keep_restart(s);
		return 0;
	case WH_NET_TCP_USER_TIMEOUT_MS:
		s->user_timeout_ms = value;
		return 0;
	case WH_NET_TCP_TOS:
		s->tos = (uint8_t)value;
		return 0;
	case WH_NET_TCP_HOP_LIMIT:
		if (value > 255)
			return -WH_EINVAL;
		s->hop_limit = (uint8_t)value;
		return 0;
	case WH_NET_TCP_RECEIVE_MAX:
		return buffer_set(s, true, value);
	case WH_NET_TCP_SEND_MAX:
		return buffer_set(s, false, value);
	case WH_NET_TCP_MSS:
		if (value < TCP_MSS_MIN || value > 65535)
			return -WH_EINVAL;
		s->mss_limit = (uint16_t)value;
		return 0;
	}
	return -WH_ENOPROTOOPT;
}

int wh_net_tcp_get(const struct wh_net_tcp *s, enum wh_net_tcp_option option, uint32_t *ret_value)
{
	const uint32_t values[] = {
		[WH_NET_TCP_NODELAY] = s->nodelay,
		[WH_NET_TCP_CORK] = s->cork,
		[WH_NET_TCP_KEEPALIVE] = s->keepalive,
		[WH_NET_TCP_KEEP_IDLE_S] = s->keep_idle_s,
		[WH_NET_TCP_KEEP_INTERVAL_S] = s->keep_interval_s,
		[WH_NET_TCP_KEEP_COUNT] = s->keep_count,
		[WH_NET_TCP_USER_TIMEOUT_MS] = s->user_timeout_ms,
		[WH_NET_TCP_TOS] = s->tos,
		[WH_NET_TCP_HOP_LIMIT] = s->hop_limit ? s->hop_limit : s->net->config.hop_limit,
		[WH_NET_TCP_RECEIVE_MAX] = s->receive_max,
		[WH_NET_TCP_SEND_MAX] = s->send_max,
		[WH_NET_TCP_MSS] = s->mss ? s->mss : s->mss_limit,
	};
	if ((unsigned)option >= WH_ARRAY_COUNT(values))
		return -WH_ENOPROTOOPT;
	*ret_value = values[option];
	return 0;
}

void wh_net_tcp_info(const struct wh_net_tcp *s, struct wh_net_tcp_info *ret_info)
{
	bool cc = s->net->config.cc;
	uint32_t flight = s->snd_nxt - s->snd_una, end = s->tx_sequence + s->tx.used;
	*ret_info = (struct wh_net_tcp_info){
		.state = s->entry.state,
		.mss_send = s->mss,
		.mss_receive = s->mss_receive,
		.rtt_ns = s->srtt,
		.rtt_variance_ns = s->rttvar,
		.rto_ns = s->rto,
		.window_send = s->snd_wnd,
		.window_receive = tcp_receive_room(s),
		.congestion_window = cc ? s->cc.cwnd : UINT32_MAX,
		.slow_start_threshold = cc ? s->cc.ssthresh : UINT32_MAX,
		.in_flight = flight,
		.unsent = tcp_before(s->snd_nxt, end) ? end - s->snd_nxt : 0,
		.unread = s->rx.used,
		.receive_size = s->rx.size,
		.send_size = s->tx.size,
		.bytes_received = s->bytes_received,
		.bytes_acked = s->bytes_acked,
		.segments_in = s->segments_in,
		.segments_out = s->segments_out,
		.retransmits = s->retransmits,
		.out_of_order = s->out_of_order,
		.sack = s->sack_ok,
		.timestamps = s->timestamps_ok,
		.scale = s->scale_ok,
		.scale_send = s->snd_scale,
		.scale_receive = s->rcv_scale,
	};
}

const char *wh_net_tcp_state_name(enum wh_net_tcp_state state)
{
	static const char *const names[] = {
		"?",          "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1",
		"FIN-WAIT-2", "TIME-WAIT",   "CLOSED",   "CLOSE-WAIT",   "LAST-ACK",
		"LISTEN",     "CLOSING",     "REQUESTED"
	};
	_Static_assert(WH_ARRAY_COUNT(names) == WH_NET_TCP_REQUESTED + 1, "one name a state");
	return (unsigned)state < WH_ARRAY_COUNT(names) ? names[state] : "?";
}
