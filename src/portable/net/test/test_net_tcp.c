/* SPDX-License-Identifier: ISC */
/* TCP between two stacks on the simulated wire. */
#include "sim.h"

/* One end of a transfer: sends `send_total` patterned bytes, checks what comes. */
struct end {
	struct sim_side *side;
	struct wh_net_tcp *s;
	uint64_t sent, send_total, received, receive_total;
	uint8_t pattern;
	bool connected, peer_closed, drained, failed, shut, slow, direct;
	int error;
};

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

static void end_pump(struct end *e)
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

static void end_read(struct end *e, uint32_t most)
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

static const struct wh_net_tcp_ops end_ops = { .event = on_event, .data = on_data };

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
