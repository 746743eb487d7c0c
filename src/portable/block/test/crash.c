/* SPDX-License-Identifier: ISC */
#include "crash.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

struct crash crash;

void crash_fill(uint8_t *p, uint32_t value)
{
	for (uint32_t i = 0; i < 512; i += 4)
		wh_store_le32(p + i, value);
}

uint32_t crash_value(const uint8_t *p)
{
	uint32_t value = wh_load_le32(p);
	for (uint32_t i = 4; i < 512; i += 4)
		CHECK_EQ(wh_load_le32(p + i), value);
	return value;
}

size_t crash_tick(void)
{
	return ++crash.kit.image.ticks;
}

/* ---- history ---- */

uint32_t crash_happened(uint32_t sector, uint32_t value, size_t begun, size_t answered)
{
	CHECK(crash.event_count < CRASH_EVENTS);
	crash.event[crash.event_count] = (struct crash_event){
		.sector = sector, .value = value, .begun = begun, .answered = answered
	};
	crash.now[sector] = value;
	return crash.event_count++;
}

void crash_promised(size_t asked)
{
	CHECK(crash.promise_count < CRASH_PROMISES);
	crash.promise[crash.promise_count++] = (struct crash_promise){ asked, crash_tick() };
}

static void forget(void)
{
	for (uint32_t i = 0; i < crash.life_count; i++)
		free(crash.life[i].value);
	crash.event_count = crash.promise_count = crash.life_count = crash.window_count = 0;
}

void crash_begin(uint64_t *seed, const struct kit_options *o)
{
	forget();
	if (!crash.event)
		crash.event = malloc(CRASH_EVENTS * sizeof *crash.event);
	CHECK(crash.event);
	crash.next_value = 1;
	crash.extra = 0;
	memset(crash.below, 0, sizeof crash.below);
	for (uint32_t i = 0; o->backing && i < o->disk / 512; i++)
		if (wh_random_next(seed) % 3)
			crash_fill(crash.below + i * 512, 0xb0000000 + i);
	for (uint32_t i = 0; i < CRASH_SECTORS; i++)
		crash.now[i] = wh_load_le32(crash.below + i * 512);
	crash.sectors = (uint32_t)(o->disk / 512);
	kit_init(&crash.kit, o, crash.below);
	mem_file_init(&crash.before[0]);
	mem_file_init(&crash.before[1]);
}

void crash_record(unsigned leave_out)
{
	struct kit *k = &crash.kit;
	mem_file_copy(&crash.before[0], &k->image);
	mem_file_copy(&crash.before[1], &k->data);
	for (uint32_t i = 0; i < crash.event_count; i++)
		crash.event[i].begun = crash.event[i].answered = 0;
	for (uint32_t i = 0; i < crash.life_count; i++)
		crash.life[i].begun = crash.life[i].made = 0;
	for (uint32_t i = 0; i < crash.window_count; i++)
		crash.window[i].begun = crash.window[i].ended = 0;
	crash.promise[0] = (struct crash_promise){ 0, 0 };
	crash.promise_count = 1;
	k->image.ticks = 0;
	mem_file_record(&k->image, &k->image);
	mem_file_record(&k->data, &k->image);
	k->image.leave_out = k->data.leave_out = leave_out;
	kit_must_open(k, false);
}

void crash_close(void)
{
	size_t asked = crash_tick();
	if (!crash.kit.block)
		return;
	CHECK_EQ(wh_block_close(crash.kit.block), 0);
	crash.kit.block = 0;
	crash_promised(asked);
}

void crash_end(void)
{
	kit_fini(&crash.kit);
	mem_file_fini(&crash.before[0]);
	mem_file_fini(&crash.before[1]);
	forget();
	CHECK_EQ(test_alloc_live(), 0);
}

/* ---- requests ---- */

