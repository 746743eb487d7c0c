/* SPDX-License-Identifier: ISC */
/*
 * Power cuts. Random requests run on files that record each operation. From the record, states
 * are built as a crash may leave them: everything up to some flush, and of what came after it any
 * prefix, any subset, all but one, one alone; torn at sectors. In each state
 *
 *	- the library's check finds no corruption (leaks are allowed), nor does `qemu-img check` in a sample; an
 *	  image that is marked dirty may have wrong counts, which the next open repairs: and that repair is cut
 *	  short in the same ways
 *	- each sector holds what the last answered flush promised, or something that was written since
 *	- each snapshot that was finished is there with its content
 *	- the image goes on working, and its snapshots stay as they are
 *
 * And each barrier is left out in turn: then something of the above must fail.
 *
 * WHERRY_CRASH_SEQUENCES sets how many sequences (400 in a normal run), WHERRY_CRASH_QEMU how many states there are for
 * each that qemu-img looks at (300).
 */
#include <setjmp.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "../qcow2_priv.h"
#include "kit.h"

#define SECTORS 1200u /* of the largest disk */
#define HISTORY 60000u
#define REQUESTS 50u
#define STATES 12u
#define SNAPSHOTS 16u

static const struct kit_options geometries[] = {
	{ 3, 512, 16, 300 << 10 },
	{ 3, 4096, 16, 300 << 10 },
	{ 2, 4096, 16, 300 << 10 },
	{ 3, 512, 64, 200 << 10, 1 },
	{ 3, 512, 1, 200 << 10, 1 },
	{ 3, 1024, 8, 300 << 10, .lazy = true },
	{ 2, 512, 16, 300 << 10, 1 },
	{ 3, 65536, 16, 300 << 10 },
	{ 3, 512, 16, 200 << 10, .backing = KIT_RAW_BACKING },
	{ 3, 4096, 16, (200 << 10) + 512, .backing = KIT_QCOW2_BACKING },
	{ 2, 1024, 16, 200 << 10, .backing = KIT_RAW_BACKING },
	{ 3, 16384, 16, 300 << 10, .extended = true },
	{ 3, 16384, 4, 300 << 10, .extended = true, .backing = KIT_RAW_BACKING },
	{ 3, 4096, 16, 300 << 10, .data = true },
	{ 3, 16384, 16, 300 << 10, .data = true, .extended = true },
	{ 3, 4096, 16, 300 << 10, .data = true, .backing = KIT_RAW_BACKING },
	{ 3, 65536, 16, 300 << 10, .data = true, .data_raw = true },
	{ 3, 4096, 16, 300 << 10, .preallocation = WH_BLOCK_PREALLOCATION_METADATA },
	{ 3, 2048, 2, 300 << 10, .zstd = true },
};

/* Sector `sector` may hold `value` from the moment `begun` operations were recorded. */
struct event {
	uint32_t sector, value;
	size_t begun;
};

/* Something that was answered when `ops` operations were recorded: all history before `events` is durable. */
struct promise {
	size_t ops;
	uint32_t events;
};

struct life {
	char name[12];
	size_t begun, made, ending, gone; /* operations; SIZE_MAX = not yet */
	uint32_t sectors, *value;
};

/* Maintenance under way: what is in between may need a repair in version 2. */
struct window {
	size_t begun, ended;
	uint32_t old_sectors, sectors;
};

static struct kit kit, state;
static struct mem_file before[2];
static struct event history[HISTORY];
static struct promise promises[4 * REQUESTS];
static struct life lives[SNAPSHOTS];
static struct window windows[REQUESTS];
static uint32_t history_count, promise_count, life_count, window_count;
static uint32_t now[2 * SECTORS], next_value, sectors;
static uint8_t buffer[2 * SECTORS * 512], below[2 * SECTORS * 512];
static unsigned long states_done, dirty_done;
static bool have_qemu;
static unsigned long qemu_every = 300;

static void fill_sector(uint8_t *p, uint32_t value)
{
	for (uint32_t i = 0; i < 512; i += 4)
		wh_store_le32(p + i, value);
}

