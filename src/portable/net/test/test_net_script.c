/* SPDX-License-Identifier: ISC */
/*
 * Scripts: one stack, and a peer whose every segment is written down here. Sequence
 * numbers are relative to each side's initial one, times are exact.
 */
#include <wherry/base/bytes.h>
#include "sim.h"

#define PEER_ISS 1000u
#define SENT_MAX 256

static struct {
	struct wh_net *net;
	struct wh_net_port port;
	uint64_t now, deadline;
	struct {
		struct wh_wire_tcp t;
		uint32_t size;
	} sent[SENT_MAX];
	uint32_t sent_count, taken;
	uint32_t iss; /* the stack's */
	struct wh_net_tcp *listener, *s;
	uint32_t events;
	uint32_t icmp_count;
	uint8_t icmp_type, icmp_code;
	bool blocked, timestamps;
	uint32_t ts; /* peer's clock */
} v;

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 }, peer_mac[6] = { 0x52, 0x54, 0, 0, 0, 2 };
static const uint8_t own[4] = { 10, 0, 2, 1 }, peer[4] = { 10, 0, 2, 2 };

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	uint8_t b[2048];
	size_t n = wh_iov_read(f->iov, f->iov_count, 0, b, sizeof b);
	struct wh_wire_ip4 ip;
	if (v.blocked)
		return -WH_EAGAIN;
	if (wh_wire_ip4_parse(b + 14, n - 14, f->size - 14, &ip) < 0)
		return 0;
	if (ip.protocol == WH_WIRE_PROTO_ICMP) {
		v.icmp_count++;
		v.icmp_type = b[34];
		v.icmp_code = b[35];
	}
	if (ip.protocol != WH_WIRE_PROTO_TCP)
		return 0;
	CHECK(v.sent_count < SENT_MAX);
	CHECK(wh_wire_tcp_parse(b + 34, n - 34, f->size - 34, &v.sent[v.sent_count].t) > 0);
	v.sent[v.sent_count].size = f->size - 34 - v.sent[v.sent_count].t.header_size;
	v.sent_count++;
	return 0;
}

static void on_event(struct wh_net_tcp *s, uint32_t events)
{
	if ((events & WH_NET_ACCEPTABLE) && !wh_net_tcp_take(s, &v.s)) {
		static const struct wh_net_tcp_ops ops = { .event = on_event };
		wh_net_tcp_set_ops(v.s, &ops, 0);
	}
	v.events |= events;
}
static const struct wh_net_tcp_ops ops = { .event = on_event };

static void run(void)
{
	v.deadline = wh_net_run(v.net, v.now);
}

/* Lets time pass, stopping at each deadline. */
static void wait(uint64_t time)
{
	uint64_t end = v.now + time;
	run();
	while (v.deadline <= end) {
		if (v.deadline > v.now)
			v.now = v.deadline;
		run();
	}
	v.now = end;
	run();
}

static void begin_with(const struct wh_net_config *c)
{
	struct wh_net_ip ip = wh_net_ip4(own), other = wh_net_ip4(peer);
	memset(&v, 0, sizeof v);
	v.now = 1000 * SEC;
	CHECK_EQ(wh_net_new(c, v.now, &v.net), 0);
	CHECK_EQ(wh_net_tcp_enable(v.net), 0);
	CHECK_EQ(wh_net_udp_enable(v.net), 0);
	CHECK_EQ(wh_net_address_add(v.net, &ip, 24), 0);
	CHECK_EQ(wh_net_neighbour_set(v.net, &other, peer_mac), 0);
	v.port = (struct wh_net_port){ .send = port_send, .mtu = 1500 };
	wh_net_attach(v.net, &v.port);
	run();
}

static void config(struct wh_net_config *c)
{
	sim_config(c);
	memcpy(c->mac, mac, 6);
	c->tcp_buffer_start = c->tcp_receive_max = c->tcp_send_max = 16384;
}

