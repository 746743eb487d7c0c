/* SPDX-License-Identifier: ISC */
/*
 * Many requests in flight, which overlap, on files that answer late and in any order, as a seed says: what is read is what
 * was submitted before, the power is cut at any moment, and what a flush promised is there. A race that QEMU
 * loses (a cluster that a discard gave back is written by one who still uses it) is looked for with the same driver; and that
 * the driver would find it is shown by giving clusters back too early.
 *
 * WHERRY_CRASH_SEQUENCES sets how many sequences (190).
 */
#include <stdio.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "crash.h"

#define DEPTH_MAX 48u
#define WRITE_MAX 16u /* sectors */

static const struct kit_options kinds[] = {
	{ 3, 512, 16, 100 << 10 },
	{ 3, 4096, 16, 256 << 10 },
	{ 2, 4096, 16, 256 << 10 },
	{ 3, 512, 64, 100 << 10, 1 },
	{ 3, 4096, 16, 256 << 10, .backing = KIT_RAW_BACKING },
	{ 3, 1024, 8, 200 << 10, .backing = KIT_QCOW2_BACKING },
	{ 3, 16384, 16, 256 << 10, .extended = true, .backing = KIT_RAW_BACKING },
	{ 3, 4096, 16, 256 << 10, .data = true },
	{ 3, 4096, 16, 256 << 10, .data = true, .backing = KIT_RAW_BACKING },
	{ 3, 65536, 1, 300 << 10 },
};

enum mutation { NONE, FREED_IN_USE, FREED_EARLY };

struct slot {
	struct wh_block_request q;
	struct wh_iov iov;
	uint8_t data[WRITE_MAX * 512];
	uint32_t wanted[WRITE_MAX];
	bool may_be_zero[WRITE_MAX];
	uint32_t at, count, first_event, events;
	size_t asked;
	uint64_t what; /* quiesce */
	bool busy;
};

static struct slot slots[DEPTH_MAX];
static bool may_be_zero[CRASH_SECTORS]; /* discarded since it was written */
static unsigned in_flight;
static enum mutation mutation;

static void check_read(const struct slot *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		uint32_t v = crash_value(s->data + i * 512);
		if (v != s->wanted[i] && (v || !s->may_be_zero[i]))
			test_fail(__FILE__, __LINE__, "%s: sector %u reads as %u, not %u",
				  kit_name(&crash.kit.o), s->at + i, v, s->wanted[i]);
	}
}

/* Alone with the image, while others wait. */
static void maintain(uint64_t r)
{
	struct crash_window *w = crash_maintain();
	if (r % 4 == 0 && crash.life_count < 4 && !crash.kit.o.data) {
		struct crash_life *l = &crash.life[crash.life_count];
		CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_READ, 0, crash.buffer,
				     crash.sectors * 512ull, 0),
			 0);
		if (crash_snapshot())
			for (uint32_t i = 0; i < crash.sectors; i++)
				l->value[i] = crash_value(crash.buffer + i * 512);
	} else if (r % 4 == 1 && crash.life_count &&
		   crash.life[crash.life_count - 1].ending == CRASH_NEVER) {
		crash_snapshot_delete(&crash.life[crash.life_count - 1]);
	} else {
		crash_compact(3, 16384);
	}
	crash_maintained(w);
}

static void done(struct wh_block_request *q, int result)
{
	struct slot *s = q->ctx;
	CHECK_EQ(result, 0);
	size_t answered = crash_tick();
	for (uint32_t i = 0; i < s->events; i++)
		crash.event[s->first_event + i].answered = answered;
	if (q->op == WH_BLOCK_READ)
		check_read(s);
	else if (q->op == WH_BLOCK_FLUSH)
		crash_promised(s->asked);
	else if (q->op == WH_BLOCK_QUIESCE)
		maintain(s->what);
	s->busy = false;
	in_flight--;
}

static void expect(struct slot *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		s->wanted[i] = crash.now[s->at + i];
		s->may_be_zero[i] = may_be_zero[s->at + i];
	}
}

