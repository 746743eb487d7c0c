/* SPDX-License-Identifier: ISC */
#include "sim.h"

static uint32_t percent(struct sim *s)
{
	return (uint32_t)(wh_random_next(&s->random) % 100);
}

/* Time that the frame spends in the bottleneck; false = no room. */
static bool bottleneck(struct sim_side *to, uint32_t size, bool *ret_mark, uint64_t *ret_wait)
{
	struct sim *s = to->sim;
	uint64_t begin = to->line_free > s->now ? to->line_free : s->now;
	uint64_t waiting = (begin - s->now) * s->rate / SEC;
	*ret_wait = 0;
	*ret_mark = s->mark_bytes && waiting > s->mark_bytes;
	if (!s->rate)
		return true;
	if (waiting + size > s->backlog_bytes)
		return false;
	to->line_free = begin + size * SEC / s->rate;
	*ret_wait = to->line_free - s->now;
	return true;
}

/* Sets "congestion experienced" in a capable IPv4 packet. */
static void mark(struct sim_side *to, uint8_t *frame)
{
	uint8_t *ip = frame + 14;
	if (frame[12] != 8 || frame[13] || !(ip[1] & 3))
		return;
	ip[1] |= 3;
	ip[10] = ip[11] = 0;
	uint16_t sum = wh_wire_sum_finish(wh_wire_sum(0, ip, 20));
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	to->marked++;
}

static void enqueue(struct sim_side *to, const struct wh_net_frame *f)
{
	struct sim *s = to->sim;
	bool marked;
	uint64_t wait;
	if (to->queued == SIM_FRAMES_MAX || !bottleneck(to, f->size, &marked, &wait)) {
		to->dropped++;
		return;
	}
	struct sim_frame q = { .size = f->size,
			       .flags = f->flags,
			       .gso_type = f->gso_type,
			       .gso_size = f->gso_size,
			       .csum_start = f->csum_start,
			       .csum_offset = f->csum_offset };
	q.bytes = malloc(f->size);
	CHECK_EQ(wh_iov_read(f->iov, f->iov_count, 0, q.bytes, f->size), f->size);
	if (marked)
		mark(to, q.bytes);
	q.at = s->now + wait + s->delay + (s->jitter ? wh_random_next(&s->random) % s->jitter : 0);
	uint32_t i = to->queued++;
	while (i && to->queue[i - 1].at > q.at) {
		to->queue[i] = to->queue[i - 1];
		i--;
	}
	to->queue[i] = q;
}

static int side_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct sim_side *side = port->provider;
	struct sim *s = side->sim;
	CHECK(f->size <= WH_NET_FRAME_SIZE_MAX && f->iov_count <= WH_NET_FRAME_IOV_MAX);
	CHECK_EQ(wh_iov_size(f->iov, f->iov_count), f->size);
	CHECK(f->gso_type ? f->flags & WH_NET_NEEDS_CSUM : f->size <= port->mtu + 14);
	if (side->blocked || (s->capacity && side->other->queued >= s->capacity))
		return -WH_EAGAIN;
	side->sent++;
	uint8_t *copy = malloc(f->size);
	wh_iov_read(f->iov, f->iov_count, 0, copy, f->size);
	bool keep = !side->filter || side->filter(side, copy, f->size);
	free(copy);
	if (!keep || percent(s) < s->loss_percent) {
		side->dropped++;
		return 0;
	}
	enqueue(side->other, f);
	if (percent(s) < s->duplicate_percent)
		enqueue(side->other, f);
	return 0;
}

void sim_config(struct wh_net_config *c)
{
	struct wh_net_config fresh = WH_NET_CONFIG_INIT;
	*c = fresh;
	c->alloc = &test_allocator;
	c->key[0] = 0x1234;
	c->key[1] = 0x5678;
	c->cc = &wh_net_cc_reno;
}

