/* SPDX-License-Identifier: ISC */
/*
 * Whole transfers in simulated time over wires that lose, reorder, double, mark and have little
 * room, by seed; churn and exhaustion; and a day of it.
 */
#include <stdio.h>
#include "ends.h"

#define FLOWS_MAX 64

static struct {
	struct sim sim;
	struct end client[FLOWS_MAX], server[FLOWS_MAX];
	bool used[FLOWS_MAX];
	struct wh_net_tcp *listener;
	uint64_t random;
} w;

static uint64_t random_below(uint64_t n)
{
	return wh_random_next(&w.random) % n;
}

/* The client's port tells which flow it is. */
static void on_accept(struct wh_net_tcp *l, uint32_t events)
{
	struct wh_net_tcp *s;
	while (!wh_net_tcp_take(l, &s)) {
		uint32_t i = wh_net_tcp_tuple(s)->remote.port % FLOWS_MAX;
		struct end *e = &w.server[i];
		if (!w.used[i] || e->s) {
			wh_net_tcp_abort(s);
			continue;
		}
		e->s = s;
		wh_net_tcp_set_ops(s, &end_ops, e);
		e->connected = true;
		end_pump(e);
	}
}
static const struct wh_net_tcp_ops listen_ops = { .event = on_accept };

static void begin(const struct wh_net_config *a, const struct wh_net_config *b, uint32_t features)
{
	memset(&w.used, 0, sizeof w.used);
	w.random = test_seed() ^ 0x5151;
	sim_init(&w.sim, a, b, features, 1500);
	struct sim_side *sides[] = { &w.sim.a, &w.sim.b };
	for (int i = 0; i < 2; i++) {
		struct sim_side *o = sides[i]->other;
		CHECK_EQ(wh_net_neighbour_set(sides[i]->net, &o->ip4, o->mac), 0);
		CHECK_EQ(wh_net_neighbour_set(sides[i]->net, &o->ip6, o->mac), 0);
	}
	struct wh_net_end any = { .port = 80 };
	CHECK_EQ(wh_net_tcp_listen(w.sim.b.net, &any, false, 64, &listen_ops, 0, &w.listener), 0);
}

static int flow_open(uint32_t i, uint64_t up, uint64_t down, bool six)
{
	struct wh_net_tuple t = sim_tuple(&w.sim.a, &w.sim.b, 80, six);
	t.local.port = (uint16_t)(20000 + random_below(500) * FLOWS_MAX);
	t.local.port = (uint16_t)(t.local.port - t.local.port % FLOWS_MAX + i);
	w.client[i] = (struct end){
		.side = &w.sim.a, .send_total = up, .receive_total = down, .pattern = (uint8_t)i
	};
	w.server[i] = (struct end){ .side = &w.sim.b,
				    .send_total = down,
				    .receive_total = up,
				    .pattern = (uint8_t)(i ^ 0x55) };
	int error = wh_net_tcp_connect(w.sim.a.net, &t, &end_ops, &w.client[i], &w.client[i].s);
	w.used[i] = !error;
	return error;
}

static bool end_done(const struct end *e)
{
	return e->failed || (e->received == e->receive_total && e->peer_closed && e->drained);
}

static bool flow_done(uint32_t i)
{
	return end_done(&w.client[i]) && end_done(&w.server[i]);
}

static void flow_close(uint32_t i)
{
	wh_net_tcp_close(w.client[i].s);
	wh_net_tcp_close(w.server[i].s);
	w.used[i] = false;
}

static bool all_done(void *ctx)
{
	for (uint32_t i = 0; i < FLOWS_MAX; i++)
		if (w.used[i] && !flow_done(i))
			return false;
	return true;
}

static void finish(void)
{
	struct wh_net_stats a, b;
	for (uint32_t i = 0; i < FLOWS_MAX; i++)
		if (w.used[i])
			flow_close(i);
	wh_net_tcp_close(w.listener);
	sim_run(&w.sim, 400 * SEC, 0, 0);
	wh_net_stats_get(w.sim.a.net, &a);
	wh_net_stats_get(w.sim.b.net, &b);
	CHECK_EQ(a.tcp_sockets + b.tcp_sockets, 0);
	CHECK_EQ(a.tcp_time_wait + b.tcp_time_wait, 0);
	CHECK_EQ(a.tcp_half_open + b.tcp_half_open, 0);
	CHECK_EQ(a.tcp_buffer_bytes + b.tcp_buffer_bytes, 0);
	sim_fini(&w.sim);
	CHECK_EQ(test_alloc_live(), 0);
}