static void begin(void)
{
	struct wh_net_config c;
	config(&c);
	begin_with(&c);
}

static void end(void)
{
	wh_net_free(v.net);
	CHECK_EQ(test_alloc_live(), 0);
}

static void inject_raw(const struct wh_wire_tcp *t, const void *data, uint32_t size)
{
	uint8_t b[2048];
	struct wh_wire_eth eth = { .type = WH_WIRE_ETH_IP4 };
	struct wh_wire_ip4 ip = { .protocol = WH_WIRE_PROTO_TCP, .ttl = 64 };
	memcpy(eth.to, mac, 6);
	memcpy(eth.from, peer_mac, 6);
	memcpy(ip.from, peer, 4);
	memcpy(ip.to, own, 4);
	wh_wire_eth_emit(b, &eth);
	size_t n = wh_wire_tcp_emit(b + 34, t);
	if (size)
		memcpy(b + 34 + n, data, size);
	ip.total_size = (uint16_t)(20 + n + size);
	wh_wire_ip4_emit(b + 14, &ip);
	uint32_t sum = wh_wire_sum_pseudo(peer, own, 4, 6, (uint32_t)(n + size));
	wh_store_be16(b + 34 + 16, wh_wire_sum_finish(wh_wire_sum(sum, b + 34, n + size)));
	struct wh_iov iov = { b, 34 + n + size };
	struct wh_net_frame f = { .iov = &iov, .iov_count = 1, .size = (uint32_t)iov.size };
	wh_net_time(v.net, v.now);
	CHECK_EQ(v.port.receive(&v.port, &f), 0);
}

static char zeros[4096];

/* flags, relative sequence and acknowledgement, window, payload bytes */
static void inject(uint8_t flags, uint32_t sequence, uint32_t ack, uint16_t window, uint32_t size)
{
	struct wh_wire_tcp t = { .from = 4000,
				 .to = 80,
				 .flags = flags,
				 .sequence = PEER_ISS + sequence,
				 .acknowledgement = flags & WH_WIRE_TCP_ACK ? v.iss + ack : 0,
				 .window = window,
				 .has_timestamp = v.timestamps,
				 .timestamp = v.ts };
	if (v.s)
		t.to = wh_net_tcp_tuple(v.s)->local.port,
		t.from = wh_net_tcp_tuple(v.s)->remote.port;
	inject_raw(&t, zeros, size);
	run();
}

/* The next segment that the stack sent. */
static const struct wh_wire_tcp *expect(uint8_t flags, uint32_t sequence, uint32_t ack,
					uint32_t size)
{
	if (v.taken == v.sent_count)
		test_fail(__FILE__, __LINE__, "nothing was sent, wanted flags %x seq %u", flags,
			  sequence);
	const struct wh_wire_tcp *t = &v.sent[v.taken].t;
	uint32_t got = v.sent[v.taken].size;
	v.taken++;
	if ((t->flags & ~WH_WIRE_TCP_PSH) != flags || t->sequence - v.iss != sequence ||
	    ((flags & WH_WIRE_TCP_ACK) && t->acknowledgement - PEER_ISS != ack) || got != size)
		test_fail(__FILE__, __LINE__,
			  "sent flags %x seq %u ack %u size %u, wanted %x %u %u %u", t->flags,
			  t->sequence - v.iss, t->acknowledgement - PEER_ISS, got, flags, sequence,
			  ack, size);
	return t;
}

static void expect_nothing(void)
{
	if (v.taken != v.sent_count)
		test_fail(__FILE__, __LINE__, "sent flags %x seq %u size %u, wanted nothing",
			  v.sent[v.taken].t.flags, v.sent[v.taken].t.sequence - v.iss,
			  v.sent[v.taken].size);
}

enum { F = WH_WIRE_TCP_FIN, S = WH_WIRE_TCP_SYN, R = WH_WIRE_TCP_RST, A = WH_WIRE_TCP_ACK };

