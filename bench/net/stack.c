/* SPDX-License-Identifier: ISC */
/*
 * The stack's own cost: two instances in one thread on a link of frame slots (one copy per frame,
 * as a virtqueue has), no system calls. Prints one line of JSON per test: nanoseconds per segment,
 * exchange or connection, for both ends together.
 *
 *	bench-stack [SECONDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/net.h>

#define SLOTS 256u

struct end {
	struct wh_net *net;
	struct wh_net_port port;
	struct end *other;
	struct {
		struct wh_net_frame frame;
		uint8_t *bytes;
	} slot[SLOTS]; /* towards this end */
	uint32_t first, count;
	bool refused;
};

static struct end a, b;
static uint64_t received, exchanges, closed, total;
static bool bulk;
static uint8_t zeros[65536];

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

static void *allocate(void *ctx, size_t size, size_t align)
{
	return aligned_alloc(64, (size + 63) / 64 * 64);
}
static void release(void *ctx, void *memory, size_t size)
{
	free(memory);
}
static const struct wh_alloc allocator = { allocate, release, 0 };

/* Of the processor: what else runs here does not count. */
static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t stack_time = 1;

static int link_send(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct end *to = ((struct end *)port->provider)->other;
	if (to->count == SLOTS) {
		to->refused = true;
		return -WH_EAGAIN;
	}
	uint32_t i = (to->first + to->count++) % SLOTS;
	to->slot[i].frame = *frame;
	wh_iov_read(frame->iov, frame->iov_count, 0, to->slot[i].bytes, frame->size);
	return 0;
}

static void deliver(struct end *to)
{
	wh_net_time(to->net, stack_time);
	for (; to->count; to->count--, to->first = (to->first + 1) % SLOTS) {
		struct wh_net_frame *f = &to->slot[to->first].frame;
		struct wh_iov iov = { to->slot[to->first].bytes, f->size };
		f->iov = &iov;
		f->iov_count = 1;
		(void)to->port.receive(&to->port, f); /* always takes it */
	}
	if (to->refused) {
		to->refused = false;
		to->other->port.writable(&to->other->port);
	}
	(void)wh_net_run(to->net, stack_time);
}

/* ---- The two programs: bytes one way, or one byte there and one back; then anew ---- */

static struct wh_net_tcp *client;

static void server_event(struct wh_net_tcp *s, uint32_t events)
{
	struct wh_iov iov[2];
	uint32_t n = wh_net_tcp_peek(s, iov);
	wh_net_tcp_consume(s, n);
	received += n;
	if (n && !bulk)
		wh_net_tcp_write(s, zeros, n);
	if (wh_net_tcp_at_end(s) || (events & WH_NET_FAILED))
		wh_net_tcp_close(s);
}
static const struct wh_net_tcp_ops server_ops = { .event = server_event };

static void accept_event(struct wh_net_tcp *l, uint32_t events)
{
	struct wh_net_tcp *s;
	while (!wh_net_tcp_take(l, &s)) {
		wh_net_tcp_set_ops(s, &server_ops, 0);
		server_event(s, 0);
	}
}
static const struct wh_net_tcp_ops listen_ops = { .event = accept_event };

static void client_event(struct wh_net_tcp *s, uint32_t events)
{
	char c[16];
	if (bulk) {
		while (wh_net_tcp_write(s, zeros, sizeof zeros))
			;
		return;
	}
	if (events & WH_NET_CONNECTED)
		wh_net_tcp_write(s, "x", 1);
	if (!wh_net_tcp_read(s, c, sizeof c))
		return;
	exchanges++;
	if (exchanges < total)
		wh_net_tcp_write(s, "x", 1);
	else {
		wh_net_tcp_close(s);
		client = 0;
		closed++;
	}
}
static const struct wh_net_tcp_ops client_ops = { .event = client_event };

static void end_init(struct end *e, struct end *other, uint8_t number, uint32_t features, bool cc)
{
	struct wh_net_config c = WH_NET_CONFIG_INIT;
	uint8_t ip[4] = { 10, 0, 0, number };
	struct wh_net_ip own = wh_net_ip4(ip);
	c.alloc = &allocator;
	c.cc = cc ? &wh_net_cc_cubic : 0;
	c.lossless = !cc;
	c.key[0] = number;
	c.time_wait_ns = 1000000;
	c.mac[5] = number;
	e->other = other;
	e->port = (struct wh_net_port){
		.send = link_send, .link_features = features, .mtu = 1500, .provider = e
	};
	wh_assert(!wh_net_new(&c, stack_time, &e->net) && !wh_net_tcp_enable(e->net));
	wh_assert(!wh_net_address_add(e->net, &own, 24));
	wh_net_attach(e->net, &e->port);
	for (uint32_t i = 0; i < SLOTS; i++)
		if (!e->slot[i].bytes)
			e->slot[i].bytes = malloc(WH_NET_FRAME_SIZE_MAX);
}

static void test(const char *name, uint32_t features, bool cc, bool one_way,
		 uint64_t per_connection, double seconds)
{
	struct wh_net_end at = { .port = 80 };
	struct wh_net_tuple t = { .remote = { wh_net_ip4((const uint8_t[]){ 10, 0, 0, 2 }), 80 } };
	struct wh_net_tcp *l;
	struct wh_net_stats st;
	end_init(&a, &b, 1, features, cc);
	end_init(&b, &a, 2, features, cc);
	wh_assert(!wh_net_tcp_listen(b.net, &at, false, 8, &listen_ops, 0, &l));
	received = exchanges = closed = 0;
	client = 0;
	bulk = one_way;
	uint64_t begin = now(), end = begin + (uint64_t)(seconds * 1e9), done;
	while ((done = now()) < end) {
		if (!client) {
			exchanges = 0;
			total = per_connection;
			wh_assert(!wh_net_tcp_connect(a.net, &t, &client_ops, 0, &client));
		}
		for (int i = 0; i < 16; i++) {
			stack_time += 2000;
			deliver(&a);
			deliver(&b);
		}
	}
	double ns = (double)(done - begin);
	wh_net_stats_get(a.net, &st);
	double segments = (double)(st.tcp_in + st.tcp_out);
	printf("{\"test\":\"%s\",\"ns_per_segment\":%.1f,\"segments\":%.0f", name, ns / segments,
	       segments);
	if (bulk)
		printf(",\"gbit_per_s\":%.1f,\"ps_per_byte\":%.0f", (double)received * 8 / ns,
		       ns * 1000 / (double)received);
	else if (closed)
		printf(",\"ns_per_connection\":%.0f", ns / (double)closed);
	else
		printf(",\"ns_per_exchange\":%.0f", ns / (double)exchanges);
	printf(",\"retransmits\":%llu}\n", (unsigned long long)st.tcp_retransmits);
	wh_net_free(a.net);
	wh_net_free(b.net);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	uint32_t all = WH_NET_LINK_CSUM | WH_NET_LINK_TSO4;
	test("bulk, offload", all, false, true, 0, seconds);
	test("bulk, offload, CUBIC", all, true, true, 0, seconds);
	test("bulk, MTU 1500, no checksum", WH_NET_LINK_CSUM, false, true, 0, seconds);
	test("bulk, MTU 1500, checksum", 0, false, true, 0, seconds);
	test("request and response", all, false, false, UINT64_MAX, seconds);
	test("request and response, CUBIC", all, true, false, UINT64_MAX, seconds);
	test("connect, exchange, close", all, false, false, 1, seconds);
	return 0;
}