/* ---- Any wire, any options ---- */

static void random_wire(uint64_t seed)
{
	struct wh_net_config a, b;
	sim_config(&a);
	sim_config(&b);
	w.random = seed;
	a.cc = b.cc = random_below(2) ? &wh_net_cc_cubic : &wh_net_cc_reno;
	a.ecn = random_below(2);
	a.tcp_receive_max = b.tcp_send_max = 16384u << random_below(7);
	uint32_t features =
		random_below(2) ? WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6 : 0;
	begin(&a, &b, features);
	w.random = seed;
	w.sim.random = seed ^ 77;
	w.sim.delay = 10000ull << random_below(13);
	w.sim.jitter = random_below(3) ? 0 : w.sim.delay * (1 + random_below(3));
	w.sim.loss_percent = (uint32_t)(random_below(2) * random_below(12));
	w.sim.duplicate_percent = (uint32_t)(random_below(2) * random_below(12));
	w.sim.capacity = random_below(4) ? 0 : 2 + (uint32_t)random_below(30);
	if (!features && random_below(2)) {
		w.sim.rate = 125000u << random_below(8);
		w.sim.backlog_bytes = 8000u << random_below(6);
		w.sim.mark_bytes = random_below(2) ? (uint32_t)w.sim.backlog_bytes / 3 : 0;
	}
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(flow_open(i, random_below(400000), random_below(200000), random_below(2)),
			 0);
	bool done = sim_run(&w.sim, 4000 * SEC, all_done, 0);
	if (!done)
		test_fail(__FILE__, __LINE__, "not done: wire %llu", (unsigned long long)seed);
	for (uint32_t i = 0; i < 3; i++)
		if (w.client[i].failed || w.server[i].failed)
			test_fail(__FILE__, __LINE__, "failed: wire %llu",
				  (unsigned long long)seed);
	w.sim.loss_percent = 0;
	finish();
}

static void random_wires(void)
{
	for (uint64_t i = 0; i < 400; i++)
		random_wire(test_seed() * 1000 + i);
}

/* ---- How well it is used ---- */

/* One flow of `bytes` through the bottleneck: per cent of its rate. */
static uint32_t utilisation(const struct wh_net_tcp_cc *cc, uint64_t rate, uint64_t delay,
			    uint64_t backlog, uint32_t loss, uint32_t mark, uint64_t bytes)
{
	struct wh_net_config a;
	struct wh_net_stats st;
	sim_config(&a);
	a.cc = cc;
	a.ecn = mark;
	a.tcp_send_max = a.tcp_receive_max = 4u << 20;
	begin(&a, &a, 0);
	w.sim.rate = rate;
	w.sim.backlog_bytes = backlog;
	w.sim.delay = delay;
	w.sim.loss_percent = loss;
	w.sim.mark_bytes = mark;
	CHECK_EQ(flow_open(0, bytes, 0, false), 0);
	uint64_t start = w.sim.now;
	CHECK(sim_run(&w.sim, 3000 * SEC, all_done, 0));
	uint64_t took = w.sim.now - start;
	wh_net_stats_get(w.sim.a.net, &st);
	printf("# %s %llu kB/s %llu ms buffer %llu loss %u%% mark %u: %llu%%, repeats %llu, "
	       "time-outs %llu, recoveries %llu, undone %llu, marks %u\n",
	       cc->name, (unsigned long long)rate / 1000, (unsigned long long)delay * 2 / MS,
	       (unsigned long long)backlog, loss, mark,
	       (unsigned long long)(bytes * 100 * SEC / rate / took),
	       (unsigned long long)st.tcp_retransmits, (unsigned long long)st.tcp_timeouts,
	       (unsigned long long)st.tcp_recoveries, (unsigned long long)st.tcp_undone,
	       w.sim.b.marked);
	if (mark) { /* congestion was told, so nothing had to be dropped */
		CHECK(w.sim.b.marked && st.tcp_ecn_reduced);
		CHECK_EQ(w.sim.b.dropped, 0);
	}
	if (!loss)
		CHECK_EQ(st.tcp_timeouts, 0);
	w.sim.loss_percent = 0;
	finish();
	return (uint32_t)(bytes * 100 * SEC / rate / took);
}