static void listen_at_80(uint32_t backlog)
{
	struct wh_net_end at = { wh_net_ip4(own), 80 };
	CHECK_EQ(wh_net_tcp_listen(v.net, &at, false, backlog, &ops, 0, &v.listener), 0);
}

static void syn(bool sack, bool timestamps, uint16_t mss)
{
	struct wh_wire_tcp t = { .from = 4000,
				 .to = 80,
				 .flags = S,
				 .sequence = PEER_ISS,
				 .window = 20000,
				 .has_mss = mss,
				 .mss = mss,
				 .sack_permitted = sack,
				 .has_timestamp = timestamps,
				 .timestamp = v.ts };
	v.timestamps = timestamps;
	inject_raw(&t, 0, 0);
	run();
}

static void establish(bool sack, bool timestamps)
{
	begin();
	v.ts = 500;
	listen_at_80(4);
	syn(sack, timestamps, 1000);
	v.iss = v.sent[0].t.sequence;
	const struct wh_wire_tcp *t = expect(S | A, 0, 1, 0);
	CHECK_EQ(t->mss, 1460);
	CHECK_EQ(t->sack_permitted, sack);
	CHECK_EQ(t->has_timestamp, timestamps);
	CHECK_EQ(t->has_scale, false); /* was not offered */
	inject(A, 1, 1, 20000, 0);
	CHECK(v.s);
	expect_nothing();
}

static void write_bytes(uint32_t size)
{
	while (size) {
		uint32_t n = wh_net_tcp_write(v.s, zeros, size < 4096 ? size : 4096);
		CHECK(n);
		size -= n;
	}
	run();
}

static void finish(void)
{
	wh_net_tcp_close(v.s);
	wh_net_tcp_close(v.listener);
	end();
}

/* ---- Opening ---- */

static void closed_port(void)
{
	begin();
	inject(S, 0, 0, 1000, 0);
	v.iss = 0;
	expect(R | A, 0, 1, 0);
	inject(A, 5, 77, 1000, 0);
	expect(R, 77, 0, 0);
	inject(R, 5, 0, 1000, 0);
	expect_nothing();
	end();
}

static void syn_retransmission(void)
{
	struct wh_net_tuple t = { .remote = { wh_net_ip4(peer), 80 } };
	begin();
	CHECK_EQ(wh_net_tcp_connect(v.net, &t, &ops, 0, &v.s), 0);
	run();
	v.iss = v.sent[0].t.sequence;
	expect(S, 0, 0, 0);
	wait(999 * MS);
	expect_nothing();
	for (int i = 0; i < 6; i++) { /* 1, 3, 7, 15, 31, 63 s */
		wait(1 * MS + ((1000ull << i) - 1) * MS * (i > 0));
		expect(S, 0, 0, 0);
		expect_nothing();
		if (i == 0)
			wait(999 * MS);
	}
	CHECK(!(v.events & WH_NET_FAILED));
	wait(65 * SEC);
	CHECK(v.events & WH_NET_FAILED);
	CHECK_EQ(wh_net_tcp_error(v.s), WH_ETIMEDOUT);
	wh_net_tcp_close(v.s);
	end();
}

static void connect_wrong_ack(void)
{
	struct wh_net_tuple t = { .remote = { wh_net_ip4(peer), 80 } };
	begin();
	CHECK_EQ(wh_net_tcp_connect(v.net, &t, &ops, 0, &v.s), 0);
	run();
	v.iss = v.sent[0].t.sequence;
	expect(S, 0, 0, 0);
	inject(S | A, 0, 9, 1000, 0); /* RFC 9293 3.10.7.3: not of this connection */
	expect(R, 9, 0, 0);
	inject(R, 0, 0, 1000, 0); /* without ACK it proves nothing */
	CHECK(!v.events);
	inject(S | A, 0, 1, 1000, 0);
	expect(A, 1, 1, 0);
	CHECK(v.events & WH_NET_CONNECTED);
	wh_net_tcp_abort(v.s);
	end();
}

