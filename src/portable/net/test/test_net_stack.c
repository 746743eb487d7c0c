/* SPDX-License-Identifier: ISC */
/* The stack below and beside TCP, and its use of memory, between two instances. */
#include "sim.h"

static struct sim sim;

static void begin(uint32_t features, uint32_t mtu)
{
	struct wh_net_config c;
	sim_config(&c);
	sim_init(&sim, &c, &c, features, mtu);
}

static void end(void)
{
	sim_fini(&sim);
	CHECK_EQ(test_alloc_live(), 0);
}

/* ---- UDP ---- */

static struct {
	uint32_t count, size, error;
	uint8_t bytes[70000];
	struct wh_net_tuple tuple;
} got;

static void on_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	got.count++;
	got.size = size;
	got.tuple = *tuple;
	CHECK_EQ(wh_iov_read(iov, count, 0, got.bytes, sizeof got.bytes), size);
}

static void on_error(struct wh_net_udp *u, const struct wh_net_tuple *tuple, int error)
{
	got.error = (uint32_t)error;
}

static const struct wh_net_udp_ops udp_ops = { .datagram = on_datagram, .error = on_error };

static void udp_sizes(void)
{
	static uint8_t data[65507];
	static const uint32_t sizes[] = { 0, 1, 100, 1472, 1473, 2000, 9000, 65507 };
	struct wh_net_udp *server, *client;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	for (int six = 0; six < 2; six++) {
		begin(0, 1500);
		struct wh_net_tuple local = { .local = { .port = 5353 } };
		struct wh_net_tuple t = sim_tuple(&sim.a, &sim.b, 5353, six), any = { 0 };
		CHECK_EQ(wh_net_udp_open(sim.b.net, &local, 0, &udp_ops, 0, &server), 0);
		CHECK_EQ(wh_net_udp_open(sim.a.net, &any, 0, &udp_ops, 0, &client), 0);
		t.local.port = wh_net_udp_tuple(client)->local.port;
		for (size_t i = 0; i < WH_ARRAY_COUNT(sizes); i++) {
			struct wh_iov iov = { data, sizes[i] };
			memset(&got, 0, sizeof got);
			CHECK_EQ(wh_net_udp_send(sim.a.net, client, &t, &iov, 1, 0), (int)sizes[i]);
			sim_run(&sim, SEC, 0, 0);
			CHECK_EQ(got.count, 1);
			CHECK_EQ(got.size, sizes[i]);
			CHECK_MEM(got.bytes, data, sizes[i]);
			CHECK_EQ(got.tuple.remote.port, t.local.port);
		}
		struct wh_iov big = { data, sizeof data };
		struct wh_net_send_options whole = { .dont_fragment = true };
		CHECK_EQ(wh_net_udp_send(sim.a.net, client, &t, &big, 1, &whole), -WH_EMSGSIZE);
		end();
	}
}

/* Several datagrams in one call, over links that take them as one frame and links that do not: odd sizes, a short last
 * one, one that is no more than a segment, and one whose segments need fragments. */