/* All of a sector is of one write, or it is torn (which no disk does to a sector). */
static uint32_t sector_value(const uint8_t *p)
{
	uint32_t value = wh_load_le32(p);
	for (uint32_t i = 4; i < 512; i += 4)
		CHECK_EQ(wh_load_le32(p + i), value);
	return value;
}

static size_t ops(void)
{
	return kit.image.op_count;
}

static void happened(uint32_t sector, uint32_t value, size_t begun)
{
	CHECK(history_count < HISTORY);
	history[history_count++] = (struct event){ sector, value, begun };
	now[sector] = value;
}

static void promise(uint32_t events)
{
	CHECK(promise_count < WH_ARRAY_COUNT(promises));
	promises[promise_count++] = (struct promise){ ops(), events };
}

/* ---- requests ---- */

static void do_write(uint64_t r, uint32_t at, uint32_t n, size_t begun)
{
	uint32_t flags = r >> 41 & 7 ? 0 : WH_BLOCK_FUA, events = history_count;
	uint32_t per = kit.o.cluster / 512;
	if (r >> 44 & 1 && !kit.o.data) {
		at = at / per * per;
		n = (n + per - 1) / per * per;
		if (n > sectors - at)
			n = sectors - at;
		flags |= WH_BLOCK_COMPRESS;
	}
	for (uint32_t i = 0; i < n; i++)
		fill_sector(buffer + i * 512, next_value + i);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE, at * 512, buffer, n * 512, flags), 0);
	for (uint32_t i = 0; i < n; i++)
		happened(at + i, next_value + i, begun);
	if (flags & WH_BLOCK_FUA)
		promise(events + n);
	next_value += n;
}

static void do_discard(uint32_t at, uint32_t n, size_t begun)
{
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_DISCARD, at * 512, 0, n * 512, 0), 0);
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, at * 512, buffer, n * 512, 0), 0);
	for (uint32_t i = 0; i < n; i++)
		if (sector_value(buffer + i * 512) != now[at + i])
			happened(at + i, sector_value(buffer + i * 512), begun);
}

static void do_snapshot(uint64_t r)
{
	struct wh_block_snapshot about = { 0 };
	struct life *l = life_count ? &lives[(r >> 20) % life_count] : 0;
	struct wh_diag diag = { "" };
	size_t begun = ops();
	int e;
	if (r % 3 == 0 && life_count < SNAPSHOTS) {
		l = &lives[life_count];
		snprintf(about.name, sizeof about.name, "s%u", life_count);
		e = wh_block_snapshot_create(kit.block, &about, &diag);
		if (e == -WH_EOVERFLOW || e == -WH_EOPNOTSUPP)
			return;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "create: %s", diag.text);
		*l = (struct life){
			.begun = begun, .made = ops(), .ending = SIZE_MAX, .gone = SIZE_MAX
		};
		memcpy(l->name, about.name, sizeof l->name);
		l->sectors = sectors;
		l->value = malloc(sectors * sizeof *l->value);
		memcpy(l->value, now, sectors * sizeof *l->value);
		life_count++;
	} else if (!l || l->ending != SIZE_MAX) {
		return;
	} else if (r % 3 == 1) {
		CHECK_EQ(wh_block_snapshot_delete(kit.block, l->name, 0), 0);
		l->ending = begun;
		l->gone = ops();
	} else {
		e = wh_block_snapshot_apply(kit.block, l->name, &diag);
		if (e == -WH_EOVERFLOW)
			return;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "apply: %s", diag.text);
		for (uint32_t i = 0; i < l->sectors; i++)
			if (l->value[i] != now[i])
				happened(i, l->value[i], begun);
		sectors = l->sectors;
	}
}

static void do_resize(uint64_t r)
{
	uint32_t base = (uint32_t)(kit.o.disk / 512), old = sectors;
	uint32_t size = base / 2 + (uint32_t)(r >> 20) % (base / 2 + 200);
	size_t begun = ops();
	int e = wh_block_resize(kit.block, size * 512ull, WH_BLOCK_SHRINK, 0);
	if (e == -WH_EOPNOTSUPP)
		return;
	CHECK_EQ(e, 0);
	for (uint32_t i = size; i < old; i++)
		happened(i, 0, begun); /* on the way down they may go first */
	for (uint32_t i = old; i < size; i++)
		happened(i, 0, begun);
	sectors = size;
}