static void simultaneous_open(void)
{
	struct wh_net_tuple t = { .remote = { wh_net_ip4(peer), 80 } };
	begin();
	CHECK_EQ(wh_net_tcp_connect(v.net, &t, &ops, 0, &v.s), 0);
	run();
	v.iss = v.sent[0].t.sequence;
	expect(S, 0, 0, 0);
	inject(S, 0, 0, 1000, 0);
	expect(S | A, 0, 1, 0);
	inject(S | A, 0, 1, 1000, 0);
	CHECK(v.events & WH_NET_CONNECTED);
	write_bytes(10);
	expect(A, 1, 1, 10);
	wh_net_tcp_abort(v.s);
	end();
}

static void synack_repeated(void)
{
	begin();
	listen_at_80(4);
	syn(false, false, 1000);
	v.iss = v.sent[0].t.sequence;
	expect(S | A, 0, 1, 0);
	syn(false, false, 1000);
	expect(S | A, 0, 1, 0);
	wait(1100 * MS);
	expect(S | A, 0, 1, 0);
	wait(63 * SEC); /* five repeats, then it is forgotten */
	struct wh_net_stats st;
	wh_net_stats_get(v.net, &st);
	CHECK_EQ(st.tcp_half_open, 0);
	CHECK_EQ(st.tcp_sockets, 1);
	wh_net_tcp_close(v.listener);
	end();
}

static void syn_flood(void)
{
	struct wh_net_stats st;
	begin();
	listen_at_80(8);
	for (uint32_t i = 0; i < 5000; i++) {
		struct wh_wire_tcp t = { .from = (uint16_t)(1 + i),
					 .to = 80,
					 .flags = S,
					 .sequence = i,
					 .window = 1000 };
		inject_raw(&t, 0, 0);
		run();
		v.sent_count = v.taken = 0;
	}
	wh_net_stats_get(v.net, &st);
	CHECK(st.tcp_sockets <= 129);
	v.now += 300 * MS;
	CHECK_EQ(st.tcp_buffer_bytes, 0);
	syn(false, false, 1000); /* an honest one still gets in */
	v.iss = v.sent[0].t.sequence;
	inject(A, 1, 1, 1000, 0);
	CHECK(v.s);
	finish();
}

/* ---- RFC 5961, PAWS, windows ---- */

static void blind_attacks(void)
{
	establish(true, false);
	inject(R, 100, 0, 0, 0); /* in the window, but not exact */
	expect(A, 1, 1, 0);
	inject(R, 30000, 0, 0, 0); /* outside */
	expect_nothing();
	inject(S, 1, 0, 0, 0);
	expect(A, 1, 1, 0);
	inject(A, 1, 99999, 0, 5); /* acknowledges what was not sent */
	expect(A, 1, 1, 0);
	inject(A, 1, (uint32_t)-50000, 0, 5); /* too old */
	expect(A, 1, 1, 0);
	CHECK(!(v.events & WH_NET_FAILED));
	inject(R, 1, 0, 0, 0);
	CHECK(v.events & WH_NET_FAILED);
	CHECK_EQ(wh_net_tcp_error(v.s), WH_ECONNRESET);
	finish();
}

static void paws(void)
{
	struct wh_iov iov[2];
	establish(true, true);
	v.ts = 600;
	inject(A, 1, 1, 1000, 10);
	CHECK_EQ(wh_net_tcp_peek(v.s, iov), 10);
	v.ts = 599; /* older than what was seen */
	inject(A, 11, 1, 1000, 10);
	CHECK_EQ(wh_net_tcp_peek(v.s, iov), 10);
	const struct wh_wire_tcp *t = expect(A, 1, 11, 0);
	CHECK_EQ(t->timestamp_echo, 600);
	v.timestamps = false;
	inject(A, 11, 1, 1000, 10);
	CHECK_EQ(wh_net_tcp_peek(v.s, iov), 10);
	expect_nothing();
	finish();
}