void crash_write(uint32_t at, uint32_t n, uint32_t flags)
{
	size_t begun = crash_tick();
	uint32_t first = crash.event_count;
	for (uint32_t i = 0; i < n; i++)
		crash_fill(crash.buffer + i * 512, crash.next_value + i);
	CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_WRITE, at * 512, crash.buffer, n * 512,
			     flags),
		 0);
	size_t answered = crash_tick();
	for (uint32_t i = 0; i < n; i++)
		crash_happened(at + i, crash.next_value + i, begun, answered);
	for (uint32_t i = first; flags & WH_BLOCK_FUA && i < crash.event_count; i++)
		crash.event[i].durable = true;
	crash.next_value += n;
}

void crash_flush(void)
{
	size_t asked = crash_tick();
	CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
	crash_promised(asked);
}

void crash_zero(uint32_t at, uint32_t n, uint32_t flags)
{
	size_t begun = crash_tick();
	CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_WRITE_ZEROES, at * 512, 0, n * 512, flags),
		 0);
	size_t answered = crash_tick();
	for (uint32_t i = 0; i < n; i++)
		crash_happened(at + i, 0, begun, answered);
}

void crash_discard(uint32_t at, uint32_t n)
{
	size_t begun = crash_tick();
	CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_DISCARD, at * 512, 0, n * 512, 0), 0);
	size_t answered = crash_tick();
	CHECK_EQ(wh_block_do(crash.kit.block, WH_BLOCK_READ, at * 512, crash.buffer, n * 512, 0),
		 0);
	for (uint32_t i = 0; i < n; i++)
		if (crash_value(crash.buffer + i * 512) != crash.now[at + i])
			crash_happened(at + i, crash_value(crash.buffer + i * 512), begun,
				       answered);
}

struct crash_window *crash_maintain(void)
{
	CHECK(crash.window_count < CRASH_WINDOWS);
	struct crash_window *w = &crash.window[crash.window_count];
	*w = (struct crash_window){ .begun = crash_tick(), .ops = crash.kit.image.op_count };
	return w;
}

void crash_maintained(struct crash_window *w)
{
	w->ended = crash_ticks();
	w->sectors = crash.sectors;
	if (w->ops == crash.kit.image.op_count)
		return; /* it was refused */
	crash.window_count++;
	crash_promised(crash_ticks());
}

bool crash_in_window(size_t cut)
{
	for (uint32_t i = 0; i < crash.window_count; i++)
		if (crash.window[i].begun < cut && crash.window[i].ended > cut)
			return true;
	return false;
}

bool crash_snapshot(void)
{
	struct wh_block_snapshot about = { 0 };
	struct wh_diag diag = { "" };
	if (crash.life_count == CRASH_SNAPSHOTS)
		return false;
	struct crash_life *l = &crash.life[crash.life_count];
	size_t begun = crash_tick();
	wh_format(about.name, sizeof about.name, "s%u", crash.life_count);
	int e = wh_block_snapshot_create(crash.kit.block, &about, &diag);
	if (e == -WH_EOVERFLOW || e == -WH_EOPNOTSUPP)
		return false;
	if (e < 0)
		test_fail(__FILE__, __LINE__, "create: %s", diag.text);
	*l = (struct crash_life){
		.begun = begun, .made = crash_ticks(), .ending = CRASH_NEVER, .gone = CRASH_NEVER
	};
	memcpy(l->name, about.name, sizeof l->name);
	l->sectors = crash.sectors;
	l->value = malloc(l->sectors * sizeof *l->value);
	CHECK(l->value);
	memcpy(l->value, crash.now, l->sectors * sizeof *l->value);
	crash.life_count++;
	return true;
}

void crash_snapshot_delete(struct crash_life *l)
{
	size_t begun = crash_tick();
	CHECK_EQ(wh_block_snapshot_delete(crash.kit.block, l->name, 0), 0);
	l->ending = begun;
	l->gone = crash_ticks();
}

bool crash_snapshot_apply(struct crash_life *l)
{
	struct wh_diag diag = { "" };
	size_t begun = crash_tick();
	int e = wh_block_snapshot_apply(crash.kit.block, l->name, &diag);
	if (e == -WH_EOVERFLOW)
		return false;
	if (e < 0)
		test_fail(__FILE__, __LINE__, "apply: %s", diag.text);
	for (uint32_t i = 0; i < l->sectors; i++)
		if (l->value[i] != crash.now[i])
			crash_happened(i, l->value[i], begun, crash_ticks());
	crash.sectors = l->sectors;
	return true;
}