/* What the disk holds when this has its turn, by the order of submission. */
static void foresee(struct slot *s, enum wh_block_op op, uint32_t flags)
{
	s->first_event = crash.event_count;
	for (uint32_t i = 0; i < s->count; i++) {
		uint32_t sector = s->at + i, value = 0, old = crash.now[sector];
		if (op == WH_BLOCK_WRITE) {
			value = crash.next_value++;
			crash_fill(s->data + i * 512, value);
		}
		uint32_t e = crash_happened(sector, value, s->asked, CRASH_NEVER);
		crash.event[e].durable = flags & WH_BLOCK_FUA;
		crash.event[e].maybe = op == WH_BLOCK_DISCARD;
		if (op == WH_BLOCK_DISCARD)
			crash.now[sector] = old;
		may_be_zero[sector] = op == WH_BLOCK_DISCARD;
	}
	s->events = s->count;
}

static void launch(struct slot *s, enum wh_block_op op, uint32_t at, uint32_t count, uint32_t flags,
		   uint64_t what)
{
	s->at = at;
	s->count = count;
	s->asked = crash_tick();
	s->busy = true;
	s->events = 0;
	s->what = what;
	if (op == WH_BLOCK_READ)
		expect(s);
	else if (op != WH_BLOCK_FLUSH && op != WH_BLOCK_QUIESCE)
		foresee(s, op, flags);
	s->iov = (struct wh_iov){ s->data, count * 512 };
	s->q = (struct wh_block_request){ .op = op,
					  .flags = flags,
					  .offset = at * 512,
					  .size = count * 512,
					  .iov = &s->iov,
					  .iov_count = 1,
					  .done = done,
					  .ctx = s };
	if (op == WH_BLOCK_FLUSH || op == WH_BLOCK_QUIESCE)
		s->q.offset = s->q.size = 0;
	in_flight++;
	wh_block_submit(crash.kit.block, &s->q);
}

/* hot: so many clusters only, or half of one. */
static void submit_any(uint64_t r, uint32_t hot, bool quiet)
{
	struct slot *s = slots;
	uint32_t per = crash.kit.o.cluster / 512;
	uint32_t count = 1 + (uint32_t)(r >> 20) % WRITE_MAX,
		 at = (uint32_t)(r >> 30) % crash.sectors;
	if (hot) {
		count = per < WRITE_MAX ? per : WRITE_MAX;
		at = (uint32_t)(r >> 30) % hot * per;
		if (r >> 50 & 1 && count > 1) {
			at += r >> 51 & 1 ? count / 2 : 0;
			count = count / 2;
		}
	}
	if (count > crash.sectors - at)
		count = crash.sectors - at;
	while (s->busy)
		s++;
	switch (r % 16) {
	case 0:
	case 1:
	case 2:
		launch(s, WH_BLOCK_WRITE_ZEROES, at, count, r >> 10 & 1 ? WH_BLOCK_UNMAP : 0, 0);
		break;
	case 3:
	case 4:
		launch(s, WH_BLOCK_DISCARD, at, count, 0, 0);
		break;
	case 5:
	case 6:
		launch(s, WH_BLOCK_READ, at, count, 0, 0);
		break;
	case 7:
		if (crash.promise_count < CRASH_PROMISES - 8)
			launch(s, WH_BLOCK_FLUSH, 0, 0, 0, 0);
		break;
	case 8:
		if (!quiet && r >> 12 & 1 && crash.window_count < CRASH_WINDOWS - 1)
			launch(s, WH_BLOCK_QUIESCE, 0, 0, 0, r >> 13);
		break;
	case 9:
	case 10:
		if (per <= WRITE_MAX && !crash.kit.o.data &&
		    at / per * per + per <= crash.sectors) {
			launch(s, WH_BLOCK_WRITE, at / per * per, per, WH_BLOCK_COMPRESS, 0);
			break;
		} /* fall through */
	default:
		launch(s, WH_BLOCK_WRITE, at, count, r >> 10 & 7 ? 0 : WH_BLOCK_FUA, 0);
	}
}

