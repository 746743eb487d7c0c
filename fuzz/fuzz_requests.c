/* SPDX-License-Identifier: ISC */
/*
 * The input is a sequence of requests to an image in memory, and in which order the file answers; compared with a model of the
 * disk. The first byte says what kind of image. Then four bytes each: what, where, how much, a choice.
 * The image is checked at the end, and opened once more.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

#include "../src/portable/block/test/kit.h"

#define SECTORS 400u /* of the disk; a resize may double it */
#define SLOTS 12u
#define PART 40u /* sectors of one request */
#define SNAPSHOTS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct kit_options kinds[] = {
	{ 3, 512, 16, SECTORS * 512 },
	{ 3, 4096, 16, SECTORS * 512 },
	{ 2, 4096, 16, SECTORS * 512 },
	{ 3, 512, 64, SECTORS * 512, 1 },
	{ 3, 1024, 1, SECTORS * 512 },
	{ 3, 4096, 16, SECTORS * 512, .backing = KIT_RAW_BACKING },
	{ 2, 1024, 16, SECTORS * 512, .backing = KIT_RAW_BACKING },
	{ 3, 4096, 8, SECTORS * 512, .backing = KIT_QCOW2_BACKING, .lazy = true },
	{ 3, 16384, 16, SECTORS * 512, .extended = true },
	{ 3, 16384, 16, SECTORS * 512, .extended = true, .backing = KIT_RAW_BACKING },
	{ 3, 4096, 16, SECTORS * 512, .data = true },
	{ 3, 65536, 16, SECTORS * 512, .data = true, .data_raw = true },
	{ 3, 16384, 16, SECTORS * 512, .data = true, .extended = true },
	{ 3, 2048, 2, SECTORS * 512, .zstd = true },
};

struct slot {
	struct wh_block_request q;
	struct wh_iov iov;
	uint8_t data[PART * 512];
	uint32_t at, count, wanted[PART];
	bool maybe[PART], busy;
};

struct snapshot {
	uint32_t sectors, value[2 * SECTORS];
	bool there;
};

static struct kit kit;
static struct slot slots[SLOTS];
static struct snapshot snapshots[SNAPSHOTS];
static uint32_t now[2 * SECTORS], sectors, next_value;
static bool maybe[2 * SECTORS]; /* discarded: that, or zeroes */
static uint8_t below[SECTORS * 512], buffer[2 * SECTORS * 512];

static void same(const uint8_t *p, uint32_t value, bool or_zero)
{
	uint32_t v = wh_load_le32(p);
	wh_assert(v == value || (or_zero && !v));
	for (uint32_t i = 4; i < 512; i += 4)
		wh_assert(wh_load_le32(p + i) == v);
}

static void done(struct wh_block_request *q, int result)
{
	struct slot *s = q->ctx;
	wh_assert(result == 0);
	for (uint32_t i = 0; q->op == WH_BLOCK_READ && i < s->count; i++)
		same(s->data + i * 512, s->wanted[i], s->maybe[i]);
	s->busy = false;
}

static void expect(enum wh_block_op op, struct slot *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		uint32_t *v = &now[s->at + i];
		bool *m = &maybe[s->at + i];
		s->wanted[i] = *v;
		s->maybe[i] = *m;
		if (op == WH_BLOCK_WRITE) {
			*v = next_value++;
			*m = false;
			for (uint32_t k = 0; k < 512; k += 4)
				wh_store_le32(s->data + i * 512 + k, *v);
		} else if (op == WH_BLOCK_WRITE_ZEROES) {
			*v = 0;
			*m = false;
		} else if (op == WH_BLOCK_DISCARD) {
			*m = true;
		}
	}
}

static bool step(unsigned how)
{
	struct mem_file *files[] = { &kit.image, &kit.data, &kit.base, &kit.base2 };
	for (unsigned i = 0; i < 4; i++) {
		struct mem_file *m = files[(i + how) % 4];
		if (m->waiting_count) {
			mem_file_step(m, how / 4 % m->waiting_count);
			return true;
		}
	}
	return false;
}

static void settle(void)
{
	while (step(0))
		;
	for (unsigned i = 0; i < SLOTS; i++)
		wh_assert(!slots[i].busy);
}

static void request(enum wh_block_op op, uint32_t at, uint32_t count, uint32_t flags)
{
	struct slot *s = slots;
	if (op == WH_BLOCK_FLUSH)
		at = count = 0;
	while (s < slots + SLOTS && s->busy)
		s++;
	if (s == slots + SLOTS) {
		settle();
		s = slots;
	}
	s->at = at;
	s->count = count;
	s->busy = true;
	expect(op, s);
	s->iov = (struct wh_iov){ s->data, count * 512 };
	s->q = (struct wh_block_request){ .op = op,
					  .flags = flags,
					  .offset = at * 512,
					  .size = count * 512,
					  .iov = &s->iov,
					  .iov_count = 1,
					  .done = done,
					  .ctx = s };
	wh_block_submit(kit.block, &s->q);
}

