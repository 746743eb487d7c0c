/* SPDX-License-Identifier: ISC */
/*
 * The power of the crash tests. For each barrier there is a short piece of work during which every crash state is tried: all
 * must be good, and when the barrier does nothing at least one must be bad. So must it be when clusters are
 * given out again before the flush that drops them has ended.
 */
#include <stdio.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

#include "crash.h"

struct scenario {
	unsigned barrier;
	const char *name;
	struct kit_options o;
	void (*prepare)(void); /* the image is open; what it does is durable */
	void (*act)(void);     /* open and recorded; closed afterwards */
	void (*extra)(size_t cut);
	void (*verify)(size_t cut, uint64_t *seed);
	bool early; /* mutation: freed clusters are free at once */
};

static size_t acted; /* the tick when `act` had been answered */
static bool early;

/* Counts of what no table refers to any more go down at once. */
static void free_early(void)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	for (uint32_t i = 0; early && i < s->freed_count; i++)
		qcow2_unalloc(s, s->freed[i].cluster, s->freed[i].count);
	if (early)
		s->freed_count = 0;
}

/* ---- requests ---- */

static void some_data(void)
{
	crash_write(0, 1, 0);
}

static void write_and_flush(void)
{
	crash_write(16, 8, 0);
	crash_flush();
}

static void write_more_than_a_block_counts(void)
{
	crash_write(0, 100, 0);
	crash_flush();
}

/* Into an L2 table that is there, with more clusters than a refcount block counts. */
static void fill_one_table(void)
{
	crash_write(1, 63, 0);
	crash_flush();
}

/* A new L2 table at the end of the file and nothing behind it. */
static void zero_and_flush(void)
{
	crash_zero(0, 64, WH_BLOCK_UNMAP);
	crash_flush();
}

static void data_and_snapshot(void)
{
	crash_write(0, 10, 0);
	CHECK(crash_snapshot());
}

static void write_over_snapshot(void)
{
	crash_write(3, 1, 0);
	crash_flush();
}

static void two_clusters(void)
{
	crash_write(0, 2, 0);
	crash_flush();
}

static void free_and_take(void)
{
	crash_zero(0, 1, WH_BLOCK_UNMAP);
	free_early();
	crash_write(8, 1, 0);
	crash_flush();
}

/* ---- the refcount table ---- */

static uint64_t taken;

/* Uses up all clusters that the refcount table has entries for, but for `left` (or what a block takes). */
static void use_up(uint64_t left)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	uint64_t cluster, end = (uint64_t)s->rt_size * s->refblock_entries, count = 1;
	taken = 0;
	do {
		CHECK_EQ(qcow2_alloc(s, 1, &cluster, &count), 0);
		taken = taken ? taken : cluster;
		qcow2_used(s, cluster, 1);
	} while (cluster + left + 1 < end);
	uint8_t zero[512] = { 0 };
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_WRITE, cluster * 512, zero, 512), 0);
}

static void all_but_a_few(void)
{
	some_data();
	use_up(4);
}

static void grown_and_empty_again(void)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	uint64_t old = s->rt_offset;
	some_data();
	use_up(4);
	crash_write(16, 20, 0);
	CHECK(s->rt_offset != old);
	crash_zero(16, 20, WH_BLOCK_UNMAP);
	CHECK_EQ(qcow2_settle(s), 0);
	for (uint64_t c = taken; c < s->rt_offset / 512; c++) {
		uint64_t count;
		CHECK_EQ(qcow2_refcount(s, c, &count), 0);
		if (count && !qcow2_is_meta(s, c))
			qcow2_unalloc(s, c, 1);
	}
}

static void holes(void)
{
	crash_write(0, 40, 0);
	crash_zero(0, 30, WH_BLOCK_UNMAP);
}

static void compact(void)
{
	struct crash_window *w = crash_maintain();
	crash_compact(1000, 4096);
	crash_maintained(w);
}

static void promised_cut(size_t cut)
{
	if (cut >= acted)
		CHECK(crash.state.image.size <= crash.kit.image.size);
}

/* ---- maintenance ---- */

static void take_snapshot(void)
{
	struct crash_window *w = crash_maintain();
	CHECK(crash_snapshot());
	crash_maintained(w);
}

static void drop_snapshot(void)
{
	struct crash_window *w = crash_maintain();
	crash_snapshot_delete(&crash.life[0]);
	crash_maintained(w);
}