static void do_compact(uint64_t r)
{
	struct wh_block_compaction *c;
	uint64_t done, total;
	CHECK_EQ(wh_block_compact_begin(kit.block, &c, 0), 0);
	for (uint64_t n = (r >> 20) % 12 + 1; n; n--)
		if (wh_block_compact_step(c, 1 << (9 + r % 10), &done, &total) <= 0)
			break;
	wh_block_compact_end(c);
}

static void maintain(uint64_t r)
{
	struct window *w = &windows[window_count];
	*w = (struct window){ .begun = ops(), .old_sectors = sectors };
	switch (r % 8) {
	case 0:
		do_resize(r >> 8);
		break;
	case 1:
	case 2:
	case 3:
		do_compact(r >> 8);
		break;
	default:
		do_snapshot(r >> 8);
	}
	w->ended = ops();
	w->sectors = sectors;
	if (w->begun == w->ended)
		return;
	window_count++;
	promise(history_count);
}

static void request(uint64_t *seed)
{
	uint64_t r = wh_random_next(seed);
	uint32_t at = (uint32_t)(r >> 8) % sectors,
		 n = 1 + (uint32_t)(r >> 40) % ((r >> 60) ? 12 : 80);
	size_t begun = ops();
	if (n > sectors - at)
		n = sectors - at;
	switch (r % 9) {
	case 0:
	case 1: {
		uint32_t events = history_count;
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
		promise(events);
		break;
	}
	case 2:
		CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_WRITE_ZEROES, at * 512, 0, n * 512,
				     r >> 32 & 1 ? WH_BLOCK_UNMAP : 0),
			 0);
		for (uint32_t i = 0; i < n; i++)
			happened(at + i, 0, begun);
		break;
	case 3:
		do_discard(at, n, begun);
		break;
	case 4:
		if (window_count < WH_ARRAY_COUNT(windows) - 1)
			maintain(wh_random_next(seed));
		break;
	default:
		do_write(wh_random_next(seed), at, n, begun);
	}
}

/* ---- one crash ---- */

static void check_content(size_t cut)
{
	static uint32_t floor_value[2 * SECTORS];
	static uint8_t good[2 * SECTORS];
	uint32_t promised = 0, size = (uint32_t)(wh_block_size(state.block) / 512);
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(floor_value); i++)
		floor_value[i] = i < kit.o.disk / 512 ? wh_load_le32(below + i * 512) : 0;
	for (uint32_t i = 0; i < promise_count && promises[i].ops <= cut; i++)
		promised = promises[i].events;
	for (uint32_t i = 0; i < promised; i++)
		floor_value[history[i].sector] = history[i].value;
	CHECK_EQ(wh_block_do(state.block, WH_BLOCK_READ, 0, buffer, size * 512ull, 0), 0);
	for (uint32_t s = 0; s < size; s++)
		good[s] = sector_value(buffer + s * 512) == floor_value[s];
	for (uint32_t i = promised; i < history_count && history[i].begun < cut; i++)
		if (history[i].sector < size)
			good[history[i].sector] |=
				wh_load_le32(buffer + history[i].sector * 512) == history[i].value;
	for (uint32_t s = 0; s < size; s++)
		if (!good[s])
			test_fail(__FILE__, __LINE__,
				  "%s: sector %u holds %u, the flush promised %u (%zu operations)",
				  kit_name(&kit.o), s, wh_load_le32(buffer + s * 512),
				  floor_value[s], cut);
}

static void check_size(size_t cut)
{
	uint32_t size = (uint32_t)(wh_block_size(state.block) / 512);
	uint32_t expected = (uint32_t)(kit.o.disk / 512);
	for (uint32_t i = 0; i < window_count && windows[i].begun < cut; i++) {
		if (windows[i].ended > cut && windows[i].sectors == size)
			return;
		if (windows[i].ended <= cut)
			expected = windows[i].sectors;
	}
	CHECK_EQ(size, expected);
}

