/* SPDX-License-Identifier: ISC */
/*
 * CUBIC, RFC 9438, in integers: windows in bytes, time in milliseconds.
 * W(t) = C (t - K)^3 + W_max with C = 0.4, beta = 0.7.
 *
 * The first slow start is left by HyStart++ (RFC 9406): when a round's least round-trip time
 * exceeds that of the round before by an eighth, a queue is building. Then the window
 * grows a quarter as fast, and after five such rounds slow start is over, before anything is
 * lost; if the time falls again, it was noise.
 */
#include "net_priv.h"

enum { W_MAX, EPOCH, K_MS, W_EST, EST_ACKED, ROUND_MIN, LAST_MIN, SAMPLES, CSS_BASE, CSS_ROUNDS };

#define HYSTART_SAMPLES 8u /* RFC 9406, 4.3 */
#define HYSTART_LEAST_NS (4 * NET_MS)
#define HYSTART_MOST_NS (16 * NET_MS)
#define HYSTART_DIVISOR 4u
#define HYSTART_ROUNDS 5u
#define HYSTART_BURST 8u /* segments of growth per acknowledgement */

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
	c->private_[ROUND_MIN] = c->private_[LAST_MIN] = UINT64_MAX;
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

static void hystart_round(uint64_t *p)
{
	p[LAST_MIN] = p[ROUND_MIN];
	p[ROUND_MIN] = UINT64_MAX;
	p[SAMPLES] = 0;
	if (p[CSS_BASE])
		p[CSS_ROUNDS]++;
}

/* Slow start until the first loss. Returns the bytes to grow by. */
static uint32_t hystart(struct wh_net_cc_state *c, const struct wh_net_cc_ack *ack)
{
	uint64_t *p = c->private_;
	uint32_t most = HYSTART_BURST * c->mss, bytes = ack->bytes < most ? ack->bytes : most;
	if (ack->round)
		hystart_round(p);
	if (ack->rtt_ns) {
		p[SAMPLES]++;
		if (ack->rtt_ns < p[ROUND_MIN])
			p[ROUND_MIN] = ack->rtt_ns;
	}
	if (p[SAMPLES] < HYSTART_SAMPLES || p[LAST_MIN] == UINT64_MAX)
		return p[CSS_BASE] ? bytes / HYSTART_DIVISOR : bytes;
	if (p[CSS_BASE]) {
		if (p[ROUND_MIN] < p[CSS_BASE])
			p[CSS_BASE] = p[CSS_ROUNDS] = 0; /* it was noise */
		else if (p[CSS_ROUNDS] >= HYSTART_ROUNDS)
			c->ssthresh = c->cwnd;
		return bytes / HYSTART_DIVISOR;
	}
	uint64_t more = p[LAST_MIN] / 8;
	more = more < HYSTART_LEAST_NS  ? HYSTART_LEAST_NS
	       : more > HYSTART_MOST_NS ? HYSTART_MOST_NS
					: more;
	if (p[ROUND_MIN] >= p[LAST_MIN] + more) {
		p[CSS_BASE] = p[ROUND_MIN];
		p[CSS_ROUNDS] = 0;
	}
	return bytes;
}

static void avoidance(struct wh_net_cc_state *c, const struct wh_net_cc_ack *ack)
{
	uint64_t *p = c->private_;
	if (!p[EPOCH])
		epoch_start(c, ack->now);
	uint64_t goal = target(c, (ack->now - p[EPOCH] + ack->srtt_ns) / NET_MS);
	if (goal > c->cwnd + c->cwnd / 2)
		goal = c->cwnd + c->cwnd / 2; /* RFC 9438, 4.4 */
	/* The Reno-friendly estimate grows by alpha = 3 (1-b) / (1+b) = 0.53. */
	p[EST_ACKED] += ack->bytes;
	uint64_t gain = p[EST_ACKED] * c->mss / (c->cwnd ? c->cwnd : 1) * 53 / 100;
	uint64_t friendly = p[W_EST] + gain;
	if (goal > c->cwnd)
		c->cwnd += (uint32_t)((goal - c->cwnd) * ack->bytes / c->cwnd);
	if (friendly > c->cwnd)
		c->cwnd = (uint32_t)friendly;
}

static void cubic_acked(struct wh_net_cc_state *c, const struct wh_net_cc_ack *ack)
{
	if (c->ssthresh == UINT32_MAX)
		c->cwnd += ack->limited ? hystart(c, ack) : 0;
	else if (!ack->limited)
		return;
	else if (c->cwnd < c->ssthresh)
		c->cwnd += ack->bytes;
	else
		avoidance(c, ack);
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