/* Knows what nobody can: the window that fills the wire and no more (1.25 MB/s, 40 ms), and that losses are no congestion. No
 * algorithm that models the path (BBR) does better on a wire of its own. */
static void oracle_init(struct wh_net_cc_state *c, uint32_t mss)
{
	*c = (struct wh_net_cc_state){ .cwnd = 60000, .ssthresh = 60000, .mss = mss };
}
static void oracle_acked(struct wh_net_cc_state *c, const struct wh_net_cc_ack *ack)
{
	c->cwnd = 60000;
}
static void oracle_lost(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now)
{
}
static void oracle_idle(struct wh_net_cc_state *c)
{
}
static const struct wh_net_tcp_cc oracle = { "oracle",    oracle_init, oracle_acked,
					     oracle_lost, oracle_lost, oracle_idle };

/* What congestion control has to gain (README.md: why it is CUBIC). */
static void cubic_beside_an_oracle(void)
{
	static const struct {
		uint32_t backlog, loss, lag; /* lag: per cent behind the oracle that are allowed */
	} wires[] = { { 50000, 0, 10 }, { 50000, 1, 75 }, { 50000, 3, 90 } };
	for (size_t i = 0; i < WH_ARRAY_COUNT(wires); i++) {
		uint32_t best = utilisation(&oracle, 1250000, 20 * MS, wires[i].backlog,
					    wires[i].loss, 0, 20000000);
		uint32_t ours = utilisation(&wh_net_cc_cubic, 1250000, 20 * MS, wires[i].backlog,
					    wires[i].loss, 0, 20000000);
		CHECK(best >= 70 && ours + wires[i].lag >= best);
	}
}

static void bottlenecks(void)
{
	static const struct wh_net_tcp_cc *const ccs[] = { &wh_net_cc_reno, &wh_net_cc_cubic };
	for (int i = 0; i < 2; i++) {
		/* A delay-bandwidth product of 50 kB and as much, or a third, of queue. */
		CHECK(utilisation(ccs[i], 1250000, 20 * MS, 50000, 0, 0, 20000000) >= 85);
		CHECK(utilisation(ccs[i], 1250000, 20 * MS, 17000, 0, 0, 20000000) >= 70);
		CHECK(utilisation(ccs[i], 1250000, 20 * MS, 100000, 0, 30000, 20000000) >= 70);
		CHECK(utilisation(ccs[i], 125000, 20 * MS, 30000, 1, 0, 3000000) >= 70);
	}
	CHECK(utilisation(&wh_net_cc_cubic, 12500000, 50 * MS, 600000, 0, 0, 100000000) >= 70);
}

/* Disorder within a quarter of a round trip is not loss (RFC 8985). */
static void disorder(void)
{
	struct wh_net_config a;
	struct wh_net_stats st;
	sim_config(&a);
	a.cc = &wh_net_cc_cubic;
	begin(&a, &a, 0);
	w.sim.delay = 10 * MS;
	w.sim.jitter = 3 * MS;
	CHECK_EQ(flow_open(0, 5000000, 0, false), 0);
	CHECK(sim_run(&w.sim, 300 * SEC, all_done, 0));
	wh_net_stats_get(w.sim.a.net, &st);
	printf("# disorder: repeats %llu of %llu, undone %llu\n",
	       (unsigned long long)st.tcp_retransmits, (unsigned long long)st.tcp_out,
	       (unsigned long long)st.tcp_undone);
	CHECK(st.tcp_retransmits * 50 < st.tcp_out);
	finish();
}

/* ---- Exhaustion ---- */