static void window_is_held(void)
{
	struct wh_iov iov[2];
	establish(true, false);
	for (uint32_t at = 0; at < 16000; at += 1000)
		inject(A, 1 + at, 1, 1000, 1000);
	inject(A, 16001, 1, 1000, 1000); /* 384 bytes of it fit */
	CHECK_EQ(wh_net_tcp_peek(v.s, iov), 16384);
	uint16_t window = 1;
	while (v.taken < v.sent_count)
		window = v.sent[v.taken++].t.window;
	CHECK_EQ(window, 0);
	inject(A, 16385, 1, 1000, 10); /* into a closed window: only its ACK counts */
	expect(A, 1, 16385, 0);
	wh_net_tcp_consume(v.s, 1000); /* too little to speak of */
	run();
	expect_nothing();
	wh_net_tcp_consume(v.s, 8000);
	run();
	CHECK_EQ(expect(A, 1, 16385, 0)->window, 9000);
	finish();
}

static void out_of_order(void)
{
	struct wh_iov iov[2];
	establish(true, false);
	inject(A, 1001, 1, 1000, 1000);
	const struct wh_wire_tcp *t = expect(A, 1, 1, 0);
	CHECK_EQ(t->sack_count, 1);
	CHECK_EQ(t->sack[0].start - PEER_ISS, 1001);
	CHECK_EQ(t->sack[0].end - PEER_ISS, 2001);
	inject(A, 3001, 1, 1000, 500);
	t = expect(A, 1, 1, 0);
	CHECK_EQ(t->sack_count, 2);
	CHECK_EQ(t->sack[0].start - PEER_ISS, 3001); /* the latest first */
	inject(A, 3001, 1, 1000, 500);               /* twice: D-SACK */
	t = expect(A, 1, 1, 0);
	CHECK_EQ(t->sack[0].start - PEER_ISS, 3001);
	CHECK_EQ(t->sack[0].end - PEER_ISS, 3501);
	inject(A, 1, 1, 1000, 1000);
	CHECK_EQ(expect(A, 1, 2001, 0)->sack_count, 1);
	inject(A, 2001, 1, 1000, 1000);
	expect(A, 1, 3501, 0);
	CHECK_EQ(wh_net_tcp_peek(v.s, iov), 3500);
	finish();
}

/* ---- Sending ---- */

static void fast_retransmit(void)
{
	establish(false, false);
	write_bytes(8000);
	for (uint32_t i = 0; i < 8; i++)
		expect(A, 1 + i * 1000, 1, 1000);
	inject(A, 1, 1001, 20000, 0);
	for (int i = 0; i < 2; i++)
		inject(A, 1, 1001, 20000, 0);
	expect_nothing();
	inject(A, 1, 1001, 20000, 0);
	expect(A, 1001, 1, 1000);
	expect_nothing();
	inject(A, 1, 4001, 20000, 0); /* partial: the next hole (RFC 6582) */
	expect(A, 4001, 1, 1000);
	inject(A, 1, 8001, 20000, 0);
	expect_nothing();
	finish();
}

static void zero_window(void)
{
	establish(true, false);
	write_bytes(3000);
	for (uint32_t i = 0; i < 3; i++)
		expect(A, 1 + i * 1000, 1, 1000);
	inject(A, 1, 3001, 0, 0);
	write_bytes(500);
	expect_nothing();
	for (uint64_t t = 200; t < 5000; t *= 2) {
		wait((t - 1) * MS);
		expect_nothing();
		wait(1 * MS);
		expect(A, 3000, 1, 0); /* the byte before: a question */
		inject(A, 1, 3001, 0, 0);
		expect_nothing();
	}
	inject(A, 1, 3001, 20000, 0);
	expect(A, 3001, 1, 500);
	finish();
}