void crash_resize(uint32_t size)
{
	uint32_t old = crash.sectors;
	size_t begun = crash_tick();
	int e = wh_block_resize(crash.kit.block, size * 512ull, WH_BLOCK_SHRINK, 0);
	if (e == -WH_EOPNOTSUPP)
		return;
	CHECK_EQ(e, 0);
	for (uint32_t i = size; i < old; i++)
		crash_happened(i, 0, begun, crash_ticks()); /* on the way down they may go first */
	for (uint32_t i = old; i < size; i++)
		crash_happened(i, 0, begun, crash_ticks());
	crash.sectors = size;
}

void crash_compact(unsigned steps, uint64_t bytes)
{
	struct wh_block_compaction *c;
	uint64_t done, total;
	int r = 1;
	CHECK_EQ(wh_block_compact_begin(crash.kit.block, &c, 0), 0);
	for (; steps && r > 0; steps--)
		r = wh_block_compact_step(c, bytes, &done, &total);
	wh_block_compact_end(c);
	CHECK(r >= 0);
}

/* ---- one crash ---- */

static void check_content(size_t cut)
{
	static uint32_t floor_value[CRASH_SECTORS], floor_event[CRASH_SECTORS];
	static bool good[CRASH_SECTORS];
	struct kit *state = &crash.state;
	uint32_t size = (uint32_t)(wh_block_size(state->block) / 512);
	size_t promised = 0;
	for (uint32_t i = 0; i < CRASH_SECTORS; i++) {
		floor_value[i] =
			i < crash.kit.o.disk / 512 ? wh_load_le32(crash.below + i * 512) : 0;
		floor_event[i] = 0;
	}
	for (uint32_t i = 0; i < crash.promise_count; i++)
		if (crash.promise[i].made <= cut && crash.promise[i].asked >= promised)
			promised = crash.promise[i].asked;
	for (uint32_t i = 0; i < crash.event_count; i++) {
		const struct crash_event *e = &crash.event[i];
		if (e->maybe || !(e->answered <= promised || (e->durable && e->answered <= cut)))
			continue;
		floor_value[e->sector] = e->value;
		floor_event[e->sector] = i;
	}
	CHECK_EQ(wh_block_do(state->block, WH_BLOCK_READ, 0, crash.buffer, size * 512ull, 0), 0);
	for (uint32_t s = 0; s < size; s++)
		good[s] = crash_value(crash.buffer + s * 512) == floor_value[s];
	for (uint32_t i = 0; i < crash.event_count; i++) {
		const struct crash_event *e = &crash.event[i];
		if (e->begun < cut && e->sector < size && i >= floor_event[e->sector])
			good[e->sector] |= wh_load_le32(crash.buffer + e->sector * 512) == e->value;
	}
	for (uint32_t s = 0; s < size; s++)
		if (!good[s])
			test_fail(__FILE__, __LINE__,
				  "%s: sector %u holds %u, the flush promised %u (tick %zu)",
				  kit_name(&crash.kit.o), s, wh_load_le32(crash.buffer + s * 512),
				  floor_value[s], cut);
}

static void check_size(size_t cut)
{
	uint32_t size = (uint32_t)(wh_block_size(crash.state.block) / 512);
	uint32_t expected = (uint32_t)(crash.kit.o.disk / 512);
	for (uint32_t i = 0; i < crash.window_count && crash.window[i].begun < cut + !cut; i++) {
		if (crash.window[i].ended > cut && crash.window[i].sectors == size)
			return;
		if (crash.window[i].ended <= cut)
			expected = crash.window[i].sectors;
	}
	CHECK_EQ(size, expected);
}