static void check_snapshots(size_t cut)
{
	for (uint32_t i = 0; i < life_count; i++) {
		struct life *l = &lives[i];
		struct wh_block *b;
		struct wh_diag diag = { "" };
		bool must = l->made <= cut && l->ending >= cut;
		bool must_not = l->begun >= cut || l->gone <= cut;
		int e = kit_open(&state, true, 0, l->name, &diag);
		if (e == -WH_ENOENT && !must)
			continue;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "%s: snapshot %s: %s", kit_name(&kit.o),
				  l->name, diag.text);
		b = state.block;
		CHECK(!must_not);
		CHECK_EQ(wh_block_size(b), l->sectors * 512ull);
		CHECK_EQ(wh_block_do(b, WH_BLOCK_READ, 0, buffer, l->sectors * 512ull, 0), 0);
		for (uint32_t s = 0; s < l->sectors; s++)
			if (sector_value(buffer + s * 512) != l->value[s])
				test_fail(__FILE__, __LINE__,
					  "%s: snapshot %s, sector %u: %u for %u", kit_name(&kit.o),
					  l->name, s, wh_load_le32(buffer + s * 512), l->value[s]);
		CHECK_EQ(wh_block_close(b), 0);
	}
}

static bool in_window(size_t cut)
{
	for (uint32_t i = 0; i < window_count; i++)
		if (windows[i].begun < cut && windows[i].ended > cut)
			return true;
	return false;
}

static int shell(const char *command)
{
	int status = system(command);
	return status < 0 || status & 0xff ? -1 : status >> 8;
}

static void look_with_qemu(bool dirty)
{
	char folder[] = "/tmp/wherry-crash-XXXXXX", path[64], command[400];
	if (!mkdtemp(folder))
		return;
	static const char *const names[] = { "image", "data", "base", "base2" };
	struct mem_file *files[] = { &state.image, &state.data, &state.base, &state.base2 };
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		CHECK_EQ(mem_file_save(files[i], path), 0);
	}
	snprintf(command, sizeof command,
		 "cd %s && { %s qemu-img check -q -f qcow2 image; r=$?; rm -r %s; exit $r; } "
		 ">/dev/null 2>&1",
		 folder, dirty ? "qemu-img check -q -r all -f qcow2 image;" : "", folder);
	int r = shell(command);
	if (r != 0 && r != 3)
		test_fail(__FILE__, __LINE__, "%s: qemu-img check says %d", kit_name(&kit.o), r);
}

