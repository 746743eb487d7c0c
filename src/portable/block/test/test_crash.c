/* SPDX-License-Identifier: ISC */
/*
 * Power cuts. Random requests run on a file that records each operation. From the record, states
 * of the file are built as a crash may leave them: everything up to some flush, and of what came
 * after it any subset, torn at sectors. In each state the image must have no error (leaks are
 * allowed), each sector must hold what the last answered flush promised or something that was
 * written since, and the image must go on working.
 *
 * WHERRY_CRASH_SEQUENCES sets how many sequences; 300 in a normal run.
 */
#include <stdlib.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "mem_file.h"

#define SECTORS 600u
#define HISTORY 4000u
#define REQUESTS 60u
#define STATES 12u

static const struct geometry {
	uint32_t version, cluster, refcount_bits, cache;
} geometries[] = { { 3, 512, 16, 0 }, { 3, 4096, 16, 0 }, { 2, 4096, 16, 0 }, { 3, 512, 64, 1 },
		   { 3, 512, 1, 1 },  { 3, 1024, 8, 0 },  { 2, 512, 16, 1 },  { 3, 65536, 16, 0 } };

/* Sector `sector` may hold `value` from the moment `begun` operations were recorded. */
struct event {
	uint32_t sector, value;
	size_t begun;
};

/* A flush that was answered when `ops` operations were recorded, and how long history was when it was
 * submitted. */
struct promise {
	size_t ops;
	uint32_t events;
};

static struct mem_file before, file, state_file;
static struct wh_block *block;
static struct event history[HISTORY];
static struct promise promises[REQUESTS + 2];
static uint32_t history_count, promise_count, now[SECTORS], next_value;
static uint8_t buffer[SECTORS * 512];

static int open_image(struct mem_file *m, uint32_t cache)
{
	struct wh_block_config c = { .size = sizeof c,
				     .file = m->file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .alloc = &test_allocator,
				     .cache_size = cache };
	struct wh_diag diag = { "" };
	int r = wh_block_open(&c, &block, &diag);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "open: %s", diag.text);
	return r;
}

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

static void happened(uint32_t sector, uint32_t value, size_t begun)
{
	CHECK(history_count < HISTORY);
	history[history_count++] = (struct event){ sector, value, begun };
	now[sector] = value;
}

static void request(uint64_t *state)
{
	uint64_t r = wh_random_next(state);
	uint32_t at = (uint32_t)(r >> 8) % SECTORS,
		 n = 1 + (uint32_t)(r >> 40) % ((r >> 60) ? 12 : 80);
	size_t begun = file.op_count;
	if (n > SECTORS - at)
		n = SECTORS - at;
	switch (r % 8) {
	case 0:
	case 1: {
		uint32_t events = history_count;
		CHECK_EQ(wh_block_do(block, WH_BLOCK_FLUSH, 0, 0, 0, 0), 0);
		promises[promise_count++] = (struct promise){ file.op_count, events };
		break;
	}
	case 2:
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE_ZEROES, at * 512, 0, n * 512,
				     r >> 32 & 1 ? WH_BLOCK_UNMAP : 0),
			 0);
		for (uint32_t i = 0; i < n; i++)
			happened(at + i, 0, begun);
		break;
	case 3:
		CHECK_EQ(wh_block_do(block, WH_BLOCK_DISCARD, at * 512, 0, n * 512, 0), 0);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, at * 512, buffer, n * 512, 0), 0);
		for (uint32_t i = 0; i < n; i++)
			if (sector_value(buffer + i * 512) != now[at + i])
				happened(at + i, sector_value(buffer + i * 512), begun);
		break;
	default:
		for (uint32_t i = 0; i < n; i++)
			fill_sector(buffer + i * 512, next_value + i);
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, at * 512, buffer, n * 512, 0), 0);
		for (uint32_t i = 0; i < n; i++)
			happened(at + i, next_value + i, begun);
		next_value += n;
	}
}

/* ---- one crash ---- */

static void check_content(size_t cut)
{
	static uint32_t floor_value[SECTORS];
	uint32_t promised = 0;
	memset(floor_value, 0, sizeof floor_value);
	for (uint32_t i = 0; i < promise_count && promises[i].ops <= cut; i++)
		promised = promises[i].events;
	for (uint32_t i = 0; i < promised; i++)
		floor_value[history[i].sector] = history[i].value;
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 0, buffer, SECTORS * 512, 0), 0);
	for (uint32_t s = 0; s < SECTORS; s++) {
		uint32_t value = sector_value(buffer + s * 512);
		bool good = value == floor_value[s];
		for (uint32_t i = promised; i < history_count && history[i].begun < cut && !good;
		     i++)
			good = history[i].sector == s && history[i].value == value;
		if (!good)
			test_fail(__FILE__, __LINE__,
				  "sector %u holds %u, the flush promised %u (%zu operations)", s,
				  value, floor_value[s], cut);
	}
}