static void udp_segments(void)
{
	static uint8_t data[64000];
	static const struct {
		uint32_t size, segment, count;
	} cases[] = { { 1400, 1400, 1 },   { 1401, 1400, 2 }, { 2800, 1400, 2 },
		      { 12345, 1111, 12 }, { 777, 7, 111 },   { 63000, 1472, 43 },
		      { 9000, 2000, 5 },   { 0, 100, 1 } };
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	for (int kind = 0; kind < 4; kind++) {
		bool six = kind & 1, uso = kind & 2;
		begin(0, 1500);
		sim.a.port.link_features = uso ? WH_NET_LINK_CSUM | WH_NET_LINK_USO : 0;
		struct wh_net_tuple local = { .local = { .port = 5353 } };
		struct wh_net_tuple t = sim_tuple(&sim.a, &sim.b, 5353, six);
		struct wh_net_udp *server;
		CHECK_EQ(wh_net_udp_open(sim.b.net, &local, 0, &udp_ops, 0, &server), 0);
		CHECK_EQ(wh_net_udp_send(sim.a.net, 0, &t, 0, 0, 0), 0); /* asks for the address */
		sim_run(&sim, SEC, 0, 0);
		for (size_t i = 0; i < WH_ARRAY_COUNT(cases); i++) {
			struct wh_iov iov[2] = { { data, cases[i].size / 3 },
						 { data + cases[i].size / 3,
						   cases[i].size - cases[i].size / 3 } };
			struct wh_net_send_options o = { .segment = (uint16_t)cases[i].segment };
			struct wh_net_stats before, after;
			wh_net_stats_get(sim.a.net, &before);
			memset(&got, 0, sizeof got);
			CHECK_EQ(wh_net_udp_send(sim.a.net, 0, &t, iov, 2, &o), (int)cases[i].size);
			sim_run(&sim, SEC, 0, 0);
			CHECK_EQ(got.count, cases[i].count);
			uint32_t rest = cases[i].size - (cases[i].count - 1) * cases[i].segment;
			CHECK_EQ(got.size, rest);
			CHECK_MEM(got.bytes, data + cases[i].size - rest, rest);
			wh_net_stats_get(sim.a.net, &after);
			CHECK_EQ(after.udp_out - before.udp_out, cases[i].count);
			bool one = uso && cases[i].segment <= 1452;
			if (one)
				CHECK_EQ(after.frames_out - before.frames_out, 1);
		}
		struct wh_iov many = { data, 129 };
		struct wh_net_send_options o = { .segment = 1 };
		CHECK_EQ(wh_net_udp_send(sim.a.net, 0, &t, &many, 1, &o), -WH_EMSGSIZE);
		end();
	}
}

static void udp_refused(void)
{
	struct wh_net_udp *client;
	begin(0, 1500);
	struct wh_net_tuple t = sim_tuple(&sim.a, &sim.b, 9, false);
	CHECK_EQ(wh_net_udp_open(sim.a.net, &t, 0, &udp_ops, 0, &client), 0);
	static char x[1];
	struct wh_iov iov = { x, 1 };
	got.error = 0;
	CHECK_EQ(wh_net_udp_send(sim.a.net, client, wh_net_udp_tuple(client), &iov, 1, 0), 1);
	sim_run(&sim, SEC, 0, 0);
	CHECK_EQ(got.error, WH_ECONNREFUSED);
	end();
}

static bool drop_second_fragment(struct sim_side *side, const uint8_t *frame, uint32_t size)
{
	uint32_t offset = (uint32_t)(frame[20] << 8 | frame[21]) & 0x1fff;
	return size < 34 || frame[12] != 8 || frame[13] || offset != 185;
}

static void reassembly_bounded(void)
{
	static uint8_t data[4000];
	struct wh_net_udp *server;
	struct wh_net_stats st;
	begin(0, 1500);
	struct wh_net_tuple local = { .local = { .port = 5353 } };
	CHECK_EQ(wh_net_udp_open(sim.b.net, &local, 0, &udp_ops, 0, &server), 0);
	struct wh_net_tuple t = sim_tuple(&sim.a, &sim.b, 5353, false);
	struct wh_iov iov = { data, sizeof data };
	t.local.port = 1;
	for (int i = 0; i < 2; i++) { /* the first resolves the neighbour */
		CHECK_EQ(wh_net_udp_send(sim.a.net, 0, &t, &iov, 1, 0), sizeof data);
		sim_run(&sim, SEC, 0, 0);
	}
	sim.a.filter = drop_second_fragment;
	long live = test_alloc_live();
	for (int i = 0; i < 200; i++)
		CHECK_EQ(wh_net_udp_send(sim.a.net, 0, &t, &iov, 1, 0), sizeof data);
	sim_run(&sim, SEC, 0, 0);
	CHECK(test_alloc_live() <= live + 1 + (long)WH_NET_REASSEMBLIES_MAX);
	sim_run(&sim, 40 * SEC, 0, 0);
	CHECK_EQ(test_alloc_live(), live);
	wh_net_stats_get(sim.b.net, &st);
	CHECK_EQ(st.reassembled, 1);
	CHECK_EQ(st.reassembly_failed, 200);
	end();
}

