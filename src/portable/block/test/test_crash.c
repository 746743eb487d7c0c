/* SPDX-License-Identifier: ISC */
/*
 * Power cuts in random sequences of requests and maintenance, one after the other. In each state
 *
 *	- the library's check finds no corruption (leaks are allowed), nor does `qemu-img check` in a sample; an
 *	  image that is marked dirty may have wrong counts, which the next open repairs: and that repair is cut
 *	  short in the same ways
 *	- each sector holds what the last answered flush promised, or something that was written since
 *	- each snapshot that was finished is there with its content
 *	- the image goes on working, and its snapshots stay as they are
 *
 * test_barriers.c shows that these find what is to be found; test_schedule.c has several requests in flight.
 *
 * WHERRY_CRASH_SEQUENCES sets how many sequences (400 in a normal run), WHERRY_CRASH_QEMU how many states there are for
 * each that qemu-img looks at (300).
 */
#include <stdio.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "crash.h"

#define REQUESTS 50u
#define STATES 12u

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

static void do_write(uint64_t r, uint32_t at, uint32_t n)
{
	uint32_t flags = r >> 41 & 7 ? 0 : WH_BLOCK_FUA;
	uint32_t per = crash.kit.o.cluster / 512;
	if (r >> 44 & 1 && !crash.kit.o.data) {
		at = at / per * per;
		n = (n + per - 1) / per * per;
		if (n > crash.sectors - at)
			n = crash.sectors - at;
		flags |= WH_BLOCK_COMPRESS;
	}
	crash_write(at, n, flags);
}

static void do_snapshot(uint64_t r)
{
	struct crash_life *l = crash.life_count ? &crash.life[(r >> 20) % crash.life_count] : 0;
	if (r % 3 == 0 && crash.life_count < CRASH_SNAPSHOTS)
		(void)crash_snapshot(); /* some kinds have none, or not many */
	else if (!l || l->ending != CRASH_NEVER)
		return;
	else if (r % 3 == 1)
		crash_snapshot_delete(l);
	else
		(void)crash_snapshot_apply(l); /* the same */
}

static void do_resize(uint64_t r)
{
	uint32_t base = (uint32_t)(crash.kit.o.disk / 512);
	crash_resize(base / 2 + (uint32_t)(r >> 20) % (base / 2 + 200));
}

static void maintain(uint64_t r)
{
	struct crash_window *w = crash_maintain();
	switch (r % 8) {
	case 0:
		do_resize(r >> 8);
		break;
	case 1:
	case 2:
	case 3:
		crash_compact((unsigned)(r >> 28) % 12 + 1, 1 << (9 + (r >> 8) % 10));
		break;
	default:
		do_snapshot(r >> 8);
	}
	crash_maintained(w);
}

static void request(uint64_t *seed)
{
	uint64_t r = wh_random_next(seed);
	uint32_t at = (uint32_t)(r >> 8) % crash.sectors,
		 n = 1 + (uint32_t)(r >> 40) % ((r >> 60) ? 12 : 80);
	if (n > crash.sectors - at)
		n = crash.sectors - at;
	switch (r % 9) {
	case 0:
	case 1:
		crash_flush();
		break;
	case 2:
		crash_zero(at, n, r >> 32 & 1 ? WH_BLOCK_UNMAP : 0);
		break;
	case 3:
		crash_discard(at, n);
		break;
	case 4:
		maintain(wh_random_next(seed));
		break;
	default:
		do_write(wh_random_next(seed), at, n);
	}
}

static void sequence(uint64_t seed, const struct kit_options *o, unsigned states)
{
	crash_begin(&seed, o);
	crash_record(0);
	for (uint32_t i = 0; i < REQUESTS && crash.event_count < CRASH_EVENTS - 8000; i++)
		request(&seed);
	crash_close();
	for (uint32_t i = 0; i < states; i++)
		crash_random(&seed, wh_random_next(&seed) % (crash_ticks() + 1));
	crash_end();
}

static void power_cuts(void)
{
	const char *n = getenv("WHERRY_CRASH_SEQUENCES"), *q = getenv("WHERRY_CRASH_QEMU");
	unsigned long count = n ? strtoul(n, 0, 0) : 400;
	crash.qemu_every = q ? strtoul(q, 0, 0) : 300;
	if (system("qemu-img --version >/dev/null 2>&1"))
		crash.qemu_every = 0;
	for (unsigned long i = 0; i < count; i++) {
		uint64_t seed = test_seed() + i;
		if (getenv("WHERRY_CRASH_VERBOSE"))
			fprintf(stderr, "%lu\n", i);
		sequence(seed, &geometries[i % WH_ARRAY_COUNT(geometries)], STATES);
	}
	printf("%lu states, %lu of them dirty\n", crash.states, crash.dirty);
}

int main(void)
{
	RUN(power_cuts);
	return test_end();
}