static void check_snapshots(size_t cut)
{
	struct kit *state = &crash.state;
	for (uint32_t i = 0; i < crash.life_count; i++) {
		struct crash_life *l = &crash.life[i];
		struct wh_diag diag = { "" };
		bool must = l->made <= cut && l->ending >= cut;
		bool must_not = (l->begun && l->begun >= cut) || l->gone <= cut;
		int e = kit_open(state, true, 0, l->name, &diag);
		if (e == -WH_ENOENT && !must)
			continue;
		if (e < 0)
			test_fail(__FILE__, __LINE__, "%s: snapshot %s: %s", kit_name(&crash.kit.o),
				  l->name, diag.text);
		CHECK(!must_not);
		CHECK_EQ(wh_block_size(state->block), l->sectors * 512ull);
		CHECK_EQ(wh_block_do(state->block, WH_BLOCK_READ, 0, crash.buffer,
				     l->sectors * 512ull, 0),
			 0);
		for (uint32_t s = 0; s < l->sectors; s++)
			if (crash_value(crash.buffer + s * 512) != l->value[s])
				test_fail(__FILE__, __LINE__,
					  "%s: snapshot %s, sector %u: %u for %u",
					  kit_name(&crash.kit.o), l->name, s,
					  wh_load_le32(crash.buffer + s * 512), l->value[s]);
		CHECK_EQ(wh_block_close(state->block), 0);
	}
}

static void look_with_qemu(bool dirty)
{
	char folder[] = "/tmp/wherry-crash-XXXXXX", path[64], command[400];
	if (!mkdtemp(folder))
		return;
	static const char *const names[] = { "image", "data", "base", "base2" };
	struct mem_file *files[] = { &crash.state.image, &crash.state.data, &crash.state.base,
				     &crash.state.base2 };
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		CHECK_EQ(mem_file_save(files[i], path), 0);
	}
	snprintf(command, sizeof command,
		 "cd %s && { %s qemu-img check -q -f qcow2 image; r=$?; rm -r %s; exit $r; } "
		 ">/dev/null 2>&1",
		 folder, dirty ? "qemu-img check -q -r all -f qcow2 image;" : "", folder);
	int status = system(command);
	int r = status < 0 || status & 0xff ? -1 : status >> 8;
	if (r != 0 && r != 3)
		test_fail(__FILE__, __LINE__, "%s: qemu-img check says %d", kit_name(&crash.kit.o),
			  r);
}