/* ---- Neighbours, echo, configuration ---- */

static bool drop_all(struct sim_side *side, const uint8_t *frame, uint32_t size)
{
	return false;
}

static int failed_with;
static void on_event(struct wh_net_tcp *s, uint32_t events)
{
	if (events & WH_NET_FAILED)
		failed_with = wh_net_tcp_error(s);
}
static const struct wh_net_tcp_ops tcp_ops = { .event = on_event };

static void nobody_answers(void)
{
	struct wh_net_tcp *s;
	begin(0, 1500);
	sim.b.filter = drop_all;
	struct wh_net_tuple t = sim_tuple(&sim.a, &sim.b, 80, false);
	CHECK_EQ(wh_net_tcp_connect(sim.a.net, &t, &tcp_ops, 0, &s), 0);
	failed_with = 0;
	sim_run(&sim, 10 * SEC, 0, 0);
	CHECK_EQ(failed_with, WH_EHOSTUNREACH);
	wh_net_tcp_close(s);
	end();
}

static uint32_t pings;
static bool on_echo(void *ctx, const struct wh_net_ip *from, const struct wh_net_ip *to,
		    uint16_t id, uint16_t sequence, const struct wh_iov *iov, uint32_t count,
		    uint32_t size)
{
	pings++;
	CHECK_EQ(size, 4);
	return false; /* the stack answers */
}

/* DHCP and router advertisements from a gateway made of the same stack. */
static bool dhcp_server(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
			uint32_t count, uint32_t size)
{
	uint8_t b[1024];
	struct wh_wire_dhcp d;
	if (tuple->local.port != 67)
		return false;
	size_t n = wh_iov_read(iov, count, 0, b, sizeof b);
	CHECK(wh_wire_dhcp_parse(b, n, &d) > 0);
	CHECK_STR(d.hostname, "guest");
	d.op = 2;
	d.type = d.type == WH_WIRE_DHCP_DISCOVER ? WH_WIRE_DHCP_OFFER : WH_WIRE_DHCP_ACK;
	memcpy(d.your_ip, "\x0a\0\2\x0f", 4);
	memcpy(d.server_id, "\x0a\0\2\2", 4);
	memcpy(d.netmask, "\xff\xff\xff\0", 4);
	d.lease_s = 600;
	d.router_count = d.dns_count = 1;
	memcpy(d.router[0], "\x0a\0\2\2", 4);
	memcpy(d.dns[0], "\x0a\0\2\3", 4);
	n = wh_wire_dhcp_emit(b, &d);
	struct wh_iov out = { b, n };
	struct wh_net_tuple t = { .local = { sim.b.ip4, 67 }, .remote = { tuple->remote.ip, 68 } };
	static const uint8_t all[4] = { 255, 255, 255, 255 };
	t.remote.ip = wh_net_ip4(all);
	CHECK_EQ(wh_net_udp_send(sim.b.net, 0, &t, &out, 1, 0), (int)n);
	return true;
}

static uint32_t configured_count;
static void on_configured(void *ctx)
{
	configured_count++;
}