static void crash(uint64_t *state, const struct geometry *g)
{
	size_t cut = wh_random_next(state) % (file.op_count + 1), flushed = 0;
	uint64_t keep = wh_random_next(state) % 4; /* all, most, half, few of the last ones */
	struct image_check check;
	mem_file_init(&state_file);
	mem_file_copy(&state_file, &before);
	for (size_t i = 0; i < cut; i++)
		if (file.op[i].kind == WH_BLOCK_IO_FLUSH)
			flushed = i + 1;
	for (size_t i = 0; i < cut; i++) {
		uint64_t r = wh_random_next(state), sectors = UINT64_MAX;
		if (i >= flushed && keep && (keep == 1 ? r % 8 == 0 : keep == 2 ? r % 2 : r % 8))
			continue;
		if (i >= flushed && keep && r >> 32 & 1)
			sectors = (r >> 40) % 9;
		mem_file_replay(&state_file, &file.op[i], sectors);
	}
	image_check(&state_file, &check);
	if (check.errors)
		test_fail(__FILE__, __LINE__, "%u errors after a crash at %zu of %zu: %s",
			  check.errors, cut, file.op_count, check.first);
	open_image(&state_file, g->cache);
	check_content(cut);
	/* And it goes on. */
	for (uint32_t i = 0; i < SECTORS; i++)
		fill_sector(buffer + i * 512, ~i);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, 0, buffer, SECTORS * 512, 0), 0);
	CHECK_EQ(wh_block_close(block), 0);
	image_check(&state_file, &check);
	CHECK_EQ(check.errors, 0);
	open_image(&state_file, g->cache);
	memset(buffer, 0, sizeof buffer);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 0, buffer, SECTORS * 512, 0), 0);
	for (uint32_t i = 0; i < SECTORS; i++)
		CHECK_EQ(sector_value(buffer + i * 512), ~i);
	CHECK_EQ(wh_block_close(block), 0);
	mem_file_fini(&state_file);
}

static void sequence(uint64_t seed, const struct geometry *g)
{
	uint64_t state = seed;
	struct wh_block_qcow2_config c = { .size = sizeof c,
					   .disk_size = SECTORS * 512,
					   .version = g->version,
					   .cluster_size = g->cluster,
					   .refcount_bits = g->refcount_bits };
	history_count = promise_count = 0;
	next_value = 1;
	memset(now, 0, sizeof now);
	mem_file_init(&file);
	mem_file_init(&before);
	CHECK_EQ(wh_block_qcow2_create(&file.file, &c, &test_allocator, 0), 0);
	/* Some start with an image that is in use already. */
	if (seed % 3 == 0) {
		open_image(&file, 0);
		for (int i = 0; i < 20; i++)
			request(&state);
		CHECK_EQ(wh_block_close(block), 0);
		CHECK_EQ(wh_block_close(0), 0);
		uint32_t old[SECTORS];
		memcpy(old, now, sizeof old);
		history_count = promise_count = 0;
		for (uint32_t s = 0; s < SECTORS; s++)
			if (old[s])
				happened(s, old[s], 0);
		promises[promise_count++] = (struct promise){ 0, history_count };
	}
	mem_file_copy(&before, &file);
	mem_file_record(&file);
	open_image(&file, g->cache);
	for (uint32_t i = 0; i < REQUESTS && history_count < HISTORY - 1000; i++)
		request(&state);
	CHECK_EQ(wh_block_close(block), 0);
	for (uint32_t i = 0; i < STATES; i++)
		crash(&state, g);
	mem_file_fini(&file);
	mem_file_fini(&before);
	CHECK_EQ(test_alloc_live(), 0);
}

static void power_cuts(void)
{
	const char *n = getenv("WHERRY_CRASH_SEQUENCES");
	unsigned long count = n ? strtoul(n, 0, 0) : 300;
	for (unsigned long i = 0; i < count; i++)
		sequence(test_seed() + i, &geometries[i % WH_ARRAY_COUNT(geometries)]);
}

int main(void)
{
	RUN(power_cuts);
	return test_end();
}