/* Checks by table; repairs version 2 in the middle of maintenance; is it dirty? */
static bool check_tables(size_t cut)
{
	struct kit *state = &crash.state;
	struct wh_block_check c;
	struct wh_block_info info;
	struct wh_diag diag = { "" };
	const char *name = kit_name(&crash.kit.o);
	bool old = crash.kit.o.version == 2 && crash_in_window(cut);
	if (kit_open(state, !old, WH_BLOCK_OPEN_CHECK, 0, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s: open for check: %s", name, diag.text);
	wh_block_info(state->block, &info);
	int e = wh_block_check(state->block, old ? WH_BLOCK_REPAIR_ALL : 0, 0, &c, &diag);
	if (e < 0)
		test_fail(__FILE__, __LINE__, "%s: check: %s", name, diag.text);
	CHECK_EQ(wh_block_close(state->block), 0);
	if ((c.corruptions && !info.dirty && !old) || c.errors || info.corrupt)
		test_fail(__FILE__, __LINE__,
			  "%s: %llu corruptions after a crash at %zu of %zu: %s", name,
			  (unsigned long long)c.corruptions, cut, crash_ticks(), c.first);
	return info.dirty;
}

static void go_on(size_t cut)
{
	struct kit *state = &crash.state;
	uint64_t size = wh_block_size(state->block);
	for (uint32_t i = 0; i < size / 512; i++)
		crash_fill(crash.buffer + i * 512, ~i);
	CHECK_EQ(wh_block_do(state->block, WH_BLOCK_WRITE, 0, crash.buffer, size, 0), 0);
	CHECK_EQ(wh_block_close(state->block), 0);
	kit_expect_clean(state, true);
	kit_must_open(state, false);
	CHECK_EQ(wh_block_do(state->block, WH_BLOCK_READ, 0, crash.buffer, size, 0), 0);
	for (uint32_t i = 0; i < size / 512; i++)
		CHECK_EQ(crash_value(crash.buffer + i * 512), ~i);
	CHECK_EQ(wh_block_close(state->block), 0);
	check_snapshots(cut);
}

static void state_begin(const struct mem_file *image, const struct mem_file *data)
{
	struct kit *state = &crash.state;
	memset(state, 0, sizeof *state);
	state->o = crash.kit.o;
	state->resolver = crash.kit.resolver;
	state->resolver.ctx = state;
	mem_file_init(&state->image);
	mem_file_init(&state->data);
	mem_file_init(&state->base);
	mem_file_init(&state->base2);
	mem_file_copy(&state->base, &crash.kit.base);
	mem_file_copy(&state->base2, &crash.kit.base2);
	mem_file_copy(&state->image, image);
	mem_file_copy(&state->data, data);
}

/* ---- states ---- */

/* How many of the record's operations were begun by `cut`; lost[i] = it may be missing. */
static size_t optional(const struct mem_file *log, size_t cut, bool *may_miss)
{
	size_t flushed[2] = { 0, 0 }, n = 0;
	for (size_t i = 0; i < log->op_count; i++) {
		const struct mem_op *op = &log->op[i];
		if (op->kind == WH_BLOCK_IO_FLUSH && op->ended <= cut &&
		    op->begun > flushed[op->of != log])
			flushed[op->of != log] = op->begun;
	}
	for (size_t i = 0; i < log->op_count; i++) {
		const struct mem_op *op = &log->op[i];
		may_miss[i] = op->begun <= cut && op->kind != WH_BLOCK_IO_FLUSH &&
			      op->ended >= flushed[op->of != log];
		n += may_miss[i];
	}
	return n;
}

/* sectors[i]: of operation i; 0 = lost, UINT64_MAX = whole. */
static void replay(const struct mem_file *log, size_t cut, const bool *may_miss,
		   const uint64_t *sectors)
{
	struct mem_file *to[2] = { &crash.state.image, &crash.state.data };
	for (size_t i = 0; i < log->op_count; i++) {
		const struct mem_op *op = &log->op[i];
		if (op->begun > cut || op->kind == WH_BLOCK_IO_FLUSH)
			continue;
		uint64_t n = may_miss[i] ? sectors[i] : UINT64_MAX;
		if (n)
			mem_file_replay(to[op->of != log], op, n);
	}
}

enum keep { ALL, MOST, HALF, FEW, ALL_BUT_ONE, ONE, KEEPS };

/* What is kept of what may be lost, by chance. */
static void choose(const struct mem_file *log, const bool *may_miss, size_t count, uint64_t *seed,
		   uint64_t *sectors)
{
	uint64_t how = wh_random_next(seed);
	enum keep keep = how % KEEPS;
	size_t chosen = count ? (how >> 8) % count : 0;
	for (size_t i = 0, k = 0; i < log->op_count; i++) {
		const struct mem_op *op = &log->op[i];
		uint64_t r = wh_random_next(seed);
		if (!may_miss[i])
			continue;
		bool lost = keep == MOST ? r % 8 == 0 : keep == HALF ? r % 2 : keep == FEW && r % 8;
		lost |= keep == ALL_BUT_ONE && k == chosen;
		lost |= keep == ONE && k != chosen;
		k++;
		sectors[i] = lost ? 0 : UINT64_MAX;
		if (!lost && keep != ALL && r >> 32 & 1)
			sectors[i] = (r >> 40) % (op->size / 512 + 2);
	}
}

static void any_state(const struct mem_file *log, size_t cut, uint64_t *seed)
{
	bool *may_miss = malloc(log->op_count + 1);
	uint64_t *sectors = calloc(log->op_count + 1, sizeof *sectors);
	CHECK(may_miss && sectors);
	size_t n = optional(log, cut, may_miss);
	choose(log, may_miss, n, seed, sectors);
	replay(log, cut, may_miss, sectors);
	free(may_miss);
	free(sectors);
}

/* depth: of power cuts in the repair of an earlier state. */
static void verify(size_t cut, uint64_t *seed, int depth)
{
	struct kit *state = &crash.state;
	struct mem_file start[2];
	bool dirty;
	if (crash.extra && !depth)
		crash.extra(cut);
	dirty = check_tables(cut);
	crash.states++;
	crash.dirty += dirty;
	if (crash.qemu_every && crash.states % crash.qemu_every == 0)
		look_with_qemu(dirty || (crash.kit.o.version == 2 && crash_in_window(cut)));
	for (int i = 0; i < 2; i++)
		mem_file_init(&start[i]);
	if (dirty && !depth) {
		mem_file_copy(&start[0], &state->image);
		mem_file_copy(&start[1], &state->data);
		mem_file_record(&state->image, &state->image);
		mem_file_record(&state->data, &state->image);
	}
	kit_must_open(state, false);
	size_t repair_ticks = state->image.ticks;
	state->image.log = state->data.log = 0;
	check_size(cut);
	check_content(cut);
	go_on(cut);
	if (dirty && !depth) { /* the power fails again, in the repair */
		struct kit outer = *state;
		for (int k = 0; k < 3; k++) {
			state_begin(&start[0], &start[1]);
			/* Recorded under the address of the global, which `state` still is. */
			struct mem_file log = outer.image;
			for (size_t i = 0; i < log.op_count; i++)
				log.op[i].of = log.op[i].of == &state->image ? &log : 0;
			any_state(&log, wh_random_next(seed) % (repair_ticks + 1), seed);
			for (size_t i = 0; i < log.op_count; i++)
				log.op[i].of = log.op[i].of ? &state->image : &state->data;
			verify(cut, seed, 1);
			kit_fini(state);
		}
		*state = outer;
	}
	mem_file_fini(&start[0]);
	mem_file_fini(&start[1]);
}

void crash_verify(size_t cut, uint64_t *seed)
{
	verify(cut, seed, 0);
}

void crash_random(uint64_t *seed, size_t cut)
{
	state_begin(&crash.before[0], &crash.before[1]);
	any_state(&crash.kit.image, cut, seed);
	verify(cut, seed, 0);
	kit_fini(&crash.state);
}

/* ---- all of them ---- */

#define EXHAUSTIVE_MAX 6u /* operations of which every subset is tried */

/* The which-th state at one cut; false = there are no more. */
static bool nth(const struct mem_file *log, const bool *may_miss, size_t n, size_t which,
		uint64_t *seed, uint64_t *sectors)
{
	size_t subsets = n <= EXHAUSTIVE_MAX ? 1u << n : n + 1;
	for (size_t i = 0, k = 0; i < log->op_count; i++) {
		bool lost;
		if (!may_miss[i])
			continue;
		if (n <= EXHAUSTIVE_MAX)
			lost = which >> k & 1;
		else if (which < n) /* one lost */
			lost = k == which;
		else /* the last alone; prefixes are those of earlier cuts */
			lost = k + 1 != n;
		sectors[i] = lost ? 0 : UINT64_MAX;
		k++;
	}
	if (which < subsets)
		return true;
	choose(log, may_miss, n, seed, sectors);
	return which < subsets + (n ? 12 : 0);
}

void crash_every(uint64_t *seed, void (*judge)(size_t, uint64_t *))
{
	const struct mem_file *log = &crash.kit.image;
	bool *may_miss = malloc(log->op_count + 1);
	uint64_t *sectors = calloc(log->op_count + 1, sizeof *sectors);
	CHECK(may_miss && sectors);
	for (size_t cut = 0; cut <= log->ticks; cut++) {
		size_t n = optional(log, cut, may_miss);
		for (size_t which = 0; nth(log, may_miss, n, which, seed, sectors); which++) {
			state_begin(&crash.before[0], &crash.before[1]);
			replay(log, cut, may_miss, sectors);
			crash.tried++;
			(judge ? judge : crash_verify)(cut, seed);
			kit_fini(&crash.state);
		}
	}
	free(may_miss);
	free(sectors);
}

bool crash_noticed(void (*fn)(void *), void *ctx)
{
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		if (!getenv("WHERRY_CRASH_VERBOSE") &&
		    (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)))
			_exit(3);
		if (setjmp(test_jump))
			_exit(1);
		fn(ctx);
		_exit(0);
	}
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 3));
	return !WIFEXITED(status) || WEXITSTATUS(status);
}