/* What the disk is: discards are settled. */
static void compare(void)
{
	wh_assert(wh_block_size(kit.block) == sectors * 512ull);
	wh_assert(!wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, sectors * 512ull, 0));
	for (uint32_t i = 0; i < sectors; i++) {
		same(buffer + i * 512, now[i], maybe[i]);
		now[i] = wh_load_le32(buffer + i * 512);
		maybe[i] = false;
	}
}

static void snapshot(unsigned which, unsigned how)
{
	struct wh_block_snapshot about = { .name = { (char)('a' + which) } };
	struct snapshot *s = &snapshots[which];
	compare();
	if (!s->there) {
		int r = wh_block_snapshot_create(kit.block, &about, 0);
		wh_assert(r == 0 || r == -WH_EOVERFLOW || r == -WH_EOPNOTSUPP);
		s->there = r == 0;
		s->sectors = sectors;
		memcpy(s->value, now, sizeof now);
	} else if (how & 1) {
		wh_assert(!wh_block_snapshot_delete(kit.block, about.name, 0));
		s->there = false;
	} else {
		int r = wh_block_snapshot_apply(kit.block, about.name, 0);
		wh_assert(r == 0 || r == -WH_EOVERFLOW);
		if (r == 0) {
			memcpy(now, s->value, sizeof now);
			sectors = s->sectors;
		}
	}
	compare();
}

static void resize(uint32_t size)
{
	compare();
	int r = wh_block_resize(kit.block, size * 512ull, WH_BLOCK_SHRINK, 0);
	wh_assert(r == 0 || r == -WH_EOPNOTSUPP);
	if (r < 0)
		return;
	for (uint32_t i = sectors; i < size; i++)
		now[i] = 0;
	sectors = size;
}

static void compact(unsigned steps)
{
	struct wh_block_compaction *c;
	uint64_t d, t;
	wh_assert(!wh_block_compact_begin(kit.block, &c, 0));
	for (unsigned i = 0; i <= steps % 16; i++)
		wh_assert(wh_block_compact_step(c, 1u << (9 + steps / 16), &d, &t) >= 0);
	wh_block_compact_end(c);
}

static void reopen(void)
{
	wh_assert(!wh_block_close(kit.block));
	kit_expect_clean(&kit, false);
	kit_must_open(&kit, false);
	compare();
}

static void one(const uint8_t *p)
{
	uint32_t at = (p[1] << 1 | p[3] >> 7) % sectors, count = 1 + p[2] % PART;
	uint32_t per = kit.o.cluster / 512;
	struct wh_block_extent e;
	if (p[0] >> 4 & 1) { /* whole clusters */
		at = at / per * per;
		count = per < PART ? (count + per - 1) / per * per : count;
		count = count > PART ? PART / per * per : count;
	}
	if (count > sectors - at)
		count = sectors - at;
	if (p[0] % 16 >= 11)
		settle();
	switch (p[0] % 16) {
	case 0:
		request(WH_BLOCK_FLUSH, 0, 0, 0);
		break;
	case 1:
		request(WH_BLOCK_READ, at, count, 0);
		break;
	case 2:
		request(WH_BLOCK_WRITE_ZEROES, at, count, p[3] & (WH_BLOCK_UNMAP | WH_BLOCK_FUA));
		break;
	case 3:
		request(WH_BLOCK_DISCARD, at, count, 0);
		break;
	case 4:
		if (per > PART || kit.o.data || at % per || count % per)
			break;
		request(WH_BLOCK_WRITE, at, count, WH_BLOCK_COMPRESS);
		break;
	case 5:
		wh_assert(!wh_block_map(kit.block, at * 512, count * 512, p[3] % 4, &e));
		wh_assert(e.size && e.size <= count * 512);
		break;
	case 6:
	case 7:
		for (unsigned i = 0; i <= p[2] % 16 && step(p[1]); i++)
			;
		break;
	case 11:
		reopen();
		break;
	case 12:
		snapshot(p[1] % SNAPSHOTS, p[2]);
		break;
	case 13:
		resize(1 + (p[1] << 2 | (p[2] & 3)) % (2 * SECTORS - 1));
		break;
	case 14:
		compact(p[1] % 160);
		break;
	case 15:
		compare();
		break;
	default:
		request(WH_BLOCK_WRITE, at, count, p[3] & WH_BLOCK_FUA);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	const struct kit_options *o = &kinds[data[0] % WH_ARRAY_COUNT(kinds)];
	next_value = 1;
	sectors = SECTORS;
	memset(slots, 0, sizeof slots);
	memset(snapshots, 0, sizeof snapshots);
	memset(maybe, 0, sizeof maybe);
	memset(now, 0, sizeof now);
	for (uint32_t i = 0; i < SECTORS; i++) {
		for (uint32_t k = 0; k < 512; k += 4)
			wh_store_le32(below + i * 512 + k, 0xb0000000 + i);
		if (o->backing)
			now[i] = 0xb0000000 + i;
	}
	kit_init(&kit, o, below);
	kit_must_open(&kit, false);
	kit.image.late = kit.data.late = kit.base.late = kit.base2.late = true;
	for (size_t i = 1; i + 4 <= size && i < 1200; i += 4)
		one(data + i);
	settle();
	reopen();
	wh_assert(!wh_block_close(kit.block));
	kit_fini(&kit);
	wh_assert(!test_alloc_live());
	return 0;
}
