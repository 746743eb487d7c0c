/* SPDX-License-Identifier: ISC */
/*
 * Many flows at once in random directions, sizes and ends, over a link whose depth changes and a guest
 * that stalls: every flow that neither side resets arrives complete, and nothing is left behind.
 */
#include "world.h"

#include <netinet/in.h>
#include <unistd.h>
#include <wherry/base/hash.h>

#define FLOWS 24
#define ROUNDS 400

static struct world w;
static uint64_t random_state;

struct pair {
	struct app app;
	struct program program;
	bool used, inbound, taken;
	enum { ORDERLY, GUEST_RESETS, HOST_RESETS } end;
	uint64_t reset_at;
};
static struct pair pairs[FLOWS];
static struct app_listener guest_listener;

static uint64_t pick(uint64_t below)
{
	return wh_random_next(&random_state) % below;
}

static void pair_start(struct pair *p, uint16_t host_port, uint16_t published, int listener)
{
	static const uint32_t sizes[] = { 0, 1, 100, 5000, 70000, 400000 };
	memset(p, 0, sizeof *p);
	p->used = true;
	p->inbound = pick(2);
	p->end = pick(4) ? ORDERLY : pick(2) ? GUEST_RESETS : HOST_RESETS;
	p->app.to_send = pick(sizes[pick(WH_ARRAY_COUNT(sizes))] + 1);
	p->program.to_send = pick(sizes[pick(WH_ARRAY_COUNT(sizes))] + 1);
	p->reset_at = pick(p->app.to_send + p->program.to_send + 1);
	p->app.shut_after = p->program.shut_after = true;
	/* One connection at a time, so that both ends are known to belong together. */
	w.guest_stopped = false;
	if (p->inbound) {
		guest_listener.next = &p->app;
		program_connect(&p->program, &w, AF_INET, published);
		UNTIL(&w, p->app.connected || p->program.error);
		CHECK(p->app.connected);
	} else {
		app_connect(&p->app, &w, false, host_port);
		program_accept(&p->program, &w, listener);
	}
}

static bool pair_done(struct pair *p)
{
	if (p->end == ORDERLY)
		return p->app.at_end && p->program.at_end;
	uint64_t moved = p->app.received + p->program.received;
	if (moved < p->reset_at)
		return false;
	if (p->end == GUEST_RESETS && p->app.tcp)
		app_abort(&p->app);
	if (p->end == HOST_RESETS && p->program.watch.fd >= 0)
		program_reset(&p->program);
	return true;
}

static void pair_finish(struct pair *p)
{
	CHECK(!p->app.mismatch && !p->program.mismatch);
	if (p->end == ORDERLY) {
		CHECK_EQ(p->app.received, p->program.to_send);
		CHECK_EQ(p->program.received, p->app.to_send);
		CHECK(!p->app.failed && !p->program.error);
	}
	app_close(&p->app);
	program_close(&p->program);
	p->used = false;
}

static void mixed_flows(void)
{
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP, .guest_port = 80 };
	struct wh_gateway_stats stats;
	struct wh_net_end bound;
	uint16_t port;
	random_state = test_seed();
	world_init(&w);
	world_start(&w);
	int listener = host_listen(AF_INET, &port);
	app_listen(&guest_listener, &w, 80);
	CHECK_EQ(wh_gateway_publish(w.gateway, &rule, NULL, &bound, NULL), 0);
	unsigned started = 0, open = 0;
	uint64_t end = world_clock() + 60000000000ull;
	while (started < ROUNDS || open) {
		struct pair *p = &pairs[pick(FLOWS)];
		if (!p->used && started < ROUNDS) {
			pair_start(p, port, bound.port, listener);
			started++;
			open++;
		}
		w.guest_end.capacity = (uint32_t)(2 + pick(30));
		w.host_end.capacity = (uint32_t)(2 + pick(30));
		w.guest_stopped = pick(8) == 0;
		for (int i = 0; i < 5; i++)
			wh_loop_step(w.loop, 0);
		for (int i = 0; i < FLOWS; i++)
			if (pairs[i].used && pair_done(&pairs[i])) {
				pair_finish(&pairs[i]);
				open--;
			}
		if (world_clock() > end)
			test_fail(__FILE__, __LINE__, "%u flows are stuck", open);
	}
	w.guest_stopped = false;
	w.guest_end.capacity = w.host_end.capacity = LINK_FRAMES_MAX;
	do {
		wh_loop_step(w.loop, 10);
		wh_gateway_stats(w.gateway, &stats);
		CHECK(world_clock() < end);
	} while (stats.tcp_flows);
	CHECK(stats.descriptors <= 2); /* the listeners, of IPv4 and IPv6 */
	CHECK_EQ(stats.tcp_pending, 0);
	close(listener);
	app_unlisten(&guest_listener);
	world_stop(&w);
}

int main(void)
{
	RUN(mixed_flows);
	return test_end();
}