static void autoconf(void)
{
	static const struct wh_net_ops server = { .udp_datagram = dhcp_server };
	static const struct wh_net_ops client = { .configured = on_configured };
	struct wh_net_config a, b;
	struct wh_wire_router_advert ra = { .lifetime_s = 1800,
					    .prefix_count = 1,
					    .prefix = { { .prefix = { 0xfd, 9 },
							  .length = 64,
							  .autonomous = true,
							  .valid_s = 1000 } } };
	uint8_t advert[WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX], four[4] = { 10, 0, 2, 15 };
	struct wh_net_ip ip = wh_net_ip4(four), ips[8];
	uint8_t prefixes[8];
	sim_config(&a);
	sim_config(&b);
	a.ops = &client;
	b.ops = &server;
	b.transparent = b.no_loopback = true;
	sim_init(&sim, &a, &b, 0, 1500);
	CHECK_EQ(wh_net_address_remove(sim.a.net, &sim.a.ip4), 0);
	CHECK_EQ(wh_net_address_remove(sim.a.net, &sim.a.ip6), 0);
	size_t n = wh_wire_router_advert_emit(advert, &ra);
	CHECK_EQ(wh_net_router_advert_set(sim.b.net, advert, (uint32_t)n), 0);
	CHECK_EQ(wh_net_autoconf_start(sim.a.net, "guest"), 0);
	sim_run(&sim, 5 * SEC, 0, 0);
	CHECK(wh_net_address_own(sim.a.net, &ip));
	CHECK_EQ(wh_net_address_list(sim.a.net, ips, prefixes, 8), 2);
	CHECK_EQ(wh_net_dns_servers(sim.a.net, ips, 8), 1);
	CHECK(configured_count >= 2);
	/* The lease is renewed while the server lives, and lost without it. */
	sim_run(&sim, 2000 * SEC, 0, 0);
	CHECK(wh_net_address_own(sim.a.net, &ip));
	sim.b.filter = drop_all;
	sim_run(&sim, 700 * SEC, 0, 0);
	CHECK(!wh_net_address_own(sim.a.net, &ip));
	end();
}

static uint32_t replies;
static bool count_replies(struct sim_side *side, const uint8_t *frame, uint32_t size)
{
	replies += (size > 42 && frame[12] == 8 && !frame[13] && frame[23] == 1 && !frame[34]) ||
		   (size > 62 && frame[12] == 0x86 && frame[20] == 58 && frame[54] == 129);
	return true;
}

static void echo(void)
{
	static const struct wh_net_ops ops = { .icmp_echo = on_echo };
	struct wh_net_config a, b;
	sim_config(&a);
	sim_config(&b);
	b.ops = &ops;
	sim_init(&sim, &a, &b, 0, 1500);
	pings = replies = 0;
	sim.b.filter = count_replies;
	uint8_t four[] = { 0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0,   1,   8,   0,  0x45, 0,
			   0,    32,   0, 0, 0, 0, 64,   1,    0, 0, 10,  0,   2,   1,  10,   0,
			   2,    2,    8, 0, 0, 0, 0,    1,    0, 1, 'p', 'i', 'n', 'g' };
	uint16_t sum = wh_wire_sum_finish(wh_wire_sum(0, four + 14, 20));
	four[24] = (uint8_t)(sum >> 8);
	four[25] = (uint8_t)sum;
	sum = wh_wire_sum_finish(wh_wire_sum(0, four + 34, 12));
	four[36] = (uint8_t)(sum >> 8);
	four[37] = (uint8_t)sum;
	struct wh_iov iov = { four, sizeof four };
	struct wh_net_frame f = { .iov = &iov, .iov_count = 1, .size = sizeof four };
	CHECK_EQ(sim.b.port.receive(&sim.b.port, &f), 0);
	sim_run(&sim, SEC, 0, 0);
	CHECK_EQ(pings, 1);
	CHECK_EQ(replies, 1);
	four[45] ^= 1; /* wrong checksum */
	CHECK_EQ(sim.b.port.receive(&sim.b.port, &f), 0);
	CHECK_EQ(pings, 1);
	end();
}

/* ---- Memory ---- */

static struct {
	struct wh_net_tcp *client, *server, *listener;
	uint64_t sent, received, total;
	bool hold; /* the reader does not read */
} t;