static void table_full(void)
{
	struct wh_net_config a, b;
	struct wh_net_stats st;
	uint32_t failed = 0, opened = 0;
	sim_config(&a);
	sim_config(&b);
	a.tcp_sockets_max = 41;
	b.tcp_sockets_max = 20;
	begin(&a, &b, 0);
	for (uint32_t i = 0; i < 40; i++)
		opened += !flow_open(i, 1000, 1000, false);
	CHECK_EQ(opened, 40);
	CHECK_EQ(flow_open(40, 0, 0, false), 0);
	CHECK_EQ(flow_open(41, 0, 0, false), -WH_ENOBUFS);
	sim_run(&w.sim, 5 * SEC, 0, 0);
	wh_net_stats_get(w.sim.b.net, &st);
	CHECK(st.tcp_sockets <= 20);
	CHECK(st.tcp_backlog_dropped > 0);
	/* Those that were served make room for the others, whose SYNs come again. */
	for (int round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < 41; i++)
			if (w.used[i] && flow_done(i)) {
				failed += w.client[i].failed;
				flow_close(i);
			}
		sim_run(&w.sim, SEC, 0, 0);
	}
	for (uint32_t i = 0; i < 41; i++)
		CHECK(!w.used[i]);
	CHECK_EQ(failed, 0);
	finish();
}

/* Every port of the range in use, then one more; and all of them again through TIME-WAIT. */
static void ports_exhausted(void)
{
	struct wh_net_config a;
	struct wh_net_tuple t;
	struct wh_net_tcp *s;
	static struct wh_net_tcp *all[28300];
	static const struct wh_net_tcp_ops none;
	uint32_t count = 0;
	int error;
	sim_config(&a);
	begin(&a, &a, 0);
	w.sim.b.blocked = true; /* nobody answers, nothing is sent: only ports are used */
	w.sim.a.blocked = true;
	t = sim_tuple(&w.sim.a, &w.sim.b, 81, false);
	while (!(error = wh_net_tcp_connect(w.sim.a.net, &t, &none, 0, &s)))
		all[count++] = s;
	CHECK_EQ(error, -WH_EADDRINUSE);
	CHECK_EQ(count, 28232);
	t.remote.port = 82; /* another peer has all of them anew */
	CHECK_EQ(wh_net_tcp_connect(w.sim.a.net, &t, &none, 0, &s), 0);
	wh_net_tcp_abort(s);
	for (uint32_t i = 0; i < count; i++)
		wh_net_tcp_abort(all[i]);
	w.sim.a.blocked = w.sim.b.blocked = false;
	finish();
}

/* ---- A day ---- */

static void day_step(uint32_t *served, uint32_t *failed)
{
	for (uint32_t i = 0; i < FLOWS_MAX; i++) {
		if (w.used[i] && flow_done(i)) {
			*failed += w.client[i].failed || w.server[i].failed;
			flow_close(i);
			++*served;
		}
	}
	uint32_t i = (uint32_t)random_below(FLOWS_MAX);
	if (w.used[i])
		return;
	uint64_t size = 1ull << random_below(15);
	/* -WH_EADDRINUSE: this port is in TIME-WAIT no more than by chance. */
	(void)flow_open(i, random_below(size), random_below(size), random_below(2));
}

static void day(void)
{
	struct wh_net_config a;
	struct wh_net_stats st;
	uint32_t served = 0, failed = 0;
	long live_early = 0, live = 0;
	sim_config(&a);
	a.cc = &wh_net_cc_cubic;
	a.tcp_time_wait_max = 16;
	begin(&a, &a, 0);
	w.sim.delay = 5 * MS;
	w.sim.jitter = 3 * MS;
	w.sim.loss_percent = 1;
	w.sim.duplicate_percent = 1;
	for (uint32_t i = 0; i < 24 * 3600 / 5; i++) {
		day_step(&served, &failed);
		sim_run(&w.sim, 5 * SEC, 0, 0);
		live = test_alloc_live();
		if (i == 720)
			live_early = live;
	}
	wh_net_stats_get(w.sim.b.net, &st);
	printf("# day: %u connections, %u failed, %ld blocks after an hour, %ld at the end\n",
	       served, failed, live_early, live);
	CHECK(served > 15000);
	CHECK_EQ(failed, 0);
	CHECK(live < live_early + 100);
	w.sim.loss_percent = 0;
	finish();
}

int main(void)
{
	RUN(random_wires);
	RUN(bottlenecks);
	RUN(cubic_beside_an_oracle);
	RUN(disorder);
	RUN(table_full);
	RUN(ports_exhausted);
	RUN(day);
	return test_end();
}