static void snapshot_and_change(void)
{
	data_and_snapshot();
	crash_write(2, 6, 0);
}

static void apply_snapshot(void)
{
	struct crash_window *w = crash_maintain();
	CHECK(crash_snapshot_apply(&crash.life[0]));
	crash_maintained(w);
}

static void shrink(void)
{
	struct crash_window *w = crash_maintain();
	crash_resize(64);
	crash_maintained(w);
}

static void grow(void)
{
	struct crash_window *w = crash_maintain();
	crash_resize(1000);
	crash_maintained(w);
}

static char long_name[2][700];

static void name_a_backing_file(void)
{
	struct crash_window *w = crash_maintain();
	CHECK_EQ(wh_block_set_backing(crash.kit.block, long_name[1], WH_BLOCK_FORMAT_RAW, 0), 0);
	crash_maintained(w);
}

static void named_before(void)
{
	struct wh_block_io io = { .kind = WH_BLOCK_IO_RESIZE,
				  .flags = WH_BLOCK_IO_NOW,
				  .offset = 64 << 10 };
	CHECK_EQ(crash.kit.base.file.ops->submit(&crash.kit.base, &io), 0);
	some_data();
	for (int i = 0; i < 2; i++)
		memset(long_name[i], 'a' + i, sizeof long_name[i] - 1);
	CHECK_EQ(wh_block_set_backing(crash.kit.block, long_name[0], WH_BLOCK_FORMAT_RAW, 0), 0);
}

static void verify_name(size_t cut, uint64_t *seed)
{
	struct wh_diag diag = { "" };
	struct wh_block_info info;
	if (kit_open(&crash.state, true, WH_BLOCK_OPEN_ALONE, 0, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s", diag.text);
	wh_block_info(crash.state.block, &info);
	if (cut >= acted || !wh_streq(info.backing_name, long_name[0]))
		CHECK_STR(info.backing_name, long_name[1]);
	CHECK_EQ(info.backing_format, WH_BLOCK_FORMAT_RAW);
	CHECK_EQ(wh_block_close(crash.state.block), 0);
	crash.state.block = 0;
	kit_expect_clean(&crash.state, true);
}

/* ---- what we do not maintain ---- */

#define UNKNOWN_BIT (1ull << 40)
static uint64_t bitmap_at;

static void unknown_autoclear_bit(void)
{
	some_data();
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	CHECK_EQ(qcow2_header_store64(qcow2_of(crash.kit.block), QCOW2_H_AUTOCLEAR, UNKNOWN_BIT),
		 0);
}

static bool changed(void)
{
	/* The one sector that `act` writes in place. */
	for (uint64_t i = 0; i + 512 <= crash.state.image.size; i += 512)
		if (wh_load_le32(crash.state.image.data + i) == 2)
			return true;
	return false;
}

static void write_in_place(void)
{
	crash_write(0, 1, 0);
}

static void unknown_bit_is_gone(size_t cut)
{
	if (changed())
		CHECK(!(wh_load_be64(crash.state.image.data + QCOW2_H_AUTOCLEAR) & UNKNOWN_BIT));
}

/* An enabled bitmap without any bits in it: directory and table, both one cluster. */
static void bitmap(void)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	uint8_t b[512] = { 0 }, extension[24] = { 0 };
	uint64_t cluster;
	some_data();
	CHECK_EQ(qcow2_settle(s), 0);
	CHECK_EQ(qcow2_alloc_row(s, 2, &cluster), 0);
	qcow2_used(s, cluster, 2);
	bitmap_at = cluster * 512;
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_WRITE, bitmap_at + 512, b, 512), 0);
	wh_store_be64(b, bitmap_at + 512);
	wh_store_be32(b + 8, 1);
	wh_store_be32(b + 12, 2); /* auto */
	b[16] = 1;
	b[17] = 16;
	b[19] = 1;
	b[24] = 'b';
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_WRITE, bitmap_at, b, 512), 0);
	wh_store_be32(extension, 1);
	wh_store_be64(extension + 8, 32);
	wh_store_be64(extension + 16, bitmap_at);
	memset(b, 0, sizeof b);
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_READ, 0, b, 512), 0);
	CHECK(qcow2_put_extension(b, s->header_length, 512, QCOW2_EXT_BITMAPS, extension,
				  sizeof extension));
	wh_store_be64(b + QCOW2_H_AUTOCLEAR, QCOW2_AUTOCLEAR_BITMAPS);
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_WRITE, 0, b, 512), 0);
}