static void mutate(void)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	for (uint32_t i = 0; i < s->freed_count; i++)
		s->freed[i].number = 0;
	if (mutation != FREED_EARLY || s->sync.running)
		return;
	for (uint32_t i = 0; i < s->freed_count; i++)
		qcow2_unalloc(s, s->freed[i].cluster, s->freed[i].count);
	s->freed_count = 0;
}

static void answer_any(uint64_t r)
{
	struct mem_file *files[] = { &crash.kit.image, &crash.kit.data, &crash.kit.base,
				     &crash.kit.base2 };
	unsigned waiting = 0;
	for (unsigned i = 0; i < WH_ARRAY_COUNT(files); i++)
		waiting += files[i]->waiting_count;
	if (!waiting)
		return;
	unsigned n = (unsigned)(r % waiting), i = 0;
	while (n >= files[i]->waiting_count)
		n -= files[i++]->waiting_count;
	mem_file_step(files[i], n);
}

/* What is asked at once, while tables are being read and written, disturbs nobody. */
static void map_any(uint64_t r)
{
	uint64_t at = r % crash.sectors * 512, disk = crash.sectors * 512ull;
	struct wh_block_extent e;
	CHECK_EQ(wh_block_map(crash.kit.block, at, disk - at, WH_BLOCK_CHAIN_MAX, &e), 0);
	CHECK(e.size && e.size <= disk - at);
}

static void late(bool on)
{
	crash.kit.image.late = crash.kit.data.late = on;
	crash.kit.base.late = crash.kit.base2.late = on;
}

static void run(uint64_t *seed, const struct kit_options *o, unsigned depth, unsigned requests,
		uint32_t hot, unsigned states)
{
	crash_begin(seed, o);
	memset(may_be_zero, 0, sizeof may_be_zero);
	memset(slots, 0, sizeof slots);
	in_flight = 0;
	crash_record(0);
	late(true);
	while (requests || in_flight) {
		uint64_t r = wh_random_next(seed);
		if (mutation != NONE)
			mutate();
		if (r >> 50 & 1)
			map_any(r >> 4);
		if (requests && in_flight < depth && r % 2) {
			submit_any(r >> 1, hot, hot || mutation != NONE);
			requests--;
		} else {
			answer_any(r >> 1);
		}
	}
	late(false);
	struct slot *s = &slots[0];
	for (uint32_t at = 0; at < crash.sectors; at += WRITE_MAX)
		launch(s, WH_BLOCK_READ, at,
		       crash.sectors - at < WRITE_MAX ? crash.sectors - at : WRITE_MAX, 0, 0);
	crash_close();
	kit_expect_clean(&crash.kit, false);
	crash.kit.block = 0;
	for (unsigned i = 0; i < states; i++)
		crash_random(seed, wh_random_next(seed) % (crash_ticks() + 1));
	crash_end();
}

static void power_cuts_with_many_in_flight(void)
{
	const char *n = getenv("WHERRY_CRASH_SEQUENCES");
	unsigned long count = n ? strtoul(n, 0, 0) : 190;
	crash.qemu_every = system("qemu-img --version >/dev/null 2>&1") ? 0 : 300;
	for (unsigned long i = 0; i < count; i++) {
		uint64_t seed = test_seed() + 31 * i;
		run(&seed, &kinds[i % WH_ARRAY_COUNT(kinds)], 2 + (unsigned)(i % 15), 60, 0, 12);
	}
	printf("%lu states, %lu of them dirty\n", crash.states, crash.dirty);
}

/* QEMU since 1.0 (qemu-devel, April 2026), cloud-hypervisor #8624: 24 hot clusters, 48 requests in flight. */
static void discards_race_with_writes(void)
{
	static const struct kit_options o = { 3, 4096, 16, 256 << 10 };
	for (unsigned i = 0; i < 50; i++) {
		uint64_t seed = test_seed() + 977 * i;
		run(&seed, &o, 48, 1000, 24, 3);
	}
}

/* cloud-hypervisor #7660, #8621: queues with a cache each, and several queues over a backing file with tables already there,
 * lost and mixed data. QEMU 4.1: preallocated images, of a lock that was let go. Here one image serves all. */
