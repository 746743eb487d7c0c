/* SPDX-License-Identifier: ISC */
/* Reno: RFC 5681 with byte counting (RFC 3465) and the initial window of RFC 6928. */
#include "net_priv.h"

static uint32_t initial(uint32_t mss)
{
	uint32_t limit = 2 * mss > 14600 ? 2 * mss : 14600;
	return 10 * mss < limit ? 10 * mss : limit;
}

static void reno_init(struct wh_net_cc_state *c, uint32_t mss)
{
	*c = (struct wh_net_cc_state){ .cwnd = initial(mss), .ssthresh = UINT32_MAX, .mss = mss };
}

static void reno_acked(struct wh_net_cc_state *c, const struct wh_net_cc_ack *ack)
{
	if (!ack->limited) /* RFC 7661: a window that is not used proves nothing */
		return;
	if (c->cwnd < c->ssthresh) {
		c->cwnd += ack->bytes;
	} else {
		c->private_[0] += ack->bytes;
		if (c->private_[0] >= c->cwnd) {
			c->private_[0] -= c->cwnd;
			c->cwnd += c->mss;
		}
	}
	if (c->cwnd > 1u << 30)
		c->cwnd = 1u << 30;
}

static void halve(struct wh_net_cc_state *c, uint32_t in_flight)
{
	uint32_t half = in_flight / 2;
	c->ssthresh = half > 2 * c->mss ? half : 2 * c->mss;
	c->private_[0] = 0;
}

static void reno_lost(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now)
{
	halve(c, in_flight);
	c->cwnd = c->ssthresh;
}

static void reno_timeout(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now)
{
	halve(c, in_flight);
	c->cwnd = c->mss;
}

static void reno_idle(struct wh_net_cc_state *c)
{
	if (c->cwnd > initial(c->mss))
		c->cwnd = initial(c->mss);
}

const struct wh_net_tcp_cc wh_net_cc_reno = { .name = "reno",
					      .init = reno_init,
					      .acked = reno_acked,
					      .lost = reno_lost,
					      .timeout = reno_timeout,
					      .idle = reno_idle };