static void nagle(void)
{
	establish(true, false);
	write_bytes(10);
	expect(A, 1, 1, 10);
	write_bytes(10);
	write_bytes(10);
	expect_nothing();
	inject(A, 1, 11, 20000, 0);
	expect(A, 11, 1, 20);
	CHECK_EQ(wh_net_tcp_set(v.s, WH_NET_TCP_NODELAY, 1), 0);
	write_bytes(10);
	expect(A, 31, 1, 10);
	CHECK_EQ(wh_net_tcp_set(v.s, WH_NET_TCP_CORK, 1), 0);
	write_bytes(10);
	expect_nothing();
	wait(200 * MS);
	CHECK(v.sent_count > v.taken);
	v.taken = v.sent_count;
	finish();
}

static void delayed_ack(void)
{
	establish(true, false);
	inject(A, 1, 1, 20000, 100);
	wait(19 * MS);
	expect_nothing();
	wait(1 * MS);
	expect(A, 1, 101, 0);
	inject(A, 101, 1, 20000, 100);
	write_bytes(5); /* carries it */
	expect(A, 1, 201, 5);
	wait(30 * MS);
	expect_nothing();
	inject(A, 201, 6, 20000, 1460);
	expect_nothing();
	inject(A, 1661, 6, 20000, 1460); /* the second full one */
	expect(A, 6, 3121, 0);
	finish();
}

static void keep_alive(void)
{
	establish(true, false);
	CHECK_EQ(wh_net_tcp_set(v.s, WH_NET_TCP_KEEP_IDLE_S, 10), 0);
	CHECK_EQ(wh_net_tcp_set(v.s, WH_NET_TCP_KEEP_INTERVAL_S, 2), 0);
	CHECK_EQ(wh_net_tcp_set(v.s, WH_NET_TCP_KEEP_COUNT, 3), 0);
	CHECK_EQ(wh_net_tcp_set(v.s, WH_NET_TCP_KEEPALIVE, 1), 0);
	wait(10 * SEC);
	expect(A, 0, 1, 0);
	inject(A, 1, 1, 20000, 0);
	wait(9 * SEC);
	expect_nothing();
	wait(1 * SEC + MS);
	for (int i = 0; i < 3; i++) {
		expect(A, 0, 1, 0);
		expect_nothing();
		wait(2 * SEC);
	}
	expect(R | A, 1, 1, 0);
	CHECK_EQ(wh_net_tcp_error(v.s), WH_ETIMEDOUT);
	finish();
}

/* ---- Closing ---- */

static enum wh_net_tcp_state state(void)
{
	struct wh_net_tcp_info i;
	wh_net_tcp_info(v.s, &i);
	return i.state;
}

static void half_close(void)
{
	struct wh_iov iov[2];
	establish(true, false);
	wh_net_tcp_shutdown(v.s);
	run();
	expect(F | A, 1, 1, 0);
	inject(A, 1, 2, 20000, 0);
	CHECK_EQ(state(), WH_NET_TCP_FIN_WAIT2);
	CHECK(v.events & WH_NET_DRAINED);
	inject(A, 1, 2, 20000, 100);
	CHECK_EQ(wh_net_tcp_peek(v.s, iov), 100);
	inject(F | A, 101, 2, 20000, 0);
	expect(A, 2, 102, 0);
	CHECK(v.events & WH_NET_PEER_CLOSED);
	CHECK(!wh_net_tcp_at_end(v.s));
	wh_net_tcp_consume(v.s, 100);
	CHECK(wh_net_tcp_at_end(v.s));
	inject(F | A, 101, 2, 20000, 0); /* our last ACK was lost: TIME-WAIT answers */
	expect(A, 2, 102, 0);
	finish();
}