static void bitmap_says_in_use(size_t cut)
{
	if (changed())
		CHECK(crash.state.image.data[bitmap_at + 15] & 1);
}

/* ---- images that contradict themselves ---- */

static uint64_t first_l2(const struct mem_file *m)
{
	uint64_t l1 = wh_load_be64(m->data + QCOW2_H_L1_OFFSET);
	return wh_load_be64(m->data + l1) & QCOW2_OFFSET_MASK;
}

static void entry_outside(void)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	uint8_t b[8];
	crash_write(0, 4, 0);
	CHECK_EQ(qcow2_settle(s), 0);
	wh_store_be64(b, 1ull << 40 | QCOW2_COPIED);
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_WRITE, first_l2(&crash.kit.image) + 32 * 8, b, 8),
		 0);
	qcow2_caches_drop(s);
}

static void meet_it(void)
{
	CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_WRITE, 32 * 512, crash.buffer, 512, 0),
		 -WH_EIO);
	acted = crash_tick();
	CHECK_EQ(wh_block_close(crash.kit.block), -WH_EIO);
	crash.kit.block = 0;
}

static void verify_corrupt_mark(size_t cut, uint64_t *seed)
{
	if (cut >= acted)
		CHECK(wh_load_be64(crash.state.image.data + QCOW2_H_INCOMPATIBLE) &
		      QCOW2_INCOMPATIBLE_CORRUPT);
}

/* ---- repair ---- */

static struct wh_block_check damage;
static bool marked; /* the damaged image is dirty: then without the mark it must be good */