/* Checks by table; repairs version 2 in the middle of maintenance; is it dirty? */
static bool check_tables(size_t cut)
{
	struct wh_block_check c;
	struct wh_block_info info;
	struct wh_diag diag = { "" };
	bool old = kit.o.version == 2 && in_window(cut);
	if (kit_open(&state, !old, WH_BLOCK_OPEN_CHECK, 0, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: open for check: %s", kit_name(&kit.o),
			  diag.text);
	wh_block_info(state.block, &info);
	int e = wh_block_check(state.block, old ? WH_BLOCK_REPAIR_ALL : 0, 0, &c, &diag);
	if (e < 0)
		test_fail(__FILE__, __LINE__, "%s: check: %s", kit_name(&kit.o), diag.text);
	CHECK_EQ(wh_block_close(state.block), 0);
	if ((c.corruptions && !info.dirty && !old) || c.errors || info.corrupt)
		test_fail(__FILE__, __LINE__,
			  "%s: %llu corruptions after a crash at %zu of %zu: %s", kit_name(&kit.o),
			  (unsigned long long)c.corruptions, cut, ops(), c.first);
	return info.dirty;
}

static void go_on(size_t cut)
{
	uint64_t size = wh_block_size(state.block);
	for (uint32_t i = 0; i < size / 512; i++)
		fill_sector(buffer + i * 512, ~i);
	CHECK_EQ(wh_block_do(state.block, WH_BLOCK_WRITE, 0, buffer, size, 0), 0);
	CHECK_EQ(wh_block_close(state.block), 0);
	kit_expect_clean(&state, true);
	kit_must_open(&state, false);
	CHECK_EQ(wh_block_do(state.block, WH_BLOCK_READ, 0, buffer, size, 0), 0);
	for (uint32_t i = 0; i < size / 512; i++)
		CHECK_EQ(sector_value(buffer + i * 512), ~i);
	CHECK_EQ(wh_block_close(state.block), 0);
	check_snapshots(cut);
}

/* Part of what follows the last flush. */
enum keep { ALL, MOST, HALF, FEW, ALL_BUT_ONE, ONE, KEEPS };

/* Applies `log`'s first `cut` operations to `to` (image, data), with losses behind each file's last flush. */
static void build(const struct mem_file *log, const struct mem_file *image, size_t cut,
		  uint64_t *seed, struct mem_file *to[2])
{
	size_t flushed[2] = { 0, 0 };
	uint64_t how = wh_random_next(seed);
	enum keep keep = how % KEEPS;
	for (size_t i = 0; i < cut; i++)
		if (log->op[i].kind == WH_BLOCK_IO_FLUSH)
			flushed[log->op[i].of != image] = i + 1;
	size_t first = flushed[0] < flushed[1] ? flushed[0] : flushed[1];
	size_t chosen = cut > first ? first + (how >> 8) % (cut - first) : 0;
	for (size_t i = 0; i < cut; i++) {
		const struct mem_op *op = &log->op[i];
		uint64_t r = wh_random_next(seed), torn = UINT64_MAX;
		bool other = op->of != image, lost = false;
		if (i >= flushed[other]) {
			lost = keep == MOST   ? r % 8 == 0
			       : keep == HALF ? r % 2
					      : keep == FEW && r % 8;
			lost |= keep == ALL_BUT_ONE && i == chosen;
			lost |= keep == ONE && i != chosen;
			if (keep != ALL && r >> 32 & 1)
				torn = (r >> 40) % (op->size / 512 + 2);
		}
		if (!lost)
			mem_file_replay(to[other], op, torn);
	}
}

static void state_begin(void)
{
	memset(&state, 0, sizeof state);
	state.o = kit.o;
	state.resolver = kit.resolver;
	state.resolver.ctx = &state;
	mem_file_init(&state.image);
	mem_file_init(&state.data);
	mem_file_init(&state.base);
	mem_file_init(&state.base2);
	mem_file_copy(&state.base, &kit.base);
	mem_file_copy(&state.base2, &kit.base2);
}

/* The state is in `state`'s files: everything about it. */
static void verify(size_t cut, uint64_t *seed, int depth)
{
	struct mem_file start[2];
	bool dirty = check_tables(cut);
	states_done++;
	dirty_done += dirty;
	if (have_qemu && states_done % qemu_every == 0)
		look_with_qemu(dirty || (kit.o.version == 2 && in_window(cut)));
	for (int i = 0; i < 2; i++)
		mem_file_init(&start[i]);
	if (dirty && !depth) {
		mem_file_copy(&start[0], &state.image);
		mem_file_copy(&start[1], &state.data);
		mem_file_record(&state.image, &state.image);
		mem_file_record(&state.data, &state.image);
	}
	kit_must_open(&state, false);
	size_t repair_ops = state.image.op_count;
	state.image.log = state.data.log = 0;
	check_size(cut);
	check_content(cut);
	go_on(cut);
	if (dirty && !depth) { /* the power fails again, in the repair */
		struct kit outer = state;
		for (int k = 0; k < 3; k++) {
			state_begin();
			mem_file_copy(&state.image, &start[0]);
			mem_file_copy(&state.data, &start[1]);
			struct mem_file *to[2] = { &state.image, &state.data };
			/* Recorded under the address of the global, which `state` still is. */
			build(&outer.image, &state.image, wh_random_next(seed) % (repair_ops + 1),
			      seed, to);
			verify(cut, seed, 1);
			kit_fini(&state);
		}
		state = outer;
	}
	mem_file_fini(&start[0]);
	mem_file_fini(&start[1]);
}

static void crash(uint64_t *seed)
{
	size_t cut = wh_random_next(seed) % (ops() + 1);
	state_begin();
	mem_file_copy(&state.image, &before[0]);
	mem_file_copy(&state.data, &before[1]);
	struct mem_file *to[2] = { &state.image, &state.data };
	build(&kit.image, &kit.image, cut, seed, to);
	verify(cut, seed, 0);
	kit_fini(&state);
}

static void forget(void)
{
	for (uint32_t i = 0; i < life_count; i++)
		free(lives[i].value);
	history_count = promise_count = life_count = window_count = 0;
}

static void begin(uint64_t *seed, const struct kit_options *o)
{
	forget();
	next_value = 1;
	memset(below, 0, sizeof below);
	for (uint32_t i = 0; o->backing && i < o->disk / 512; i++)
		if (wh_random_next(seed) % 3)
			fill_sector(below + i * 512, 0xb0000000 + i);
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(now); i++)
		now[i] = wh_load_le32(below + i * 512);
	sectors = (uint32_t)(o->disk / 512);
	kit_init(&kit, o, below);
}

