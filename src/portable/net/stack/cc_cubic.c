/* SPDX-License-Identifier: ISC */
/*
 * CUBIC, RFC 9438, in integers: windows in bytes, time in milliseconds.
 * W(t) = C (t - K)^3 + W_max with C = 0.4, beta = 0.7.
 */
#include "net_priv.h"

enum { W_MAX, EPOCH, K_MS, W_EST, EST_ACKED, CWND_PRIOR };

#define BETA_TENTHS 7u

static uint32_t initial(uint32_t mss)
{
	uint32_t limit = 2 * mss > 14600 ? 2 * mss : 14600;
	return 10 * mss < limit ? 10 * mss : limit;
}

static uint64_t cube_root(uint64_t v)
{
	uint64_t low = 0, high = 2097152; /* 2^21: its cube is 2^63 */
	while (low + 1 < high) {
		uint64_t middle = (low + high) / 2;
		if (middle * middle * middle <= v)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static void cubic_init(struct wh_net_cc_state *c, uint32_t mss)
{
	*c = (struct wh_net_cc_state){ .cwnd = initial(mss), .ssthresh = UINT32_MAX, .mss = mss };
}

static void epoch_start(struct wh_net_cc_state *c, uint64_t now)
{
	uint64_t *p = c->private_;
	p[EPOCH] = now ? now : 1;
	p[W_EST] = c->cwnd;
	p[EST_ACKED] = 0;
	if (p[W_MAX] < c->cwnd)
		p[W_MAX] = c->cwnd;
	/* K = cbrt((W_max - cwnd) / C) in seconds of segments; in ms: cbrt(x * 2.5e9). */
	uint64_t segments_thousandth = (p[W_MAX] - c->cwnd) * 1000 / c->mss;
	p[K_MS] = cube_root(segments_thousandth * 2500000);
}

/* The target in bytes at time t (ms) of the epoch. */
static uint64_t target(const struct wh_net_cc_state *c, uint64_t t_ms)
{
	int64_t d = (int64_t)t_ms - (int64_t)c->private_[K_MS];
	if (d > 100000)
		d = 100000;
	/* 0.4 d^3 segments with d in s: 4 d_ms^3 / 10^10 */
	int64_t segments_thousandth = d * d * d / 2500000;
	int64_t w = (int64_t)c->private_[W_MAX] + segments_thousandth * (int64_t)c->mss / 1000;
	return w < (int64_t)c->mss * 2 ? c->mss * 2 : (uint64_t)w;
}

static void cubic_acked(struct wh_net_cc_state *c, uint32_t acked, uint64_t now, uint64_t rtt_ns,
			bool limited)
{
	uint64_t *p = c->private_;
	if (!limited)
		return;
	if (c->cwnd < c->ssthresh) {
		c->cwnd += acked;
	} else {
		if (!p[EPOCH])
			epoch_start(c, now);
		uint64_t goal = target(c, (now - p[EPOCH] + rtt_ns) / NET_MS);
		if (goal > c->cwnd + c->cwnd / 2)
			goal = c->cwnd + c->cwnd / 2; /* RFC 9438, 4.4 */
		/* The Reno-friendly estimate grows by alpha = 3 (1-b) / (1+b) = 0.53. */
		p[EST_ACKED] += acked;
		uint64_t gain = p[EST_ACKED] * c->mss / (c->cwnd ? c->cwnd : 1) * 53 / 100;
		uint64_t friendly = p[W_EST] + gain;
		if (goal > c->cwnd)
			c->cwnd += (uint32_t)((goal - c->cwnd) * acked / c->cwnd);
		if (friendly > c->cwnd)
			c->cwnd = (uint32_t)friendly;
	}
	if (c->cwnd > 1u << 30)
		c->cwnd = 1u << 30;
}

static void reduce(struct wh_net_cc_state *c, uint32_t in_flight)
{
	uint64_t *p = c->private_;
	/* Fast convergence, RFC 9438, 4.7. */
	p[W_MAX] = c->cwnd < p[W_MAX] ? (uint64_t)c->cwnd * (10 + BETA_TENTHS) / 20 : c->cwnd;
	uint32_t base = in_flight < c->cwnd ? in_flight : c->cwnd;
	uint32_t reduced = (uint32_t)((uint64_t)base * BETA_TENTHS / 10);
	c->ssthresh = reduced > 2 * c->mss ? reduced : 2 * c->mss;
	p[EPOCH] = 0;
}

static void cubic_lost(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now)
{
	reduce(c, in_flight);
	c->cwnd = c->ssthresh;
}

static void cubic_timeout(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now)
{
	reduce(c, in_flight);
	c->cwnd = c->mss;
}

static void cubic_idle(struct wh_net_cc_state *c)
{
	if (c->cwnd > initial(c->mss))
		c->cwnd = initial(c->mss);
	c->private_[EPOCH] = 0;
}

const struct wh_net_tcp_cc wh_net_cc_cubic = { .name = "cubic",
					       .init = cubic_init,
					       .acked = cubic_acked,
					       .lost = cubic_lost,
					       .timeout = cubic_timeout,
					       .idle = cubic_idle };