static void side_init(struct sim *s, struct sim_side *side, const struct wh_net_config *config,
		      uint8_t number, uint32_t features, uint32_t mtu)
{
	struct wh_net_config c = *config;
	uint8_t four[4] = { 10, 0, 2, number }, six[16] = { 0xfd, 0x77, [15] = number };
	uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, number };
	memcpy(c.mac, mac, 6);
	memcpy(side->mac, mac, 6);
	c.key[0] += number;
	side->sim = s;
	side->ip4 = wh_net_ip4(four);
	side->ip6 = wh_net_ip6(six);
	side->port = (struct wh_net_port){
		.send = side_send, .link_features = features, .mtu = mtu, .provider = side
	};
	CHECK_EQ(wh_net_new(&c, s->now, &side->net), 0);
	CHECK_EQ(wh_net_tcp_enable(side->net), 0);
	CHECK_EQ(wh_net_udp_enable(side->net), 0);
	CHECK_EQ(wh_net_address_add(side->net, &side->ip4, 24), 0);
	CHECK_EQ(wh_net_address_add(side->net, &side->ip6, 64), 0);
	wh_net_attach(side->net, &side->port);
	side->deadline = s->now;
}

void sim_init(struct sim *s, const struct wh_net_config *a, const struct wh_net_config *b,
	      uint32_t features, uint32_t mtu)
{
	memset(s, 0, sizeof *s);
	s->now = 100 * SEC;
	s->random = test_seed();
	s->delay = 50000;
	s->a.other = &s->b;
	s->b.other = &s->a;
	side_init(s, &s->a, a, 1, features, mtu);
	side_init(s, &s->b, b, 2, features, mtu);
}

void sim_fini(struct sim *s)
{
	struct sim_side *sides[] = { &s->a, &s->b };
	for (int i = 0; i < 2; i++) {
		wh_net_free(sides[i]->net);
		for (uint32_t k = 0; k < sides[i]->queued; k++)
			free(sides[i]->queue[k].bytes);
	}
}

static bool deliver(struct sim_side *side)
{
	struct sim *s = side->sim;
	bool any = false, was_full = s->capacity && side->queued >= s->capacity;
	while (side->queued && side->queue[0].at <= s->now) {
		struct sim_frame q = side->queue[0];
		memmove(side->queue, side->queue + 1, --side->queued * sizeof q);
		/* Two pieces, so that scattered frames are the rule. */
		uint32_t cut = q.size > 60 ? 14 + (uint32_t)(wh_random_next(&s->random) % 46) : 14;
		struct wh_iov iov[2] = { { q.bytes, cut }, { q.bytes + cut, q.size - cut } };
		struct wh_net_frame f = { .iov = iov,
					  .iov_count = 2,
					  .size = q.size,
					  .flags = q.flags,
					  .gso_type = q.gso_type,
					  .gso_size = q.gso_size,
					  .csum_start = q.csum_start,
					  .csum_offset = q.csum_offset };
		wh_net_time(side->net, s->now);
		CHECK_EQ(side->port.receive(&side->port, &f), 0);
		free(q.bytes);
		any = true;
	}
	if (was_full && side->queued < s->capacity)
		side->other->port.writable(&side->other->port);
	return any;
}

bool sim_run(struct sim *s, uint64_t time, bool (*done)(void *), void *ctx)
{
	uint64_t end = s->now + time;
	struct sim_side *sides[] = { &s->a, &s->b };
	for (uint64_t steps = 0; s->now <= end; steps++) {
		if (steps > 20000000)
			CHECK(!"simulation does not end");
		for (int i = 0; i < 2; i++) {
			deliver(sides[i]);
			sides[i]->deadline = wh_net_run(sides[i]->net, s->now);
		}
		if (done && done(ctx))
			return true;
		uint64_t next = end + 1;
		for (int i = 0; i < 2; i++) {
			if (sides[i]->deadline < next)
				next = sides[i]->deadline;
			if (sides[i]->queued && sides[i]->queue[0].at < next)
				next = sides[i]->queue[0].at;
		}
		if (next > s->now)
			s->now = next;
	}
	s->now = end;
	return false;
}

struct wh_net_tuple sim_tuple(const struct sim_side *from, const struct sim_side *to, uint16_t port,
			      bool six)
{
	struct wh_net_tuple t = { .local = { six ? from->ip6 : from->ip4, 0 },
				  .remote = { six ? to->ip6 : to->ip4, port } };
	return t;
}
