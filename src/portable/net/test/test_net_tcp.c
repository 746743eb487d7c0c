/* SPDX-License-Identifier: ISC */
/* TCP between two stacks on the simulated wire. */
#include "ends.h"

static struct {
	struct sim sim;
	struct end client, server;
	struct wh_net_tcp *listener;
} w;

static void on_accept(struct wh_net_tcp *l, uint32_t events)
{
	struct end *e = wh_net_tcp_ctx(l);
	if (wh_net_tcp_take(l, &e->s))
		return;
	wh_net_tcp_set_ops(e->s, &end_ops, e);
	e->connected = true;
	end_pump(e);
}

static const struct wh_net_tcp_ops listen_ops = { .event = on_accept };

static void ends_init(uint64_t up, uint64_t down)
{
	w.client = (struct end){
		.side = &w.sim.a, .send_total = up, .receive_total = down, .pattern = 3
	};
	w.server = (struct end){
		.side = &w.sim.b, .send_total = down, .receive_total = up, .pattern = 3 ^ 0x55
	};
}

static void begin(uint32_t features, uint32_t mtu, uint64_t up, uint64_t down)
{
	struct wh_net_config c;
	sim_config(&c);
	sim_init(&w.sim, &c, &c, features, mtu);
	ends_init(up, down);
}

static void open_both(bool six)
{
	struct wh_net_end local = { six ? w.sim.b.ip6 : w.sim.b.ip4, 80 };
	struct wh_net_tuple t = sim_tuple(&w.sim.a, &w.sim.b, 80, six);
	CHECK_EQ(wh_net_tcp_listen(w.sim.b.net, &local, false, 8, &listen_ops, &w.server,
				   &w.listener),
		 0);
	CHECK_EQ(wh_net_tcp_connect(w.sim.a.net, &t, &end_ops, &w.client, &w.client.s), 0);
}

static bool all_done(void *ctx)
{
	struct end *ends[] = { &w.client, &w.server };
	for (int i = 0; i < 2; i++)
		if (!ends[i]->failed && (ends[i]->received < ends[i]->receive_total ||
					 !ends[i]->peer_closed || !ends[i]->drained))
			return false;
	return true;
}

static void finish(void)
{
	CHECK(!w.client.failed && !w.server.failed);
	CHECK_EQ(w.client.received, w.client.receive_total);
	CHECK_EQ(w.server.received, w.server.receive_total);
	wh_net_tcp_close(w.client.s);
	wh_net_tcp_close(w.server.s);
	wh_net_tcp_close(w.listener);
	sim_run(&w.sim, 200 * SEC, 0, 0);
	struct wh_net_stats a, b;
	wh_net_stats_get(w.sim.a.net, &a);
	wh_net_stats_get(w.sim.b.net, &b);
	CHECK_EQ(a.tcp_sockets + b.tcp_sockets, 0);
	CHECK_EQ(a.tcp_time_wait + b.tcp_time_wait, 0);
	CHECK_EQ(a.tcp_buffer_bytes + b.tcp_buffer_bytes, 0);
	sim_fini(&w.sim);
	CHECK_EQ(test_alloc_live(), 0);
}

static void transfer(uint32_t features, uint32_t mtu, bool six)
{
	begin(features, mtu, 3000000, 1000000);
	open_both(six);
	CHECK(sim_run(&w.sim, 60 * SEC, all_done, 0));
	finish();
}

static void plain_v4(void)
{
	transfer(0, 1500, false);
}
static void plain_v6(void)
{
	transfer(0, 1500, true);
}
static void offload_v4(void)
{
	transfer(WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6, 1500, false);
}
static void offload_v6(void)
{
	transfer(WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6, 1500, true);
}

static void direct_data(void)
{
	begin(0, 1500, 2000000, 2000000);
	w.client.direct = w.server.direct = true;
	open_both(false);
	CHECK(sim_run(&w.sim, 60 * SEC, all_done, 0));
	finish();
}

static void lossy(uint32_t loss, uint32_t duplicate, uint64_t jitter, uint32_t features,
		  uint64_t bytes)
{
	begin(features, 1500, bytes, bytes / 2);
	w.sim.loss_percent = loss;
	w.sim.duplicate_percent = duplicate;
	w.sim.jitter = jitter;
	/* Three lost questions in a row would end it; that is not what is tested here. */
	struct sim_side *sides[] = { &w.sim.a, &w.sim.b };
	for (int i = 0; i < 2; i++) {
		struct sim_side *o = sides[i]->other;
		CHECK_EQ(wh_net_neighbour_set(sides[i]->net, &o->ip4, o->mac), 0);
		CHECK_EQ(wh_net_neighbour_set(sides[i]->net, &o->ip6, o->mac), 0);
	}
	open_both(loss & 1);
	CHECK(sim_run(&w.sim, 3000 * SEC, all_done, 0));
	w.sim.loss_percent = 0;
	finish();
}

static void loss_1(void)
{
	lossy(1, 0, 0, 0, 2000000);
}
static void loss_10(void)
{
	lossy(10, 5, 100000, 0, 300000);
}
static void loss_30(void)
{
	lossy(30, 0, 0, 0, 50000);
}
static void reorder(void)
{
	lossy(0, 0, 2 * MS, 0, 2000000);
}
static void duplicate(void)
{
	lossy(0, 50, 500000, 0, 1000000);
}
static void loss_offload(void)
{
	lossy(3, 3, 200000, WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6, 2000000);
}

static void link_full(void)
{
	begin(0, 1500, 1000000, 1000000);
	w.sim.capacity = 4;
	open_both(false);
	CHECK(sim_run(&w.sim, 60 * SEC, all_done, 0));
	finish();
}

static void refused(void)
{
	begin(0, 1500, 0, 0);
	struct wh_net_tuple t = sim_tuple(&w.sim.a, &w.sim.b, 81, false);
	CHECK_EQ(wh_net_tcp_connect(w.sim.a.net, &t, &end_ops, &w.client, &w.client.s), 0);
	sim_run(&w.sim, SEC, 0, 0);
	CHECK(w.client.failed);
	CHECK_EQ(w.client.error, WH_ECONNREFUSED);
	wh_net_tcp_close(w.client.s);
	sim_run(&w.sim, SEC, 0, 0);
	sim_fini(&w.sim);
	CHECK_EQ(test_alloc_live(), 0);
}

int main(void)
{
	RUN(plain_v4);
	RUN(plain_v6);
	RUN(offload_v4);
	RUN(offload_v6);
	RUN(direct_data);
	RUN(loss_1);
	RUN(loss_10);
	RUN(loss_30);
	RUN(reorder);
	RUN(duplicate);
	RUN(loss_offload);
	RUN(link_full);
	RUN(refused);
	return test_end();
}