static void several_queues_where_tables_are_there(void)
{
	static const struct kit_options o[] = {
		{ 3, 4096, 16, 256 << 10, .backing = KIT_RAW_BACKING },
		{ 3, 65536, 16, 512 << 10, .backing = KIT_QCOW2_BACKING },
		{ 3, 4096, 16, 256 << 10, .preallocation = WH_BLOCK_PREALLOCATION_METADATA },
		{ 3, 4096, 16, 256 << 10, .preallocation = WH_BLOCK_PREALLOCATION_FALLOC }
	};
	for (unsigned i = 0; i < 40; i++) {
		uint64_t seed = test_seed() + 677 * i;
		run(&seed, &o[i % 4], 32, 300, 0, 4);
	}
}

static void answer_all_but(struct mem_file *m, const struct wh_block_request *held)
{
	for (unsigned n = 0; n < m->waiting_count;)
		if (m->waiting[n] == &held->io)
			n++;
		else {
			if (mutation != NONE)
				mutate();
			mem_file_step(m, n);
			n = 0;
		}
}

/* A read of half a packed cluster is under way while the other half is written, which gives it another place, and a
 * flush ends: its bytes must be there for the read. Then others take the same place, to the byte. */
static void read_while_its_cluster_is_freed(void *ctx)
{
	static const struct kit_options o = { 3, 4096, 16, 256 << 10 };
	uint64_t seed = test_seed();
	mutation = ctx ? FREED_IN_USE : NONE;
	crash_begin(&seed, &o);
	memset(may_be_zero, 0, sizeof may_be_zero);
	in_flight = 0;
	crash_record(0);
	crash_write(64, 8, 0); /* the L2 table is there */
	launch(&slots[0], WH_BLOCK_WRITE, 0, 8, WH_BLOCK_COMPRESS, 0);
	late(true);
	launch(&slots[1], WH_BLOCK_READ, 4, 4, 0, 0);
	launch(&slots[2], WH_BLOCK_WRITE, 0, 4, 0, 0);
	answer_all_but(&crash.kit.image, &slots[1].q);
	launch(&slots[3], WH_BLOCK_FLUSH, 0, 0, 0, 0);
	answer_all_but(&crash.kit.image, &slots[1].q);
	CHECK_EQ(in_flight, 1);
	mem_file_step(&crash.kit.image, 0);
	CHECK_EQ(in_flight, 0);
	late(false);
	crash_flush();
	for (uint32_t c = 2; c < 8; c++) {
		launch(&slots[0], WH_BLOCK_WRITE, c * 8, 8, WH_BLOCK_COMPRESS, 0);
		launch(&slots[1], WH_BLOCK_READ, c * 8, 8, 0, 0);
	}
	launch(&slots[0], WH_BLOCK_READ, 0, 8, 0, 0);
	crash_close();
	kit_expect_clean(&crash.kit, false);
	crash_end();
}

static void a_freed_packed_cluster_is_still_read(void)
{
	read_while_its_cluster_is_freed(0);
	if (!crash_noticed(read_while_its_cluster_is_freed, &mutation))
		test_fail(__FILE__, __LINE__, "nobody notices that it was given back");
}

static void mutated(void *ctx)
{
	mutation = *(enum mutation *)ctx;
	crash.qemu_every = 0;
	for (unsigned i = 0; i < 60; i++) {
		uint64_t seed = test_seed() + 977 * i;
		run(&seed, &kinds[i % 2], 16, 400, 5, 12);
	}
}

static void clusters_given_back_too_early_are_noticed(void)
{
	enum mutation m = FREED_EARLY;
	CHECK(crash_noticed(mutated, &m));
}

int main(void)
{
	RUN(power_cuts_with_many_in_flight);
	RUN(discards_race_with_writes);
	RUN(several_queues_where_tables_are_there);
	RUN(a_freed_packed_cluster_is_still_read);
	RUN(clusters_given_back_too_early_are_noticed);
	return test_end();
}