static void server_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_iov iov[2];
	if (t.hold || s != t.server)
		return;
	uint32_t n = wh_net_tcp_peek(s, iov);
	wh_net_tcp_consume(s, n);
	t.received += n;
}
static void client_event(struct wh_net_tcp *s, uint32_t events)
{
	static char data[8192];
	for (uint32_t n = 1; n && t.sent < t.total && !wh_net_tcp_error(s); t.sent += n) {
		uint64_t left = t.total - t.sent;
		n = wh_net_tcp_write(s, data, left < sizeof data ? (uint32_t)left : sizeof data);
	}
}
static const struct wh_net_tcp_ops server_ops = { .event = server_event };
static const struct wh_net_tcp_ops client_ops = { .event = client_event };

static void listener_event(struct wh_net_tcp *l, uint32_t events)
{
	struct wh_net_tcp *s;
	while (!wh_net_tcp_take(l, &s)) {
		wh_net_tcp_set_ops(s, &server_ops, 0);
		t.server = s;
	}
}
static const struct wh_net_tcp_ops listener_ops = { .event = listener_event };

static int connect_both(uint64_t total)
{
	struct wh_net_end at = { sim.b.ip4, 80 };
	struct wh_net_tuple tuple = sim_tuple(&sim.a, &sim.b, 80, false);
	memset(&t, 0, sizeof t);
	t.total = total;
	int r = wh_net_tcp_listen(sim.b.net, &at, false, 8, &listener_ops, 0, &t.listener);
	return r ? r : wh_net_tcp_connect(sim.a.net, &tuple, &client_ops, 0, &t.client);
}

static bool all_received(void *ctx)
{
	return t.received == t.total;
}

static void no_allocation_per_packet(void)
{
	begin(0, 1500);
	CHECK_EQ(connect_both(4000000), 0);
	sim_run(&sim, 2 * SEC, all_received, 0);
	CHECK_EQ(t.received, t.total);
	unsigned long before = test_alloc_count();
	t.total = 40000000;
	client_event(t.client, 0);
	CHECK(sim_run(&sim, 100 * SEC, all_received, 0));
	CHECK(test_alloc_count() - before <= 12); /* buffers that double, no more */
	end();
}

/* The reader stops: memory and the sender stay put; then all arrives. */
static void slow_reader(void)
{
	struct wh_net_stats st;
	begin(0, 1500);
	CHECK_EQ(connect_both(6000000), 0);
	sim_run(&sim, SEC / 100, 0, 0);
	t.hold = true;
	sim_run(&sim, 600 * SEC, 0, 0);
	wh_net_stats_get(sim.b.net, &st);
	CHECK(st.tcp_window_dropped <= 20); /* probes, whose answers say "closed" */
	uint64_t sent = t.sent;
	sim_run(&sim, 600 * SEC, 0, 0);
	CHECK_EQ(t.sent, sent);
	t.hold = false;
	server_event(t.server, 0);
	CHECK(sim_run(&sim, 100 * SEC, all_received, 0));
	end();
}

/* Every allocation fails once: errors come back, nothing leaks, and what was set
 * up keeps working. */
static void allocation_failures(void)
{
	for (unsigned long at = 1; at < 40; at++) {
		begin(0, 1500);
		test_alloc_fail_at(at);
		int r = connect_both(300000);
		if (!r)
			sim_run(&sim, 30 * SEC, all_received, 0);
		test_alloc_fail_at(0);
		if (!r && t.server && !wh_net_tcp_error(t.client)) {
			client_event(t.client, 0);
			CHECK(sim_run(&sim, 100 * SEC, all_received, 0));
		}
		end();
	}
	for (unsigned long at = 1; at < 6; at++) {
		struct wh_net_config c;
		struct wh_net *net;
		sim_config(&c);
		test_alloc_fail_at(at);
		if (!wh_net_new(&c, 0, &net)) {
			(void)wh_net_tcp_enable(net);
			(void)wh_net_udp_enable(net);
			(void)wh_net_autoconf_start(net, "x");
			wh_net_free(net);
		}
		test_alloc_fail_at(0);
		CHECK_EQ(test_alloc_live(), 0);
	}
}