static void passive_close(void)
{
	establish(true, false);
	inject(F | A, 1, 1, 20000, 10);
	expect(A, 1, 12, 0);
	CHECK_EQ(state(), WH_NET_TCP_CLOSE_WAIT);
	write_bytes(5);
	expect(A, 1, 12, 5);
	wh_net_tcp_consume(v.s, 10);
	wh_net_tcp_close(v.s);
	v.s = 0;
	run();
	expect(F | A, 6, 12, 0);
	inject(A, 12, 7, 20000, 0);
	struct wh_net_stats st;
	wh_net_stats_get(v.net, &st);
	CHECK_EQ(st.tcp_sockets, 1); /* the listener */
	CHECK_EQ(st.tcp_time_wait, 0);
	finish();
}

static void simultaneous_close(void)
{
	struct wh_net_stats st;
	establish(true, false);
	wh_net_tcp_shutdown(v.s);
	run();
	expect(F | A, 1, 1, 0);
	inject(F | A, 1, 1, 20000, 0); /* crosses ours */
	expect(A, 2, 2, 0);
	CHECK_EQ(state(), WH_NET_TCP_CLOSING);
	inject(A, 2, 2, 20000, 0);
	wh_net_stats_get(v.net, &st);
	CHECK_EQ(st.tcp_time_wait, 1);
	wait(61 * SEC);
	wh_net_stats_get(v.net, &st);
	CHECK_EQ(st.tcp_time_wait, 0);
	finish();
}

static void close_with_unread(void)
{
	establish(true, false);
	inject(A, 1, 1, 20000, 10);
	wh_net_tcp_close(v.s);
	v.s = 0;
	run();
	expect(R | A, 1, 11, 0);
	finish();
}

static void data_after_close(void)
{
	establish(true, false);
	wh_net_tcp_close(v.s);
	v.s = 0;
	run();
	expect(F | A, 1, 1, 0);
	inject(A, 1, 2, 20000, 0);
	inject(A, 1, 2, 20000, 10);
	expect(R | A, 2, 1, 0);
	finish();
}

static void fin_wait2_ends(void)
{
	struct wh_net_stats st;
	establish(true, false);
	wh_net_tcp_close(v.s);
	v.s = 0;
	run();
	expect(F | A, 1, 1, 0);
	inject(A, 1, 2, 20000, 0);
	wait(61 * SEC);
	wh_net_stats_get(v.net, &st);
	CHECK_EQ(st.tcp_sockets, 1);
	finish();
}

static void time_wait_reuse(void)
{
	establish(true, false);
	wh_net_tcp_close(v.s);
	v.s = 0;
	run();
	expect(F | A, 1, 1, 0);
	inject(F | A, 1, 2, 20000, 0);
	expect(A, 2, 2, 0);
	struct wh_wire_tcp t = { .from = 4000,
				 .to = 80,
				 .flags = S,
				 .sequence = PEER_ISS, /* old: answered, not opened */
				 .window = 1000 };
	inject_raw(&t, 0, 0);
	run();
	expect(A, 2, 2, 0);
	t.sequence = PEER_ISS + 5000;
	inject_raw(&t, 0, 0);
	run();
	CHECK_EQ(v.sent_count, v.taken + 1);
	CHECK_EQ(v.sent[v.taken].t.flags, S | A);
	finish();
}

/* ---- The rest ---- */

static void link_blocked(void)
{
	establish(true, false);
	v.blocked = true;
	write_bytes(3000);
	expect_nothing();
	v.blocked = false;
	v.port.writable(&v.port);
	run();
	for (uint32_t i = 0; i < 3; i++)
		expect(A, 1 + i * 1000, 1, 1000);
	finish();
}

static struct wh_net_tcp *requested;
static bool on_request(void *ctx, struct wh_net_tcp *s, const struct wh_net_tuple *tuple)
{
	CHECK_EQ(tuple->local.port, 80);
	requested = s;
	return true;
}