static void sequence(uint64_t seed, const struct kit_options *o, unsigned leave_out,
		     unsigned states)
{
	begin(&seed, o);
	mem_file_copy(&before[0], &kit.image);
	mem_file_copy(&before[1], &kit.data);
	kit_must_open(&kit, false);
	mem_file_record(&kit.image, &kit.image);
	mem_file_record(&kit.data, &kit.image);
	kit.image.leave_out = kit.data.leave_out = leave_out;
	for (uint32_t i = 0; i < REQUESTS && history_count < HISTORY - 8000; i++)
		request(&seed);
	CHECK_EQ(wh_block_close(kit.block), 0);
	promise(history_count);
	for (uint32_t i = 0; i < states; i++)
		crash(&seed);
	kit_fini(&kit);
	forget();
	CHECK_EQ(test_alloc_live(), 0);
}

static void power_cuts(void)
{
	const char *n = getenv("WHERRY_CRASH_SEQUENCES"), *q = getenv("WHERRY_CRASH_QEMU");
	unsigned long count = n ? strtoul(n, 0, 0) : 400;
	if (q)
		qemu_every = strtoul(q, 0, 0) + !strtoul(q, 0, 0);
	have_qemu = !system("qemu-img --version >/dev/null 2>&1");
	mem_file_init(&before[0]);
	mem_file_init(&before[1]);
	for (unsigned long i = 0; i < count; i++) {
		uint64_t seed = test_seed() + i;
		if (getenv("WHERRY_CRASH_VERBOSE"))
			fprintf(stderr, "%lu\n", i);
		sequence(seed, &geometries[i % WH_ARRAY_COUNT(geometries)], 0, STATES);
	}
	printf("%lu states, %lu of them dirty\n", states_done, dirty_done);
	mem_file_fini(&before[0]);
	mem_file_fini(&before[1]);
}

/* ---- the power of this test ---- */

/* Runs sequences without one barrier until something is found; in a process of its own, which may also end by an
 * assertion. */
static bool noticed(unsigned leave_out, unsigned long sequences)
{
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
			_exit(3);
		if (setjmp(test_jump))
			_exit(1);
		for (unsigned long i = 0; i < sequences; i++)
			sequence(test_seed() + 7000 + i,
				 &geometries[i % WH_ARRAY_COUNT(geometries)], leave_out,
				 3 * STATES);
		_exit(0);
	}
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 3));
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

/* Those whose loss a random sequence shows soon. README.md says of the others why they are there. */
static void barriers_are_missed(void)
{
	static const unsigned barriers[] = { QCOW2_BARRIER_LINKED, QCOW2_BARRIER_L2,
					     QCOW2_BARRIER_FINAL,  QCOW2_BARRIER_COMPACT_COPY,
					     QCOW2_BARRIER_DIRTY,  QCOW2_BARRIER_SIZE };
	const char *only = getenv("WHERRY_CRASH_BARRIER");
	have_qemu = false;
	if (only) {
		CHECK(noticed((unsigned)strtoul(only, 0, 0), 4000));
		return;
	}
	for (size_t i = 0; i < WH_ARRAY_COUNT(barriers); i++)
		if (!noticed(barriers[i], 1000))
			test_fail(__FILE__, __LINE__, "nobody misses barrier %u", barriers[i]);
}

int main(void)
{
	RUN(power_cuts);
	RUN(barriers_are_missed);
	return test_end();
}