/* The same client port again and again: TIME-WAIT gives way, memory stays flat. */
static void port_reuse(void)
{
	struct wh_net_end at;
	struct wh_net_stats st;
	begin(0, 1500);
	at = (struct wh_net_end){ sim.b.ip4, 80 };
	memset(&t, 0, sizeof t);
	CHECK_EQ(wh_net_tcp_listen(sim.b.net, &at, false, 8, &listener_ops, 0, &t.listener), 0);
	long live = 0;
	for (int i = 0; i < 300; i++) {
		struct wh_net_tuple tuple = sim_tuple(&sim.a, &sim.b, 80, false);
		tuple.local.port = 5555;
		t.sent = t.received = 0;
		t.total = 100;
		CHECK_EQ(wh_net_tcp_connect(sim.a.net, &tuple, &client_ops, 0, &t.client), 0);
		CHECK(sim_run(&sim, SEC, all_received, 0));
		wh_net_tcp_close(i & 1 ? t.client : t.server);
		sim_run(&sim, MS, 0, 0);
		wh_net_tcp_close(i & 1 ? t.server : t.client);
		sim_run(&sim, MS, 0, 0);
		if (i == 10)
			live = test_alloc_live();
	}
	CHECK(test_alloc_live() <= live + 2);
	wh_net_stats_get(sim.a.net, &st);
	CHECK_EQ(st.tcp_sockets, 0);
	end();
}

static void time_wait_bounded(void)
{
	struct wh_net_config c;
	struct wh_net_stats st;
	sim_config(&c);
	c.tcp_time_wait_max = 10;
	sim_init(&sim, &c, &c, 0, 1500);
	struct wh_net_end at = { sim.b.ip4, 80 };
	memset(&t, 0, sizeof t);
	CHECK_EQ(wh_net_tcp_listen(sim.b.net, &at, false, 8, &listener_ops, 0, &t.listener), 0);
	for (int i = 0; i < 100; i++) {
		struct wh_net_tuple tuple = sim_tuple(&sim.a, &sim.b, 80, false);
		t.server = 0;
		CHECK_EQ(wh_net_tcp_connect(sim.a.net, &tuple, &client_ops, 0, &t.client), 0);
		sim_run(&sim, 10 * MS, 0, 0);
		CHECK(t.server);
		wh_net_tcp_close(t.client);
		sim_run(&sim, MS, 0, 0);
		wh_net_tcp_close(t.server);
		sim_run(&sim, MS, 0, 0);
	}
	wh_net_stats_get(sim.a.net, &st);
	CHECK_EQ(st.tcp_time_wait, 10);
	end();
}

/* More clients at once than the listener will hold: all are served, some later. */
#define BURST 300
static struct {
	struct wh_net_tcp *client[BURST], *listener;
	uint32_t answered, failed, taken;
} burst;

static void burst_client(struct wh_net_tcp *s, uint32_t events)
{
	char b[16];
	if (events & WH_NET_CONNECTED)
		CHECK_EQ(wh_net_tcp_write(s, "question", 8), 8);
	if (events & WH_NET_FAILED)
		burst.failed++;
	if (wh_net_tcp_read(s, b, sizeof b) == 6)
		burst.answered++;
	if (wh_net_tcp_at_end(s))
		wh_net_tcp_close(s);
}
static void burst_server(struct wh_net_tcp *s, uint32_t events)
{
	char b[16];
	if (wh_net_tcp_read(s, b, sizeof b) != 8)
		return;
	CHECK_EQ(wh_net_tcp_write(s, "answer", 6), 6);
	wh_net_tcp_close(s);
}
static const struct wh_net_tcp_ops burst_client_ops = { .event = burst_client };
static const struct wh_net_tcp_ops burst_server_ops = { .event = burst_server };
static const struct wh_net_tcp_ops burst_listener_ops = { 0 };