static void request(void)
{
	static const struct wh_net_ops net_ops = { .tcp_request = on_request };
	struct wh_net_config c;
	config(&c);
	c.ops = &net_ops;
	c.transparent = c.lossless = c.no_loopback = true;
	c.cc = 0;
	begin_with(&c);
	syn(true, false, 1460);
	CHECK(requested);
	syn(true, false, 1460); /* a repeat is swallowed */
	expect_nothing();
	wh_net_tcp_set_ops(requested, &ops, 0);
	CHECK_EQ(wh_net_tcp_accept(requested), 0);
	run();
	v.iss = v.sent[0].t.sequence;
	expect(S | A, 0, 1, 0);
	inject(A, 1, 1, 20000, 0);
	CHECK(v.events & WH_NET_CONNECTED);
	wh_net_tcp_abort(requested);
	run();
	expect(R | A, 1, 1, 0);
	syn(true, false, 1460);
	wh_net_tcp_refuse(requested, WH_ECONNREFUSED);
	v.iss = 0;
	run();
	expect(R | A, 0, 1, 0);
	syn(true, false, 1460);
	wh_net_tcp_refuse(requested, WH_EHOSTUNREACH);
	run();
	CHECK_EQ(v.icmp_count, 1);
	CHECK_EQ(v.icmp_type, WH_WIRE_ICMP_UNREACHABLE);
	CHECK_EQ(v.icmp_code, WH_WIRE_ICMP_CODE_HOST);
	end();
}

static void path_mtu(void)
{
	struct wh_net_ip to = wh_net_ip4(peer);
	establish(true, false);
	inject(A, 1, 1, 20000, 0);
	write_bytes(2000);
	expect(A, 1, 1, 1000);
	expect(A, 1001, 1, 1000);
	/* A router says 900 about the first one. */
	uint8_t b[14 + 20 + 8 + 28];
	struct wh_wire_eth eth = { .type = WH_WIRE_ETH_IP4 };
	memcpy(eth.to, mac, 6);
	memcpy(eth.from, peer_mac, 6);
	struct wh_wire_ip4 ip = { .protocol = 1, .ttl = 64, .total_size = sizeof b - 14 };
	memcpy(ip.from, peer, 4);
	memcpy(ip.to, own, 4);
	wh_wire_eth_emit(b, &eth);
	wh_wire_ip4_emit(b + 14, &ip);
	struct wh_wire_icmp icmp = { .type = 3, .code = 4, .sequence = 900 };
	wh_wire_icmp_emit(b + 34, &icmp);
	struct wh_wire_ip4 quote = { .protocol = 6, .ttl = 64, .total_size = 1040 };
	memcpy(quote.from, own, 4);
	memcpy(quote.to, peer, 4);
	wh_wire_ip4_emit(b + 42, &quote);
	wh_store_be16(b + 62, 80);
	wh_store_be16(b + 64, 4000);
	wh_store_be32(b + 66, v.iss + 1);
	wh_store_be16(b + 36, wh_wire_sum_finish(wh_wire_sum(0, b + 34, sizeof b - 34)));
	struct wh_iov iov = { b, sizeof b };
	struct wh_net_frame f = { .iov = &iov, .iov_count = 1, .size = sizeof b };
	CHECK_EQ(v.port.receive(&v.port, &f), 0);
	run();
	expect(A, 1, 1, 860);
	(void)to;
	v.taken = v.sent_count;
	finish();
}

int main(void)
{
	RUN(closed_port);
	RUN(syn_retransmission);
	RUN(connect_wrong_ack);
	RUN(simultaneous_open);
	RUN(synack_repeated);
	RUN(syn_flood);
	RUN(blind_attacks);
	RUN(paws);
	RUN(window_is_held);
	RUN(out_of_order);
	RUN(fast_retransmit);
	RUN(zero_window);
	RUN(nagle);
	RUN(delayed_ack);
	RUN(keep_alive);
	RUN(half_close);
	RUN(passive_close);
	RUN(simultaneous_close);
	RUN(close_with_unread);
	RUN(data_after_close);
	RUN(fin_wait2_ends);
	RUN(time_wait_reuse);
	RUN(link_blocked);
	RUN(request);
	RUN(path_mtu);
	return test_end();
}