static void look(struct kit *k, uint32_t repair, struct wh_block_check *c,
		 struct wh_block_info *info)
{
	struct wh_diag diag = { "" };
	if (kit_open(k, !repair, WH_BLOCK_OPEN_CHECK, 0, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", kit_name(&crash.kit.o), diag.text);
	if (wh_block_check(k->block, repair, 0, c, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", kit_name(&crash.kit.o), diag.text);
	wh_block_info(k->block, info);
	CHECK_EQ(wh_block_close(k->block), 0);
	k->block = 0;
}

static void repair(void)
{
	struct wh_block_info info;
	struct wh_block_check c;
	CHECK_EQ(wh_block_close(crash.kit.block), 0);
	look(&crash.kit, WH_BLOCK_REPAIR_ALL, &c, &info);
	CHECK(!info.dirty && !info.corrupt);
	acted = crash_tick();
}

/* `prepare` that damages: what is wrong is known, and the image is opened without looking at it. */
static void damaged(void)
{
	struct wh_block_info info;
	CHECK_EQ(wh_block_close(crash.kit.block), 0);
	look(&crash.kit, 0, &damage, &info);
	CHECK(damage.corruptions || damage.leaks);
	marked = info.dirty;
	kit_must_open(&crash.kit, true);
}

static void set_count(uint64_t cluster, uint64_t count)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	CHECK_EQ(qcow2_refcount_set(s, cluster, count), 0);
}

static uint64_t data_cluster(uint64_t i)
{
	return (wh_load_be64(crash.kit.image.data + first_l2(&crash.kit.image) + 8 * i) &
		QCOW2_OFFSET_MASK) /
	       crash.kit.o.cluster;
}

/* A refcount block that nobody finds any more. */
static void block_lost(void)
{
	struct qcow2 *s = qcow2_of(crash.kit.block);
	uint8_t zero[8] = { 0 };
	crash_write(0, 300, 0);
	CHECK_EQ(qcow2_settle(s), 0);
	CHECK(s->rt[1]);
	CHECK_EQ(block_io_now(&s->b, WH_BLOCK_IO_WRITE, s->rt_offset + 8, zero, 8), 0);
	damaged();
}

/* Counts too low and too high. */
static void counts_wrong(void)
{
	crash_write(0, 20, 0);
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	set_count(data_cluster(3), 0);
	set_count(data_cluster(4), 2);
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	damaged();
}

/* As a count of 2 leaves them: no COPIED flag, so they need one when the count goes down. */
static void counts_too_high(void)
{
	uint64_t l2;
	crash_write(0, 20, 0);
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	for (unsigned i = 0; i < 8; i++)
		set_count(data_cluster(i), 2);
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	l2 = first_l2(&crash.kit.image);
	for (unsigned i = 0; i < 8; i++)
		crash.kit.image.data[l2 + 8 * i] &= 0x7f;
	damaged();
}

static void flags_wrong(void)
{
	uint64_t l2;
	crash_write(0, 20, 0);
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	l2 = first_l2(&crash.kit.image);
	for (unsigned i = 0; i < 20; i += 2)
		crash.kit.image.data[l2 + 8 * i] &= 0x7f;
	uint8_t dirty[8];
	wh_store_be64(dirty, QCOW2_INCOMPATIBLE_DIRTY);
	memcpy(crash.kit.image.data + QCOW2_H_INCOMPATIBLE, dirty, sizeof dirty);
	damaged();
}

/* An entry that cannot be true names a place for which the counts would be raised. */
static void entry_wrong(void)
{
	uint64_t l2;
	crash_write(0, 20, 0);
	CHECK_EQ(qcow2_settle(qcow2_of(crash.kit.block)), 0);
	l2 = first_l2(&crash.kit.image);
	wh_store_be64(crash.kit.image.data + l2 + 8 * 30, data_cluster(2) * 512 + 512 * 3 + 8);
	wh_store_be64(crash.kit.image.data + l2 + 8 * 31, 1ull << 40 | QCOW2_COPIED);
	damaged();
}

/* Whatever is left: no worse than before, and it can be repaired, with all data; when the repair was answered, clean. */
static void verify_repair(size_t cut, uint64_t *seed)
{
	struct wh_block_info info;
	struct wh_block_check c;
	look(&crash.state, 0, &c, &info);
	CHECK(!info.corrupt);
	if (!info.dirty)
		CHECK(c.corruptions <= (marked ? 0 : damage.corruptions));
	if (cut >= acted)
		CHECK(!info.dirty && !c.corruptions && !c.leaks);
	look(&crash.state, WH_BLOCK_REPAIR_ALL, &c, &info);
	look(&crash.state, 0, &c, &info);
	CHECK(!info.dirty && !c.corruptions && !c.leaks);
	crash_verify(cut, seed);
}

/* ---- all of them ---- */

#define SMALL                        \
	{                            \
		3, 512, 16, 64 << 10 \
	}
#define WIDE                         \
	{                            \
		3, 512, 64, 64 << 10 \
	}
#define OLD                          \
	{                            \
		2, 512, 16, 64 << 10 \
	}

/* Without a barrier or `early`: nothing to leave out, all states are good. */
static const struct scenario scenarios[] = {
	{ QCOW2_BARRIER_LINKED, "linked", SMALL, some_data, write_and_flush },
	{ QCOW2_BARRIER_RT, "refcount table", WIDE, some_data, fill_one_table },
	{ 0,
	  "new l2 table",
	  { 3, 512, 16, 64 << 10, .backing = KIT_RAW_BACKING },
	  0,
	  zero_and_flush },
	{ QCOW2_BARRIER_FINAL, "final", SMALL, some_data, write_and_flush },
	{ QCOW2_BARRIER_COMPACT_COPY, "compact", SMALL, holes, compact },
	{ QCOW2_BARRIER_COMPACT_RT, "compact: table", WIDE, grown_and_empty_again, compact },
	{ QCOW2_BARRIER_CUT, "cut", SMALL, holes, compact, promised_cut },
	{ QCOW2_BARRIER_DIRTY, "dirty", SMALL, write_more_than_a_block_counts, take_snapshot },
	{ QCOW2_BARRIER_BITMAPS, "bitmaps", SMALL, bitmap, write_in_place, bitmap_says_in_use },
	{ QCOW2_BARRIER_AUTOCLEAR, "autoclear", SMALL, unknown_autoclear_bit, write_in_place,
	  unknown_bit_is_gone },
	{ QCOW2_BARRIER_GROWTH, "growth", WIDE, all_but_a_few, write_and_flush },
	{ QCOW2_BARRIER_REBUILD,
	  "rebuild",
	  { 2, 512, 16, 200 << 10 },
	  block_lost,
	  repair,
	  0,
	  verify_repair },
	{ QCOW2_BARRIER_CLEAN, "clean", SMALL, counts_wrong, repair, 0, verify_repair },
	{ QCOW2_BARRIER_REPAIR, "repair: flags", SMALL, flags_wrong, repair, 0, verify_repair },
	{ QCOW2_BARRIER_SIZE, "size", SMALL, write_more_than_a_block_counts, shrink },
	{ QCOW2_BARRIER_SIZE, "size: more", SMALL, write_more_than_a_block_counts, grow },
	{ QCOW2_BARRIER_HEADER_TAIL,
	  "header's tail",
	  { 3, 4096, 16, 64 << 10 },
	  named_before,
	  name_a_backing_file,
	  0,
	  verify_name },
	{ QCOW2_BARRIER_HEADER,
	  "header",
	  { 3, 4096, 16, 64 << 10 },
	  named_before,
	  name_a_backing_file,
	  0,
	  verify_name },
	{ QCOW2_BARRIER_CORRUPT, "corrupt", SMALL, entry_outside, meet_it, 0, verify_corrupt_mark },
	{ 0, "freed early", SMALL, two_clusters, free_and_take, .early = true },
	{ 0, "over a snapshot", SMALL, data_and_snapshot, write_over_snapshot },
	{ 0, "snapshot, version 2", OLD, write_more_than_a_block_counts, take_snapshot },
	{ 0, "drop a snapshot", SMALL, snapshot_and_change, drop_snapshot },
	{ 0, "drop a snapshot, version 2", OLD, snapshot_and_change, drop_snapshot },
	{ 0, "apply a snapshot", SMALL, snapshot_and_change, apply_snapshot },
	{ 0, "apply a snapshot, version 2", OLD, snapshot_and_change, apply_snapshot },
	{ 0, "repair: entries, version 2", OLD, entry_wrong, repair, 0, verify_repair },
	{ 0, "repair: entries", SMALL, entry_wrong, repair, 0, verify_repair },
	{ 0, "repair: counts", SMALL, counts_too_high, repair, 0, verify_repair },
	{ 0,
	  "rebuild, version 3",
	  { 3, 512, 16, 200 << 10 },
	  block_lost,
	  repair,
	  0,
	  verify_repair },
};

struct run {
	const struct scenario *s;
	bool mutated;
};

static void run(void *ctx)
{
	const struct run *r = ctx;
	const struct scenario *s = r->s;
	uint64_t seed = test_seed();
	crash_begin(&seed, &s->o);
	kit_must_open(&crash.kit, false);
	if (s->prepare)
		s->prepare();
	CHECK_EQ(wh_block_close(crash.kit.block), 0);
	crash.kit.block = 0;
	crash_record(r->mutated ? s->barrier : 0);
	early = r->mutated && s->early;
	crash.extra = s->extra;
	acted = 0;
	s->act();
	if (!acted)
		acted = crash_ticks();
	crash_close();
	crash_every(&seed, s->verify);
	crash_end();
}

static const struct scenario *only(size_t i)
{
	const char *name = getenv("WHERRY_CRASH_BARRIER");
	return !name || wh_streq(name, scenarios[i].name) ? &scenarios[i] : 0;
}

static void all_crash_states_are_good(void)
{
	for (size_t i = 0; i < WH_ARRAY_COUNT(scenarios); i++) {
		struct run r = { only(i), false };
		unsigned long before = crash.tried;
		if (!r.s)
			continue;
		printf("%s", r.s->name);
		fflush(stdout);
		run(&r);
		printf(": %lu states\n", crash.tried - before);
	}
}

static void each_barrier_is_missed(void)
{
	unsigned missed = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(scenarios); i++) {
		struct run r = { only(i), true };
		if (r.s && (r.s->barrier || r.s->early) && !crash_noticed(run, &r)) {
			printf("nobody misses barrier %s\n", r.s->name);
			missed++;
		}
	}
	CHECK_EQ(missed, 0);
}

/* A barrier without a piece of work that needs it would not have been noticed above. */
static void no_barrier_is_forgotten(void)
{
	for (unsigned b = 1; b < QCOW2_BARRIER_COUNT; b++) {
		bool found = false;
		for (size_t i = 0; i < WH_ARRAY_COUNT(scenarios); i++)
			found |= scenarios[i].barrier == b;
		if (!found)
			test_fail(__FILE__, __LINE__, "barrier %u has no test", b);
	}
}

int main(void)
{
	RUN(all_crash_states_are_good);
	RUN(each_barrier_is_missed);
	RUN(no_barrier_is_forgotten);
	return test_end();
}