static void burst_of_clients(void)
{
	struct wh_net_config a, b;
	sim_config(&a);
	sim_config(&b);
	a.transparent = a.no_loopback = a.lossless = true;
	a.cc = 0;
	b.tcp_half_open_max = 256;
	sim_init(&sim, &a, &b, WH_NET_LINK_CSUM | WH_NET_LINK_TSO4, 1500);
	memset(&burst, 0, sizeof burst);
	struct wh_net_end at = { sim.b.ip4, 80 };
	CHECK_EQ(wh_net_tcp_listen(sim.b.net, &at, false, 5, &burst_listener_ops, 0,
				   &burst.listener),
		 0);
	for (int i = 0; i < BURST; i++) {
		struct wh_net_tuple tuple = sim_tuple(&sim.a, &sim.b, 80, false);
		CHECK_EQ(wh_net_tcp_connect(sim.a.net, &tuple, &burst_client_ops, 0,
					    &burst.client[i]),
			 0);
	}
	for (int ms = 0; ms < 20000 && burst.answered < BURST; ms++) {
		struct wh_net_tcp *s;
		if (!wh_net_tcp_take(burst.listener, &s)) {
			wh_net_tcp_set_ops(s, &burst_server_ops, 0);
			burst_server(s, 0);
		}
		sim_run(&sim, MS, 0, 0);
	}
	CHECK_EQ(burst.failed, 0);
	CHECK_EQ(burst.answered, BURST);
	end();
}

/* ---- Loopback ---- */

static bool loop_received(void *ctx)
{
	return t.received == t.total;
}

static void loopback(void)
{
	for (int six = 0; six < 2; six++) {
		begin(0, 1500);
		uint8_t four[4] = { 127, 0, 0, 1 }, one[16] = { [15] = 1 };
		struct wh_net_ip ip = six ? wh_net_ip6(one) : wh_net_ip4(four);
		struct wh_net_end at = { ip, 80 };
		struct wh_net_tuple tuple = { .remote = at };
		memset(&t, 0, sizeof t);
		t.total = 3000000;
		CHECK_EQ(wh_net_tcp_listen(sim.a.net, &at, false, 8, &listener_ops, 0, &t.listener),
			 0);
		CHECK_EQ(wh_net_tcp_connect(sim.a.net, &tuple, &client_ops, 0, &t.client), 0);
		CHECK(sim_run(&sim, 10 * SEC, loop_received, 0));
		CHECK_EQ(sim.a.sent, 0); /* nothing on the wire */
		end();
	}
}

/* Every port of the range is tried in turn; the listener's own must be left out. */
static void no_connection_to_itself(void)
{
	begin(0, 1500);
	uint8_t four[4] = { 127, 0, 0, 1 };
	struct wh_net_end at = { wh_net_ip4(four), 40000 };
	struct wh_net_tuple tuple = { .remote = at };
	memset(&t, 0, sizeof t);
	CHECK_EQ(wh_net_tcp_listen(sim.a.net, &at, false, 8, &listener_ops, 0, &t.listener), 0);
	for (int i = 0; i < 28232; i++) {
		CHECK_EQ(wh_net_tcp_connect(sim.a.net, &tuple, &client_ops, 0, &t.client), 0);
		CHECK(wh_net_tcp_tuple(t.client)->local.port != at.port);
		wh_net_tcp_abort(t.client);
	}
	end();
}

int main(void)
{
	RUN(no_connection_to_itself);
	RUN(udp_sizes);
	RUN(udp_segments);
	RUN(udp_refused);
	RUN(reassembly_bounded);
	RUN(nobody_answers);
	RUN(autoconf);
	RUN(echo);
	RUN(no_allocation_per_packet);
	RUN(slow_reader);
	RUN(allocation_failures);
	RUN(port_reuse);
	RUN(time_wait_bounded);
	RUN(burst_of_clients);
	RUN(loopback);
	return test_end();
}
